"""Generates source code: templates, C++ identifiers, string literals and arrays."""

import re
import string
from collections.abc import Iterable, Sequence

_WIDTH = 88  # maximum characters in a line of listed items


class AtTemplate(string.Template):
    """A template whose placeholders start with @, which is rare in source code."""

    delimiter = "@"


def identifier(name: str) -> str:
    """Converts a file's name to a C++ identifier."""
    name = re.sub(r"[^0-9a-zA-Z]+", "_", name).strip("_").lower()
    return name if name[:1].isalpha() else f"model_{name}"


def cpp_text(text: str) -> str:
    """Converts a text to a C++ string literal, in UTF-8."""
    return '"' + "".join(map(_cpp_character, text)) + '"'


def _cpp_character(character: str) -> str:
    if character in '"\\?':  # two question marks would begin a trigraph
        return f"\\{character}"
    if character.isprintable():
        return character
    return "".join(f"\\{byte:03o}" for byte in character.encode("utf-8", "surrogateescape"))


def listed(items: Sequence[str], indent: str = "    ") -> str:
    """Joins items with commas, as many per line as fit."""
    lines = [items[0]]
    for item in items[1:]:
        if len(indent) + len(lines[-1]) + len(item) + 3 > _WIDTH:
            lines[-1] += ","
            lines.append(item)
        else:
            lines[-1] += f", {item}"
    return f"\n{indent}".join(lines)


def cpp_numbers(values: Iterable[int]) -> str:
    """Formats the lines of a C++ array: 20 numbers each, with a comma after each number."""
    numbers = [str(value) for value in values]
    rows = (numbers[start : start + 20] for start in range(0, len(numbers), 20))
    return "\n".join(f"    {', '.join(row)}," for row in rows)
