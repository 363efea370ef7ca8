"""Says what a network needs of a microcontroller: flash, RAM for its activations, multiply-accumulates (MACs).

    python -m tflite.memory out/fd_mobilenet_0.25_224_int8.tflite --plot=memory.png
    python -m tflite.memory --grid --classes=5 --ram=256KiB --flash=512KiB

The first reads a .tflite file and plans its arena as TensorFlow Lite Micro (TFLM) does. The second tells of int8 files
of many widths and resolutions, without making them, which fit, and which of those has the most MACs.
"""

import json
import re
import sys
from collections.abc import Sequence

from absl import app, flags

from fd_keras import zoo
from fd_keras.tflite.format.flatbuffer import read
from fd_keras.tflite.memory import estimate
from fd_keras.tflite.memory.arena import plan
from fd_keras.tflite.memory.plot import draw
from fd_keras.tflite.memory.report import grid_records, grid_table, report, tables

_GRID = flags.DEFINE_bool("grid", False, "Tell of many networks instead of a file.")
_MODEL = flags.DEFINE_enum("model", "fd_mobilenet", list(zoo.ARCHS), "For --grid: the network.")
_GROUPS = flags.DEFINE_integer("groups", None, "For --grid: groups of a ShuffleNet (default 3).")
_ALPHAS = flags.DEFINE_list("alphas", ["0.25", "0.5", "0.75", "1.0"], "For --grid: its widths.")
_SIZES = flags.DEFINE_list("sizes", ["96", "128", "160", "192", "224"], "For --grid: sides of its square image.")
_CLASSES = flags.DEFINE_integer("classes", 1000, "For --grid: of its classifier.", lower_bound=1)
_RAM = flags.DEFINE_string("ram", "256KiB", "What the device has to spare for TFLM's arena.")
_FLASH = flags.DEFINE_string("flash", "512KiB", "What it has to spare for the file; TFLM's code comes on top.")
_JSON = flags.DEFINE_bool("json", False, "Print JSON instead of tables.")
_PLOT = flags.DEFINE_string("plot", None, "Draw the arena of the file into a .png, .svg or .pdf.")

_UNITS = {"": 1, "b": 1, "kib": 2**10, "mib": 2**20, "kb": 10**3, "mb": 10**6}


def parse_bytes(flag: str, text: str) -> int:
    """Bytes of a size like 256KiB, 1.5MiB, 300kB or 262144; raises ValueError that names the flag."""
    found = re.fullmatch(r"(\d+\.?\d*)\s*([a-z]*)", text.strip().lower())
    if not found or found[2] not in _UNITS:
        raise ValueError(f"--{flag}={text}: not a size; write one like 256KiB, 1.5MiB or 262144.")
    return int(float(found[1]) * _UNITS[found[2]])


def parse_numbers(flag: str, texts: Sequence[str], kind: type) -> list:
    """The numbers in a list of texts; raises ValueError that names the flag."""
    try:
        numbers = [kind(text) for text in texts]
    except ValueError as error:
        raise ValueError(f"--{flag}={','.join(texts)}: {error}") from error
    if not numbers:
        raise ValueError(f"--{flag} is empty; give at least one number.")
    return numbers


def tell_grid(ram: int, flash: int) -> str | list:
    """The grid that the flags ask for, as text or as data."""
    arch = zoo.get_arch(_MODEL.value, _GROUPS.value)
    alphas, sizes = parse_numbers("alphas", _ALPHAS.value, float), parse_numbers("sizes", _SIZES.value, int)
    cells = estimate.cells(arch, alphas, sizes, _CLASSES.value)
    write = grid_records if _JSON.value else grid_table
    return write(cells, estimate.best(cells, ram, flash), ram, flash)


def tell_file(path: str, ram: int, flash: int) -> str | dict:
    """What a file needs, as text or as data; draws it if asked to."""
    file = read(path)
    whole = plan(file.graph)
    facts = report(path, file, whole)
    if _PLOT.value:
        draw(_PLOT.value, whole)
    return facts if _JSON.value else tables(facts, ram, flash)


def main(argv: list[str]) -> None:
    if len(argv) != (1 if _GRID.value else 2):
        raise app.UsageError("Give one .tflite file, or --grid without one.")
    if _GRID.value and _PLOT.value:
        raise app.UsageError("--plot draws the arena of a file, --grid has none.")
    try:
        ram, flash = parse_bytes("ram", _RAM.value), parse_bytes("flash", _FLASH.value)
        told = tell_grid(ram, flash) if _GRID.value else tell_file(argv[1], ram, flash)
    except (ValueError, OSError, ImportError) as error:
        sys.exit(f"error: {error}")
    print(told if isinstance(told, str) else json.dumps(told, indent=1))


if __name__ == "__main__":
    app.run(main)
