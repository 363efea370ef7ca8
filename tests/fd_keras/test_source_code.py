import pytest

from fd_keras.source_code import AtTemplate, cpp_numbers, cpp_text, identifier, listed


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("fd_mobilenet_0.25_224_int8", "fd_mobilenet_0_25_224_int8"),
        ("Größe", "gr_e"),
        ("1", "model_1"),
        ("-", "model_"),
    ],
)
def test_names_become_identifiers(name, expected):
    assert identifier(name) == expected


@pytest.mark.parametrize(
    ("text", "literal"),
    [
        ("cat", '"cat"'),
        ('a "b"\\', r'"a \"b\"\\"'),
        ("what??/", r'"what\?\?/"'),
        ("K\u00f6nig\n1", '"K\u00f6nig\\0121"'),
        ("\udcff", r'"\377"'),
    ],
)
def test_texts_are_escaped_as_cpp_literals(text, literal):
    assert cpp_text(text) == literal


def test_numbers_are_written_20_per_line():
    lines = cpp_numbers(range(41)).splitlines()
    assert [len(line.split()) for line in lines] == [20, 20, 1]
    assert lines[-1] == "    40,"


def test_lines_of_items_have_a_maximum_length():
    items = [f'"{number:030}"' for number in range(5)]
    lines = listed(items).split("\n")
    assert ", ".join(line.strip().rstrip(",") for line in lines) == ", ".join(items)
    assert [line.count('"') for line in lines] == [4, 4, 2]


def test_placeholders_start_with_an_at_sign():
    assert AtTemplate("@{a}@b $c").substitute(a=1, b="2") == "12 $c"
