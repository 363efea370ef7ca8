"""Estimates what a network needs of a microcontroller: flash, RAM and multiply-accumulates (MACs).

    fd-keras memory out/fd_mobilenet_0.25_224_int8.tflite --plot=memory.png
    fd-keras memory --grid --classes=5 --ram=256KiB --flash=512KiB

The first reads a .tflite file and plans its arena as TensorFlow Lite Micro (TFLM) does. The second estimates int8 files
of many widths and resolutions without making them: which fit, and which of those has the most MACs.
"""

import json
from collections.abc import Sequence

from absl import flags

from fd_keras import zoo
from fd_keras.io import check_figure
from fd_keras.program import Program, UsageError, flag_group
from fd_keras.tflite.memory.byte_sizes import parse_bytes

with flag_group("Device"):
    _RAM = flags.DEFINE_string("ram", "256KiB", "RAM to spare for TFLM's arena.")
    _FLASH = flags.DEFINE_string("flash", "512KiB", "Flash to spare for the file; TFLM's code comes on top.")
with flag_group("Grid of networks"):
    _GRID = flags.DEFINE_bool("grid", False, "Estimate many networks instead of reading a file.")
    _MODEL = flags.DEFINE_enum("model", "fd_mobilenet", list(zoo.ARCHS), "Network of the grid.")
    _GROUPS = flags.DEFINE_integer("groups", None, "Groups of a ShuffleNet (default 3).")
    _ALPHAS = flags.DEFINE_list("alphas", ["0.25", "0.5", "0.75", "1.0"], "Width multipliers.")
    _SIZES = flags.DEFINE_list("sizes", ["96", "128", "160", "192", "224"], "Sides of the square image.")
    _CLASSES = flags.DEFINE_integer("classes", 1000, "Number of classes.", lower_bound=1)
with flag_group("Output"):
    _JSON = flags.DEFINE_bool("json", False, "Print JSON instead of tables.")
    _PLOT = flags.DEFINE_string("plot", None, "Draw the arena of the file into a .png, .svg or .pdf.")


def parse_numbers(flag: str, texts: Sequence[str], kind: type, low: float, high: float) -> list:
    """The numbers in a list of texts; raises UsageError that names the flag."""
    try:
        numbers = [kind(text) for text in texts]
    except ValueError as error:
        raise UsageError(f"--{flag}={','.join(texts)}: {error}") from error
    for text, number in zip(texts, numbers, strict=True):
        if not low <= number <= high:  # nor if it is NaN
            raise UsageError(f"--{flag}={text}: must be between {low:g} and {high:g}")
    return numbers


def grid_report(ram: int, flash: int) -> str | list:
    """The grid that the flags ask for, as text or as data."""
    arch = zoo.get_arch(_MODEL.value, _GROUPS.value)
    alphas = parse_numbers("alphas", _ALPHAS.value, float, 0.01, 100)
    sizes = parse_numbers("sizes", _SIZES.value, int, 32, 8192)
    from fd_keras.tflite.memory import estimate
    from fd_keras.tflite.memory.report import grid_records, grid_table

    cells = estimate.cells(arch, alphas, sizes, _CLASSES.value)
    write = grid_records if _JSON.value else grid_table
    return write(cells, estimate.best(cells, ram, flash), ram, flash)


def file_report(path: str, ram: int, flash: int) -> str | dict:
    """What a file needs, as text or as data; draws it if asked to."""
    from fd_keras.tflite.format.flatbuffer import read
    from fd_keras.tflite.memory.arena import plan
    from fd_keras.tflite.memory.plot import arena_plot
    from fd_keras.tflite.memory.report import report, tables

    if _PLOT.value:
        check_figure(_PLOT.value)
    file = read(path)
    whole = plan(file.network)
    facts = report(path, file, whole)
    if _PLOT.value:
        arena_plot(_PLOT.value, whole)
    return facts if _JSON.value else tables(facts, ram, flash)


def main(argv: list[str]) -> None:
    """Prints the report of a file or of the grid."""
    if len(argv) != (0 if _GRID.value else 1):
        raise UsageError("give one .tflite file, or --grid without one")
    if _GRID.value and _PLOT.value:
        raise UsageError("--plot draws the arena of a file, not --grid")
    ram, flash = parse_bytes("ram", _RAM.value), parse_bytes("flash", _FLASH.value)
    found = grid_report(ram, flash) if _GRID.value else file_report(argv[0], ram, flash)
    print(found if isinstance(found, str) else json.dumps(found, indent=1))


PROGRAM = Program(main, "[FILE.tflite]")

if __name__ == "__main__":
    PROGRAM.run()
