"""Command-line arguments, checked before anything is loaded or written."""

import argparse
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from .errors import BenchError
from .messages import log
from .plan import DELEGATES, parse_threads, split_list

_LISTS = ("models", "threads", "delegates", "core", "serial")
_WORDS = (*_LISTS, "output_dir", "benchmark_binary", "adb", "ssh", "baseline", "emulator", "baseline_file", "libraries")


class Parser(argparse.ArgumentParser):
    """A parser that reports an error on one line, without the usage text."""

    def error(self, message: str) -> NoReturn:
        """Reports an error and exits with status 2."""
        log("error", f"{message.removeprefix('argument ')} (--help lists all flags)")
        self.exit(2)


def check(args: argparse.Namespace) -> None:
    """Checks that argparse types cannot express.

    Raises:
        BenchError: If a flag has an invalid value.
    """
    for name in _WORDS:
        value = getattr(args, name)
        if value is not None and not value.strip():
            raise BenchError(f"--{name}= is empty; give a value or remove the flag")
    for name in _LISTS:
        _check_list(name, getattr(args, name))
    _check_words(args)
    _check_paths(args)


def _check_list(name: str, value: str | None) -> None:
    words = split_list(value or "")
    if value and not words:
        raise BenchError(f"--{name}={value} is empty; give a value or remove the flag")
    twice = next((word for word in words if words.count(word) > 1), None)
    if twice and name != "serial":  # a device is measured once, even if it is listed twice
        raise BenchError(f"--{name} lists {twice} twice; list it once")


def _check_words(args: argparse.Namespace) -> None:
    try:
        parse_threads(args.threads)
    except BenchError as error:
        raise BenchError(f"--{error}") from error
    for delegate in split_list(args.delegates):
        if delegate not in DELEGATES:
            raise BenchError(f"--delegates: unknown delegate {delegate!r}; choose from {', '.join(DELEGATES)}")
    try:
        shlex.split(args.ssh)
    except ValueError as error:
        raise BenchError(f"--ssh={args.ssh}: not a command ({error}); expected something like ssh -p 2222") from error
    if args.target == "ssh" and (dashed := _first_dashed(split_list(args.serial or ""))):
        raise BenchError(f"--serial={dashed}: not a host; expected something like pi@raspberrypi")


def _first_dashed(words: Sequence[str]) -> str | None:
    return next((word for word in words if word.startswith("-")), None)


def _check_paths(args: argparse.Namespace) -> None:
    folder = Path(args.output_dir).expanduser()
    if folder.exists() and not folder.is_dir():
        raise BenchError(f"--output_dir={folder}: cannot be written, because it is a file; choose another --output_dir")
    binary = args.benchmark_binary and Path(args.benchmark_binary).expanduser()
    if binary and not binary.is_file():
        raise BenchError(f"--benchmark_binary={binary}: no such file; --fetch_binary downloads the official build")
    if args.libraries and not Path(args.libraries).expanduser().is_dir():
        raise BenchError(f"--libraries={args.libraries}: no such folder; name the one with the accelerator's libraries")
    if "npu" in split_list(args.delegates) and not args.libraries:
        raise BenchError("--delegates=npu needs --libraries=FOLDER, the NPU vendor's libraries")
