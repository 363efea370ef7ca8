import pytest

from fd_keras.android_bench.escaping import markdown, printable, spreadsheet


def test_control_characters_do_not_reach_a_terminal():
    assert printable("a\x1b[2Jb\nc\x07") == "a\\x1b[2Jb\\nc\\x07"
    assert printable("Pixel 7 Pro µ") == "Pixel 7 Pro µ"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("fd_mobilenet_0.25_224", "fd_mobilenet_0.25_224"),
        ("<script>alert(1)</script>", "&lt;script&gt;alert(1)&lt;/script&gt;"),
        ("[a](http://b.c)", "\\[a\\](http\\://b.c)"),
        ("![a](https://b)", "!\\[a\\](https\\://b)"),
        ("www.evil.com", "www\\.evil.com"),
        ("*a* _b_ `c` ~~d~~", "\\*a\\* \\_b\\_ \\`c\\` \\~\\~d\\~\\~"),
        ("a|b", "a\\|b"),
        ("a\n# b", "a\\\\n\\# b"),
    ],
)
def test_names_are_escaped_in_markdown(text, shown):
    assert markdown(text) == shown


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1+cmd|' /C calc'!A0", "@SUM(A1)", "\t=1", "\r=1", "\n=1"])
def test_formulas_are_escaped_as_text_for_spreadsheets(text):
    assert spreadsheet(text) == f"'{text}"


def test_numbers_and_names_are_not_changed_for_spreadsheets():
    assert [spreadsheet(value) for value in (-1.5, 7, None, True, "a=b", "")] == [-1.5, 7, None, True, "a=b", ""]
