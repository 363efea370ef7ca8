"""Programs with absl flags: help, flag validation, and a common way to exit.

A program's module defines its flags, `main`, and `PROGRAM = Program(main)`. Its imports must not load TensorFlow or
Keras, so that `--help` is instant; `main` imports the rest.
"""

import contextlib
import dataclasses
import logging as std_logging
import math
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NoReturn

from absl import flags, logging

from fd_keras import cli, startup
from fd_keras.errors import ProgramError, Stopped, UsageError, run_and_exit

__all__ = ["Program", "ProgramError", "Stopped", "UsageError", "define_positive", "flag_group"]

_HELP = ("-h", "-help", "--help", "--helpshort")
_INDENT, _COLUMN = 2, 30  # columns of the flags and their descriptions
_GROUPS: dict[str, str] = {}  # title of a flag's group in the help, by flag

flags.disclaim_key_flags()  # flags defined by functions of this module belong to the calling program


@contextlib.contextmanager
def flag_group(title: str) -> Iterator[None]:
    """Lists the flags that are defined in the block under their own title in the help."""
    before = set(flags.FLAGS)
    yield
    _GROUPS.update(dict.fromkeys(set(flags.FLAGS) - before, title))


@dataclasses.dataclass(frozen=True)
class Program:
    """A program with absl flags.

    Attributes:
        main: Function that runs the program. Takes the positional arguments; returns the exit status (None is 0).
        positional: Positional arguments as shown in the help, such as "PHOTO..."; "" if the program takes none.
        values: Function that returns the values of unset flags that depend on other flags, such as a recipe's.
    """

    main: Callable[[list[str]], int | None]
    positional: str = ""
    values: Callable[[], Mapping[str, Any]] = dict

    def run(self, arguments: Sequence[str] | None = None, name: str | None = None) -> NoReturn:
        """Runs the program and exits: 0 done, 1 failed, 2 wrong usage, 128 + n stopped by signal n.

        Args:
            arguments: Command-line arguments; by default those of this process.
            name: The program's name as the user typed it; default `python -m MODULE`.
        """
        arguments = list(sys.argv[1:] if arguments is None else arguments)
        name = name or cli.program_name(sys.modules["__main__"].__spec__)
        if any(argument in _HELP for argument in arguments):
            run_and_exit(lambda: print(self.help(name, arguments), flush=True), name)
        startup.hide_tensorflow_notes()
        logging.use_absl_handler()
        logging.get_absl_handler().setFormatter(cli.LogFormatter())
        logging.get_absl_handler().addFilter(_should_print)
        run_and_exit(lambda: self._work(arguments), name)

    def _work(self, arguments: Sequence[str]) -> int | None:
        try:
            return self.main(self._parse(arguments))
        except ModuleNotFoundError as error:
            raise cli.missing_package(error, self.main.__module__) from error

    def _parse(self, arguments: Sequence[str]) -> list[str]:
        """Sets the flags and returns the positional arguments. Raises UsageError for invalid ones."""
        try:
            rest = flags.FLAGS([sys.argv[0], *arguments])[1:]
        except flags.UnrecognizedFlagError as error:
            near = cli.nearest(f"--{error.flagname}", [f"--{name}" for name in self._own()])
            raise UsageError(f"unknown flag --{error.flagname}{near}") from error
        except flags.Error as error:
            raise UsageError(_explained(str(error))) from error
        if rest and not self.positional:
            raise UsageError(f"unexpected argument {rest[0]!r}; this program takes only flags")
        for flag in self._own().values():
            _check_value(flag)
        return rest

    def _own(self) -> dict[str, flags.Flag]:
        """The program's flags by name, in order of definition."""
        module = self.main.__module__
        module = sys.argv[0] if module == "__main__" else module  # as absl names it
        return {flag.name: flag for flag in flags.FLAGS.get_key_flags_for_module(module)}

    def help(self, name: str, arguments: Sequence[str] = ()) -> str:
        """The help text: summary, usage, examples, and the flags by group.

        Args:
            name: The program's name as the user typed it.
            arguments: Command-line arguments; flags among them change the values that are shown.
        """
        with contextlib.suppress(flags.Error):  # such as a missing required flag, which --help does not need
            flags.FLAGS([sys.argv[0], *(argument for argument in arguments if argument not in _HELP)], known_only=True)
        summary, _, body = (sys.modules[self.main.__module__].__doc__ or "").strip().partition("\n")
        usage = " ".join(filter(None, ("usage:", name, "[FLAGS]", self.positional)))
        values, groups = self.values(), {}
        for flag in self._own().values():
            groups.setdefault(_GROUPS.get(flag.name, "Flags"), []).append(_described(flag, values))
        parts = [summary, usage, body.strip("\n"), *(f"{title}:\n" + "\n".join(groups[title]) for title in groups)]
        return "\n\n".join(filter(None, parts))


def _should_print(record: std_logging.LogRecord) -> bool:
    """Whether to print a record. TensorFlow's hint about retracing is wrong here: each network is traced only once."""
    return "triggered tf.function retracing" not in record.getMessage()


def define_positive(name: str, default: float | None, text: str, high: float = math.inf) -> flags.FlagHolder:
    """Defines a flag for a number above 0 and below `high`."""
    limits = "above 0" if high == math.inf else f"between 0 and {high:g}"
    flag = flags.DEFINE_float(name, default, text)
    flags.register_validator(name, lambda value: value is None or 0 < value < high, f"must be {limits}")
    return flag


def _check_value(flag: flags.Flag) -> None:
    """Raises UsageError for a value that is invalid for every flag."""
    cli.check_value(flag.name, "" if flag.present and flag.value == [] else flag.value)


def _described(flag: flags.Flag, values: Mapping[str, Any]) -> str:
    """A flag with its value and help text, wrapped to the terminal's width."""
    value = flag.value if flag.value is not None else values.get(flag.name)
    term = f"--[no]{flag.name}" if flag.boolean else f"--{flag.name}"
    if value is not None:
        term += f"={_shown(value)}"
    width = min(shutil.get_terminal_size().columns, 120)
    required = any("other than None" in validator.message for validator in flag.validators)
    text = f"{flag.help} (required)" if required else str(flag.help)
    lines = textwrap.wrap(text, max(width - _COLUMN, 30)) or [""]
    first = f"{' ' * _INDENT}{term}"
    if len(first) > _COLUMN - 2:
        return "\n".join([first, *(" " * _COLUMN + line for line in lines)])
    return "\n".join([f"{first:{_COLUMN}}{lines[0]}", *(" " * _COLUMN + line for line in lines[1:])])


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ",".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


_PARSE_ERRORS = {  # of Python, in absl's messages
    "could not convert string to float": "must be a number",
    "invalid literal for int()": "must be a whole number",
}


def _explained(message: str) -> str:
    """Absl's message about a flag, without Python's jargon; for a missing required flag, its help text instead."""
    for jargon, words in _PARSE_ERRORS.items():
        if jargon in message:
            return message[: message.index(jargon)] + words
    name = message.removeprefix("flag --").partition("=")[0]
    if "must have a value other than None" in message and name in flags.FLAGS:
        return f"--{name} is required: {flags.FLAGS[name].help}"
    return message
