"""Writes a camera page that runs .tflite models live in a browser, also offline.

    fd-keras page mine/mine_int8.tflite --output_dir=page --serve
    fd-keras page mine_float32.tflite,mine_int8.tflite --output_dir=page --phone

The folder works on any static web server, and offline after the first visit. Camera images never leave the browser.
"""

import argparse
import functools
import os
from collections.abc import Sequence
from typing import Any

from fd_keras import next_step
from fd_keras.android_bench.adb import AdbDevice
from fd_keras.android_bench.errors import BenchError
from fd_keras.android_bench.models import ModelFile, find_models, read_models
from fd_keras.cli import parse_args, program_name, run_module, summary
from fd_keras.errors import ProgramError, UsageError
from fd_keras.io import printable
from fd_keras.web import browser_rows, folder, page_models, phone, runtime, server

_PORT = 8765


def parser() -> argparse.ArgumentParser:
    """Returns the parser of the command line."""
    flags = argparse.ArgumentParser(prog=program_name(__spec__), description=summary(__doc__), allow_abbrev=False)
    add = flags.add_argument
    add("models", nargs="+", metavar="MODEL.tflite", help="classifiers and detectors: files, A,B or a folder")
    add("--output_dir", default="page", metavar="FOLDER", help="folder to write (default %(default)s)")
    add("--labels", metavar="FILE", help="text file, one class name per line (default: the models' own names)")
    add("--runtime_dir", metavar="FOLDER", help="folder with LiteRT.js's npm packages, instead of a download")
    add("--serve", action="store_true", help=f"serve the camera page on {server.HOST} and store its timings")
    add("--phone", action="store_true", help="serve the camera page and open it on the phone connected by USB")
    add("--port", type=int, default=_PORT, metavar="N", help="port of the server (default %(default)s; 0: any)")
    add(
        "--serial",
        default=None,
        metavar="ID",
        help="serial of the phone from `adb devices`, if several are connected",
    )
    add("--adb", default="adb", metavar="PATH", help="the adb client (default: adb on the PATH)")
    add("--results_dir", default="results", metavar="FOLDER", help="folder for the timings (default %(default)s)")
    return flags


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the program; returns the exit status."""
    args = parse_args(parser(), arguments)
    _check(args)
    try:
        sources = _sources(args.models)
        models = [page_models.describe(source, args.labels) for source in sources]
        folder.write(args.output_dir, models, runtime.files(args.runtime_dir))
        _print_written(args, models)
        if args.serve or args.phone:
            _serve(args, sources)
    except BenchError as error:
        raise ProgramError(str(error)) from error
    return 0


def _check(args: argparse.Namespace) -> None:
    """Raises UsageError or ProgramError for invalid flags, before anything is loaded."""
    if not 0 <= args.port < 2**16:
        raise UsageError(f"--port={args.port}: must be between 0 and {2**16 - 1}")
    if args.serial and not args.phone:
        raise UsageError("--serial names a phone; pass --phone too")
    if args.serial == "all":
        raise UsageError("--serial=all: the camera page opens on one phone; pass its serial")
    folder.check(args.output_dir)


def _sources(words: Sequence[str]) -> list[ModelFile]:
    """Reads the models; raises BenchError if any is invalid or missing, since the page would lack it."""
    sources, failures = read_models(path for word in words for path in find_models(word))
    if failures:
        raise BenchError("\n".join(failures))
    return sources


def _print_written(args: argparse.Namespace, models: Sequence[page_models.PageModel]) -> None:
    for model in models:
        shape = "x".join(map(str, model.facts["input"]["shape"][1:]))
        print(f"{printable(model.source.label)}  {model.facts['kind']}, {len(model.facts['classes'])} classes, {shape}")
    print(f"{os.path.join(args.output_dir, 'index.html')}  copy the folder to any https server")
    if not (args.serve or args.phone):
        flags = {"output_dir": args.output_dir, "runtime_dir": args.runtime_dir, "labels": args.labels}
        print(next_step.next_line("page", *args.models, **flags, serve=True), flush=True)


def _serve(args: argparse.Namespace, sources: Sequence[ModelFile]) -> None:
    opened_on = _phone(args) if args.phone else None
    save = functools.partial(_save, sources, args.results_dir, opened_on.name if opened_on else "")
    with _listen(args, save) as serving:
        if opened_on is None:
            print(f"{serving.address}  open it on this machine, or pass --phone. Ctrl-C stops the server.", flush=True)
            server.serve(serving)
        else:
            with phone.opened(opened_on, serving.server_port, serving.address, args.adb):
                print(
                    f"opened on {printable(opened_on.name)}; allow the camera there. Ctrl-C stops the server.",
                    flush=True,
                )
                server.serve(serving)


def _phone(args: argparse.Namespace) -> AdbDevice:
    try:
        return phone.choose(args.serial or "", args.adb)
    except BenchError as error:
        raise BenchError(f"{error}; or pass --serve instead of --phone to open the page on this machine") from error


def _listen(args: argparse.Namespace, save: server.Save) -> server.PageServer:
    try:
        return server.PageServer(args.output_dir, args.port, save)
    except OSError as error:
        raise ProgramError(
            f"--port={args.port}: cannot be opened ({error.strerror}); pass another port, or --port=0 for any"
        ) from error


def _save(sources: Sequence[ModelFile], results_dir: str, phone_name: str, sent: Any) -> int:
    """Stores a measurement; returns the number of rows."""
    try:
        rows = browser_rows.save(sent, sources, results_dir, phone_name)
    except BenchError as error:
        raise RuntimeError(str(error)) from error
    print(f"{os.path.join(results_dir, 'report.html')}  {rows} rows from the browser added", flush=True)
    return rows


if __name__ == "__main__":
    run_module(main)
