from fd_keras.android_bench import paper


def test_table_4_has_the_networks_of_table_2():
    from fd_keras import zoo

    ours = {
        (arch, alpha) for budget in paper.TABLE4 for arch, alpha in budget.alphas.items() if arch != "fd_shufflenet"
    }
    assert ours == {(row.arch, row.alpha) for row in zoo.PAPER_TABLE2}
    assert {name: zoo.get_arch(name).title for name in zoo.ARCHS} == paper.TITLES
