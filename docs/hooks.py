"""Hooks of the documentation site: the command reference from the programs' own flags, and the repository's pages."""

import pathlib
import re
import subprocess
import sys
from typing import Any

from fd_keras import cli

ROOT = pathlib.Path(__file__).parents[1]
COMMANDS = "{{ commands }}"
REPOSITORY_PAGES = {
    "contributing.md": "CONTRIBUTING.md",
    "architecture.md": "ARCHITECTURE.md",
    "changelog.md": "CHANGELOG.md",
}


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Fills the command reference, and the pages that are files at the top of the repository."""
    source = REPOSITORY_PAGES.get(page.file.src_uri)
    if source:
        return _linked((ROOT / source).read_text("utf-8"))
    return markdown.replace(COMMANDS, commands()) if COMMANDS in markdown else markdown


def _linked(text: str) -> str:
    """Links between the repository's files, as links between the site's pages."""
    return re.sub(r"\]\(([A-Z]+)\.md\)", lambda match: f"]({match[1].lower()}.md)", text)


def commands() -> str:
    """A section for each command: what it needs, and its flags, as --help prints them."""
    return "\n\n".join(_section(words, command) for words, command in cli.every_command().items())


def _section(words: str, command: cli.Command) -> str:
    call = [sys.executable, "-m", "fd_keras.cli", *words.split(), "--help"]
    text = subprocess.run(call, check=True, capture_output=True, text=True).stdout
    install = f'Install with `pip install ".[{command.extra}]"`.\n\n' if command.extra else ""
    return f"## {cli.NAME} {words}\n\n{install}```text\n{text.rstrip()}\n```"
