from fd_keras.android_bench.page_style import FAMILIES, STYLE, color_dot, family_index


def test_all_families_have_a_light_and_a_dark_color():
    indices = {family_index({"arch": arch}) for arch in FAMILIES} | {family_index({"arch": "other"}), family_index({})}
    assert indices == set(range(len(FAMILIES) + 1))
    for index in indices:
        assert STYLE.count(f"--f{index}:") == 2
        assert f"var(--f{index})" in color_dot(index)


def test_each_kind_of_op_has_its_own_color():
    assert "var(--o3)" in color_dot(3, "o")
