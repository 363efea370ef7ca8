"""Starts a program with each flag and each invalid value, in forks of this process.

    python tests/walk_flags.py MODULE     prints a line of JSON for each start: flag, value, status, stdout, stderr

The values are invalid for all programs: empty, text in place of a number, not finite, or beyond 32 bits.
"""

import gc
import importlib
import json
import os
import sys
import tempfile
from types import ModuleType

NUMBERS = {
    "integer": ("", "1.5", "100000000000000000000"),
    "float": ("", "x", "nan", "inf"),
    "word": ("",),
}
REQUIRED = "wanted"  # the value of required flags


def absl_flags(module: ModuleType) -> tuple[dict[str, str], list[str]]:
    """The type of each flag, and the required arguments."""
    kinds = {"int": "integer", "float": "float"}
    found, needed = {}, []
    for flag in module.PROGRAM._own().values():
        if not flag.boolean:
            found[flag.name] = kinds.get(flag.flag_type(), "word")
        if any("other than None" in validator.message for validator in flag.validators):
            needed.append(f"--{flag.name}={REQUIRED}")
    return found, needed


def argparse_flags(module: ModuleType) -> tuple[dict[str, str], list[str]]:
    """The type of each flag, and the required arguments."""
    kinds = {int: "integer", float: "float"}
    actions = [action for action in module.parser()._actions if action.nargs != 0]
    options = {action.option_strings[-1].lstrip("-"): action for action in actions if action.option_strings}
    positional = [REQUIRED for action in actions if not action.option_strings]
    return {name: kinds.get(action.type, "word") for name, action in options.items()}, positional


def start(module: ModuleType, arguments: list[str]) -> tuple[int, str, str]:
    """Runs the program in a module; returns status, stdout and stderr."""
    from fd_keras import cli

    command = next(command for command in cli.every_command().values() if command.module == module.__name__)
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        child = os.fork()
        if not child:
            os.dup2(out.fileno(), 1)
            os.dup2(err.fileno(), 2)
            cli._run(command, "fd-keras program", arguments)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        return status, _text(out), _text(err)


def _text(file) -> str:
    file.seek(0)
    return file.read().decode(errors="replace")


def main(name: str) -> None:
    module = importlib.import_module(name)
    gc.freeze()  # otherwise the garbage collector of a fork copies all imported pages by writing to them
    found, needed = (absl_flags if hasattr(module, "PROGRAM") else argparse_flags)(module)
    for flag, kind in found.items():
        others = [argument for argument in needed if not argument.startswith(f"--{flag}=")]
        for value in NUMBERS[kind]:
            print(json.dumps([flag, value, *start(module, [*others, f"--{flag}={value}"])]), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
