"""Writes a camera page: .tflite models in a browser, live and offline.

    fd-keras page mine/mine_int8.tflite --output_dir=page --serve
    fd-keras page mine_float32.tflite,mine_int8.tflite --output_dir=page --phone

The folder works on any static web server, and offline once it was opened. Nothing that the camera sees leaves the
browser.
"""

import argparse
import os
from collections.abc import Sequence

from fd_keras import next_step
from fd_keras.android_bench.errors import BenchError
from fd_keras.android_bench.models import ModelFile, find_models, read_models
from fd_keras.cli import parse_args, program_name, run_module, summary
from fd_keras.errors import ProgramError, UsageError
from fd_keras.io import printable
from fd_keras.web import browser_rows, folder, page_models, phone, runtime, server

_PORT = 8765


def parser() -> argparse.ArgumentParser:
    """The program's flags."""
    flags = argparse.ArgumentParser(prog=program_name(__spec__), description=summary(__doc__), allow_abbrev=False)
    add = flags.add_argument
    add("models", nargs="+", metavar="MODEL.tflite", help="classifiers and detectors; or A,B, or a folder of them")
    add("--output_dir", default="page", metavar="FOLDER", help="folder to write (default %(default)s)")
    add("--labels", metavar="FILE", help="class names, a text file of one a line (default: as the models name them)")
    add("--runtime_dir", metavar="FOLDER", help="folder with LiteRT.js's npm packages, instead of a download")
    add("--serve", action="store_true", help=f"then serve it on {server.HOST}, and store what the page measures")
    add("--phone", action="store_true", help="then serve it, and open it on the phone behind the USB cable")
    add("--port", type=int, default=_PORT, metavar="N", help="port of the server (default %(default)s; 0: any)")
    add("--serial", default=None, metavar="ID", help="of the phone, as `adb devices` lists it, if there are several")
    add("--adb", default="adb", metavar="PATH", help="the adb client (default: the one on the PATH)")
    add("--results_dir", default="results", metavar="FOLDER", help="results of measurements (default %(default)s)")
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
    """Raises UsageError or ProgramError for what cannot be, before anything is loaded."""
    if not 0 <= args.port < 2**16:
        raise UsageError(f"--port={args.port}: must be between 0 and {2**16 - 1}")
    if args.serial and not args.phone:
        raise UsageError("--serial names a phone; pass --phone too")
    folder.check(args.output_dir)


def _sources(words: Sequence[str]) -> list[ModelFile]:
    """The models; raises BenchError if one is broken or missing, since a page without it is not what was asked for."""
    sources, failures = read_models(path for word in words for path in find_models(word))
    if failures:
        raise BenchError("\n".join(failures))
    return sources


def _print_written(args: argparse.Namespace, models: Sequence[page_models.PageModel]) -> None:
    for model in models:
        shape = "x".join(map(str, model.facts["input"]["shape"][1:]))
        print(f"{printable(model.source.label)}  {model.facts['kind']}, {len(model.facts['classes'])} classes, {shape}")
    print(f"{os.path.join(args.output_dir, 'index.html')}  copy the folder to any web server with https")
    if not (args.serve or args.phone):
        flags = {"output_dir": args.output_dir, "runtime_dir": args.runtime_dir, "labels": args.labels}
        print(next_step.next_line("page", *args.models, **flags, serve=True), flush=True)


def _serve(args: argparse.Namespace, sources: Sequence[ModelFile]) -> None:
    name = ""

    def save(sent: object) -> int:
        try:
            rows = browser_rows.save(sent, sources, args.results_dir, name)
        except BenchError as error:
            raise RuntimeError(str(error)) from error
        print(f"{os.path.join(args.results_dir, 'report.html')}  {rows} rows of a browser added", flush=True)
        return rows

    try:
        serving = server.PageServer(args.output_dir, args.port, save)
    except OSError as error:
        raise ProgramError(
            f"--port={args.port}: cannot be opened ({error.strerror}); pass another port, or --port=0 for any"
        ) from error
    try:
        if args.phone:
            name = phone.open_page(serving.server_port, serving.address, args.serial or "", args.adb)
            print(f"opened on {printable(name)}; allow the camera there. Ctrl-C ends it.", flush=True)
        else:
            print(f"{serving.address}  open it here; for a phone behind a cable: --phone. Ctrl-C ends it.", flush=True)
        server.serve(serving)
    finally:
        serving.server_close()
        if args.phone:
            phone.close(serving.server_port, args.serial or "", args.adb)


if __name__ == "__main__":
    run_module(main)
