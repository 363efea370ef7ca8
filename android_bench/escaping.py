"""Escapes names from files and devices for terminals, Markdown and spreadsheets."""

import html
import re

_ACTIVE = re.compile(r"([\\`*\[\]~#]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9]))")
_LINK = re.compile(r"(?i)\b(https?|ftp)://|\bwww\.")
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")  # https://owasp.org/www-community/attacks/CSV_Injection


def printable(text: str) -> str:
    """Escapes control characters, so that text stays on one line and cannot control a terminal."""
    return "".join(letter if letter.isprintable() else _escape(letter) for letter in text)


def markdown(text: str) -> str:
    """Escapes text for Markdown, so that it contains no markup, HTML, links or table separators."""
    text = _ACTIVE.sub(r"\\\1", html.escape(printable(text), quote=False))
    return _LINK.sub(lambda match: match[0].replace(":", "\\:").replace(".", "\\."), text).replace("|", "\\|")


def spreadsheet(value: object) -> object:
    """Escapes text that a spreadsheet would treat as a formula; numbers stay numbers."""
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value


def _escape(letter: str) -> str:
    return letter.encode("unicode_escape").decode("ascii")
