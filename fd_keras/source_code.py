"""Source code with gaps: templates, and names and texts as literals of C++."""

import re
import string
from collections.abc import Iterable, Sequence

_WIDTH = 88  # of a line of listed items


class AtTemplate(string.Template):
    """A template in which names begin with @, which few languages have."""

    delimiter = "@"


def identifier(name: str) -> str:
    """A file's name as one of C++."""
    name = re.sub(r"[^0-9a-zA-Z]+", "_", name).strip("_").lower()
    return name if name[:1].isalpha() else f"model_{name}"


def cpp_text(text: str) -> str:
    """A text as a literal of C++, in UTF-8."""
    return '"' + "".join(map(_cpp_character, text)) + '"'


def _cpp_character(character: str) -> str:
    if character in '"\\?':  # two question marks would begin a trigraph
        return f"\\{character}"
    if character.isprintable():
        return character
    return "".join(f"\\{byte:03o}" for byte in character.encode("utf-8", "surrogateescape"))


def listed(items: Sequence[str], indent: str = "    ") -> str:
    """Items with commas between them, as many on a line as fit."""
    lines = [items[0]]
    for item in items[1:]:
        if len(indent) + len(lines[-1]) + len(item) + 3 > _WIDTH:
            lines[-1] += ","
            lines.append(item)
        else:
            lines[-1] += f", {item}"
    return f"\n{indent}".join(lines)


def cpp_numbers(values: Iterable[int]) -> str:
    """The lines of an array of C++: 20 numbers each, with a comma behind every number."""
    numbers = [str(value) for value in values]
    rows = (numbers[start : start + 20] for start in range(0, len(numbers), 20))
    return "\n".join(f"    {', '.join(row)}," for row in rows)
