from fd_keras.android_bench.count_summary import kernels, millions, summarize_counts, table4


def test_ratios_are_within_a_core(make_count_row, make_row):
    rows = [
        make_count_row("b", instructions=300),
        make_count_row("a", instructions=200),
        make_count_row("b", instructions=100, device="cortex-a76"),
        make_row("a", [1]),
    ]
    summary = summarize_counts(rows, "a_float32")
    assert [(line["device"], line["model"], line["ratio"]) for line in summary] == [
        ("cortex-a53", "a", 1.0),
        ("cortex-a53", "b", 1.5),
        ("cortex-a76", "b", None),
    ]


def test_counts_that_did_not_settle_are_doubtful(make_count_row):
    (line,) = summarize_counts([make_count_row("a", flags=["the count of loads did not settle"])])
    assert line["doubtful"]
    assert line["flags"] == ["the count of loads did not settle"]


def test_kernels_are_named_by_what_only_they_execute(make_count_row):
    cases = {(0, 0): "NEON", (5, 0): "dot product", (5, 5): "i8mm"}
    for (dot, matmul), name in cases.items():
        assert kernels(make_count_row("a", dot=dot, matmul=matmul).details.counts) == name


def test_table4_is_of_the_papers_networks_at_its_size(make_count_row):
    def row(arch, alpha, recipe, size=(224, 224), **counts):
        facts = {"arch": arch, "alpha": alpha, "size": list(size)}
        return make_count_row(f"{arch}_{alpha}_{size[0]}", recipe, facts=facts, **counts)

    rows = [
        row("fd_mobilenet", 0.25, "float32", instructions=10_000_000, l2_misses=1_500_000),
        row("mobilenet", 0.125, "float32", instructions=12_000_000),
        row("fd_mobilenet", 0.25, "int8", instructions=8_000_000),
        row("mobilenet", 0.125, "int8", size=(128, 128)),
    ]
    heads, cells = table4(summarize_counts(rows))
    assert heads[3:] == ["float32, M", "float32, ratio", "int8, M", "int8, ratio"]
    assert cells == [
        ["12", "FD-MobileNet 0.25x", "1.00", "10.0", "1.00", "8.00", "1.00"],
        ["12", "MobileNet 0.125x", "1.11", "12.0", "1.20", "–", "–"],
    ]
    assert table4(summarize_counts([make_count_row("other")]))[1] == []


def test_millions_keep_three_digits():
    assert [millions(count) for count in (0, 12_345, 1_234_567, 12_345_678, 123_456_789)] == [
        *("0.000", "0.012", "1.23", "12.3", "123"),
    ]
