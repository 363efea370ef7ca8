"""The command `fd-keras`, whose subcommands are the programs of this project.

This module imports only the standard library, and each subcommand imports what it needs, so that the list of commands
appears instantly and `fd-keras bench` runs without TensorFlow.
"""

import dataclasses
import difflib
import importlib
import logging
import math
import os
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import TYPE_CHECKING, NoReturn

from fd_keras import startup
from fd_keras.errors import UsageError, fail, run_and_exit
from fd_keras.version import __version__

if TYPE_CHECKING:
    import argparse

NAME = "fd-keras"
MODEL_FILES = (".keras", ".tflite")
OPTIONAL = {"keras_cv": "keras-cv"}  # extras by package, for packages that a command needs only with certain flags
LARGEST = 2**31 - 1  # TensorFlow's integers have 32 bits; larger values would overflow in its operations


@dataclasses.dataclass(frozen=True)
class Command:
    """A subcommand.

    Attributes:
        module: Module of the program, with `PROGRAM`, a `program.Program`, or with argparse's `main` and `parser`.
        summary: One line for the list of commands.
        extra: Extra that the command needs, as in `pip install "fd-keras[EXTRA]"`; "" if it needs none.
    """

    module: str
    summary: str
    extra: str = ""


DETECT = {
    "check": Command("fd_keras.training.voc.check_dataset", "validate a data set: VOC, COCO or YOLO"),
    "train": Command("fd_keras.training.voc.train", "train a Faster R-CNN or RetinaNet, or resume a run", "train"),
    "evaluate": Command("fd_keras.training.voc.evaluate", "average precision of a run or of result files", "train"),
    "predict": Command("fd_keras.training.voc.detect", "draw the objects found in photos", "train"),
    "convert": Command("fd_keras.tflite.convert_detector", "write a detector as .tflite", "tflite,train"),
}

# In the order of the workflow: inspect, train, convert, measure.
COMMANDS: dict[str, Command | Mapping[str, Command]] = {
    "finetune": Command(
        "fd_keras.tflite.finetune", "train on a folder of photos and write files for devices", "tflite,train"
    ),
    "classify": Command("fd_keras.classify", "classify photos with a network, a .keras or a .tflite file"),
    "profile": Command("fd_keras.profiler", "count multiply-accumulates and parameters: tables 1 and 2 of the paper"),
    "prepare": Command("fd_keras.training.prepare", "write ImageNet as shards for fast training", "train"),
    "train": Command("fd_keras.training.train", "train or fine-tune a network, or resume a run", "train"),
    "evaluate": Command("fd_keras.training.evaluate", "top-1 and top-5 of a .keras or .tflite file", "train"),
    "table2": Command("fd_keras.training.table2", "compare table 2 of the paper with your runs", "train"),
    "detect": DETECT,
    "convert": Command("fd_keras.tflite.convert", "write .tflite files: float32, float16, int8", "tflite"),
    "verify": Command("fd_keras.tflite.verify", "compare .tflite files with the model they were made from", "tflite"),
    "qat": Command("fd_keras.tflite.qat.__main__", "quantization-aware training", "qat"),
    "memory": Command("fd_keras.tflite.memory.__main__", "compute RAM and flash on a microcontroller", "tflite"),
    "export-mcu": Command("fd_keras.tflite.mcu.__main__", "write a C++ project for a microcontroller", "tflite"),
    "page": Command("fd_keras.web.page", "write a camera page: models in a phone's browser, offline", "tflite"),
    "bench": Command("fd_keras.android_bench.run", "time .tflite files on phones, boards or this machine"),
    "report": Command("fd_keras.android_bench.report", "write the timings in a folder as HTML, Markdown and CSV"),
}


def every_command() -> dict[str, Command]:
    """All commands by name, such as "train" and "detect train"."""
    single = {word: command for word, command in COMMANDS.items() if isinstance(command, Command)}
    return single | {f"detect {word}": command for word, command in DETECT.items()}


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Runs the console command; `argv` does not include the program's name."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    name, table = NAME, COMMANDS
    while True:
        word, *arguments = arguments or ["--help"]
        if word in ("-h", "--help", "help"):
            _print(overview(name, table))
        if word == "--version":
            _print(f"{NAME} {__version__}")
        if word not in table:
            fail(f"{name} has no command {word!r}{nearest(word, table)} (see {name} --help)", 2)
        chosen, name = table[word], f"{name} {word}"
        if isinstance(chosen, Command):
            _run(chosen, name, [in_home(argument) for argument in arguments])
        table = chosen


def in_home(argument: str) -> str:
    """Replaces "~" in --flag=~/folder by the home folder; shells only do that at the start of a word."""
    flag, equals, value = argument.partition("=")
    return f"{flag}={os.path.expanduser(value)}" if equals and flag.startswith("--") else argument


def _print(text: str) -> NoReturn:
    run_and_exit(lambda: print(text, flush=True), NAME)


def overview(name: str, table: Mapping[str, Command | Mapping[str, Command]]) -> str:
    """Formats the list of commands, one per line."""
    lines = [f"usage: {name} COMMAND ...", ""]
    for word, command in table.items():
        text = command.summary if isinstance(command, Command) else f"detectors: {', '.join(command)}"
        lines.append(f"  {word:10} {text}")
    return "\n".join([*lines, "", f"{name} COMMAND --help explains a command."])


def _run(command: Command, name: str, arguments: list[str]) -> NoReturn:
    sys.argv = [name, *arguments]  # argparse shows it
    try:
        module = importlib.import_module(command.module)
    except ModuleNotFoundError as error:
        fail(str(missing_package(error, command.module)), 1)
    if hasattr(module, "PROGRAM"):
        module.PROGRAM.run(arguments, name)
    startup.hide_tensorflow_notes()
    _show_warnings()
    run_and_exit(lambda: _run_argparse(module, arguments), name)


def _run_argparse(module: ModuleType, arguments: list[str]) -> int | None:
    known = [option for action in module.parser()._actions for option in action.option_strings]
    for argument in arguments:
        flag = argument.partition("=")[0]
        if flag.startswith("--") and flag != "--" and flag not in known:
            raise UsageError(f"unknown flag {flag}{nearest(flag, known)}")
    return module.main(arguments)


# In argparse's message about a word that is not among the choices.
_CHOICE, _WORD = re.compile(r"invalid choice: '(.*)' \(choose from (.*)\)"), re.compile(r"[^\s',]+")


def parse_args(parser: "argparse.ArgumentParser", arguments: Sequence[str] | None) -> "argparse.Namespace":
    """Parses the arguments of a program with argparse; raises UsageError for invalid ones."""

    def refuse(message: str) -> NoReturn:
        choice = _CHOICE.search(message)
        raise UsageError(message + (nearest(choice[1], _WORD.findall(choice[2])) if choice else ""))

    parser.error = refuse  # which would print the usage
    args = parser.parse_intermixed_args(arguments)
    for name, value in vars(args).items():
        check_value(name, value)
    return args


def check_value(flag: str, value: object) -> None:
    """Raises UsageError for an empty value, and for a number that is not finite or exceeds 32 bits."""
    values = value if isinstance(value, list) else [value]
    if "" in values:
        raise UsageError(f"--{flag} is empty; give it a value or leave it out (is a shell variable unset?)")
    for number in values:
        if isinstance(number, float) and not math.isfinite(number):
            raise UsageError(f"--{flag}={number}: must be a finite number")
        if isinstance(number, int) and abs(number) > LARGEST:
            raise UsageError(f"--{flag}={number}: must be at most {LARGEST}")


def check_model(model: str, networks: Iterable[str]) -> None:
    """Raises UsageError if the value of --model is neither a model file, by its suffix, nor a network."""
    if model not in networks and not model.endswith(MODEL_FILES):
        files, names = " or ".join(MODEL_FILES), ", ".join(networks)
        raise UsageError(f"--model={model}: not a {files} file or a network ({names}){nearest(model, networks)}")


def missing_package(error: ModuleNotFoundError, module: str) -> ImportError:
    """The error to show for a missing package that a program's module needs; re-raises it for our own modules."""
    package = (error.name or NAME).partition(".")[0]
    if package == "fd_keras":
        raise error
    needed = next((command.extra for command in every_command().values() if command.module == module), "") or "all"
    extra = OPTIONAL.get(package, needed)
    return ImportError(f'{package} is not installed: pip install "{NAME}[{extra}]"')


def program_name(spec: ModuleSpec | None) -> str:
    """How the user started this process: `fd-keras COMMAND`, or `python -m MODULE`, from a module's `__spec__`."""
    if " " in sys.argv[0] or spec is None:
        return sys.argv[0]
    return f"python -m {spec.name.removesuffix('.__main__')}"


def summary(docstring: str | None) -> str:
    """The first line of a docstring."""
    return (docstring or "").strip().partition("\n")[0]


def run_module(main: Callable[[Sequence[str] | None], int | None]) -> NoReturn:
    """Runs a program with argparse that was started by `python -m`."""
    startup.hide_tensorflow_notes()
    _show_warnings()
    run_and_exit(lambda: main(None), program_name(sys.modules["__main__"].__spec__))


class LogFormatter(logging.Formatter):
    """Formats a record as "warning: message", like the errors."""

    def format(self, record: logging.LogRecord) -> str:
        """The line to print."""
        return f"{record.levelname.lower()}: {record.getMessage()}"


def _show_warnings() -> None:
    """Prints logged warnings in programs with argparse; absl does it in the others."""
    handler = logging.StreamHandler()
    handler.setFormatter(LogFormatter())
    logging.basicConfig(handlers=[handler])


def nearest(word: str, known: Iterable[str]) -> str:
    """Ends a message about an unknown word: "; did you mean ...?", or "" if no known word is similar."""
    near = difflib.get_close_matches(word, list(known), 1)
    return f"; did you mean {near[0]}?" if near else ""


if __name__ == "__main__":
    main()
