"""The last line of a program: the command for the next step, ready to paste."""

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
    """A `fd-keras` command, quoted for a shell.

    Args:
        name: Name of the command, such as "detect convert".
        arguments: Positional arguments.
        flags: Values by flag; True for a flag without a value, None to omit the flag, strings for a list.
    """
    given = [_flag(flag, value) for flag, value in flags.items() if value is not None]
    return " ".join([_program(), name, *(shlex.quote(word) for word in (*given, *arguments))])


def unused(path: str) -> str:
    """The path, or if it exists, the first of path_2, path_3, ... that does not."""
    candidate, number = path, 1
    while os.path.lexists(candidate):
        number += 1
        candidate = f"{path}_{number}"
    return candidate


def _program() -> str:
    """The words that start `fd-keras` in the user's shell; in a clone or an environment it may not be on the PATH."""
    return NAME if shutil.which(NAME) else f"{shlex.quote(sys.executable)} -m fd_keras.cli"


def _flag(name: str, value: Value) -> str:
    if value is True:
        return f"--{name}"
    return f"--{name}={value if isinstance(value, str) else _listed(value or ())}"


def _listed(values: Sequence[str]) -> str:
    """Comma-separated values, as absl reads lists: values that contain a comma are quoted."""
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow(values)
    return text.getvalue()
