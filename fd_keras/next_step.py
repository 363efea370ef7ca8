"""The last line of a program: the command that goes on from there, to be pasted as it is."""

import csv
import io
import os
import shlex
import shutil
import sys
from collections.abc import Sequence

from fd_keras.cli import NAME

Value = str | bool | Sequence[str] | None


def next_line(name: str, *arguments: str, **flags: Value) -> str:
    """The closing line "next: fd-keras NAME ...", see `command`."""
    return f"next: {command(name, *arguments, **flags)}"


def command(name: str, *arguments: str, **flags: Value) -> str:
    """A command for a shell.

    Args:
        name: Words that call the program, such as "detect convert".
        arguments: Arguments that are not flags.
        flags: Values by flag; True for a flag without one, None to leave it out, several strings to be listed.
    """
    given = [_flag(flag, value) for flag, value in flags.items() if value is not None]
    return " ".join([_program(), name, *(shlex.quote(word) for word in (*given, *arguments))])


def unused(path: str) -> str:
    """The path, or if something is there, the first of path_2, path_3, ... where nothing is."""
    candidate, number = path, 1
    while os.path.lexists(candidate):
        number += 1
        candidate = f"{path}_{number}"
    return candidate


def _program() -> str:
    """What calls `fd-keras` from the user's shell; a clone's or an environment's need not be on its PATH."""
    return NAME if shutil.which(NAME) else f"{shlex.quote(sys.executable)} -m fd_keras.cli"


def _flag(name: str, value: Value) -> str:
    if value is True:
        return f"--{name}"
    return f"--{name}={value if isinstance(value, str) else _listed(value or ())}"


def _listed(values: Sequence[str]) -> str:
    """Values with commas between, as absl reads lists: those with a comma of their own in quotes."""
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow(values)
    return text.getvalue()
