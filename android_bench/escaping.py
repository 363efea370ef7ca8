"""Names from files and devices in places where some characters act: terminals, Markdown, spreadsheets."""

import html
import re

_ACTIVE = re.compile(r"([\\`*\[\]~#]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9]))")
_LINK = re.compile(r"(?i)\b(https?|ftp)://|\bwww\.")
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")  # https://owasp.org/www-community/attacks/CSV_Injection


def printable(text: str) -> str:
    """Returns text on one line, its control characters escaped, so that it cannot move a terminal's cursor."""
    return "".join(letter if letter.isprintable() else _escape(letter) for letter in text)


def markdown(text: str) -> str:
    """Returns text that Markdown shows as it is: no markup, no HTML, no link, no end of a table's cell."""
    text = _ACTIVE.sub(r"\\\1", html.escape(printable(text), quote=False))
    return _LINK.sub(lambda match: match[0].replace(":", "\\:").replace(".", "\\."), text).replace("|", "\\|")


def spreadsheet(value: object) -> object:
    """Returns a value that no spreadsheet takes for a formula; numbers stay numbers."""
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value


def _escape(letter: str) -> str:
    return letter.encode("unicode_escape").decode("ascii")
