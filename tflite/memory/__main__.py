"""Estimates the flash, RAM and multiply-accumulates (MACs) that a network needs on a microcontroller.

    fd-keras memory out/fd_mobilenet_0.25_224_int8.tflite --plot=memory.png
    fd-keras memory out/fd_mobilenet_0.25_224_int8.tflite --board=nano-33-ble
    fd-keras memory --grid --classes=5 --ram=256KiB --flash=512KiB

The first two commands read a .tflite file and plan its arena as TensorFlow Lite Micro (TFLM) does. The third estimates
many networks, widths and resolutions as int8 and int4 files, whole and in strips, without converting them, and reports
which fit and which of those is the most accurate.
"""

import json
from collections.abc import Sequence

from absl import flags

from fd_keras import zoo
from fd_keras.io import check_figure
from fd_keras.program import Program, UsageError, flag_group
from fd_keras.spec import Arch
from fd_keras.tflite.memory import boards, grid
from fd_keras.tflite.memory.byte_sizes import parse_bytes

with flag_group("Device"):
    _BOARD = flags.DEFINE_string("board", None, f"Board, instead of --ram and --flash: {', '.join(boards.BOARDS)}.")
    _RESERVE = flags.DEFINE_string("reserve", boards.RESERVED, "Board RAM to keep free for camera, stack and program.")
    _RAM = flags.DEFINE_string("ram", "256KiB", "RAM available for TFLM's arena.")
    _FLASH = flags.DEFINE_string("flash", "512KiB", "Flash available for the file, not counting TFLM's code.")
with flag_group("Grid of networks"):
    _GRID = flags.DEFINE_bool("grid", False, "Estimate many networks instead of reading a file.")
    _MODEL = flags.DEFINE_list("model", list(zoo.ARCHS), "Networks of the grid.")
    _GROUPS = flags.DEFINE_integer("groups", None, "Groups of a ShuffleNet (default 3).")
    _ALPHAS = flags.DEFINE_list("alphas", ["0.25", "0.5", "0.75", "1.0"], "Width multipliers.")
    _SIZES = flags.DEFINE_list("sizes", ["96", "128", "160", "192", "224"], "Sides of the square image in pixels.")
    _CLASSES = flags.DEFINE_integer("classes", 1000, "Number of classes.", lower_bound=1)
with flag_group("Output"):
    _JSON = flags.DEFINE_bool("json", False, "Print JSON instead of tables.")
    _PLOT = flags.DEFINE_string("plot", None, "Plot the arena of the file to a .png, .svg or .pdf.")


def parse_numbers(flag: str, texts: Sequence[str], kind: type, low: float, high: float) -> list:
    """Parses a flag's list of numbers; raises UsageError, naming the flag, if one is invalid or out of range."""
    try:
        numbers = [kind(text) for text in texts]
    except ValueError as error:
        raise UsageError(f"--{flag}={','.join(texts)}: {error}") from error
    for text, number in zip(texts, numbers, strict=True):
        if not low <= number <= high:  # also rejects NaN
            raise UsageError(f"--{flag}={text}: must be between {low:g} and {high:g}")
    return numbers


def archs() -> list[Arch]:
    """The tables of the networks in --model; raises UsageError if one is unknown."""
    names = _MODEL.value
    for name in names or [""]:
        if name not in zoo.ARCHS:
            raise UsageError(f"--model={name}: unknown network (there are {', '.join(zoo.ARCHS)})")
    grouped = [name for name in names if not isinstance(zoo.ARCHS[name], Arch)]
    if _GROUPS.value is not None and not grouped:
        raise UsageError(f"--groups={_GROUPS.value}: only ShuffleNets have groups, --model={','.join(names)} has none")
    return [zoo.get_arch(name, _GROUPS.value if name in grouped else None) for name in names]


def limits() -> grid.DeviceLimits:
    """The available memory: the board's without --reserve, or --ram and --flash."""
    board, kept = board_of(), reserve()
    if board:
        return grid.DeviceLimits(*boards.free(board, kept), board.kernels)
    return grid.DeviceLimits(parse_bytes("ram", _RAM.value), parse_bytes("flash", _FLASH.value))


def board_of() -> boards.Board | None:
    """The board in --board, if any; raises UsageError if it is unknown, or combined with --ram or --flash."""
    if _BOARD.value is None:
        return None
    board = boards.get_board(_BOARD.value)
    for flag in (_RAM, _FLASH):
        if flag.present:
            raise UsageError(f"--{flag.name}={flag.value}: --board={_BOARD.value} sets it already; pass one of the two")
    return board


def reserve() -> int:
    """Parses --reserve to bytes."""
    return parse_bytes("reserve", _RESERVE.value)


def grid_report(device: grid.DeviceLimits) -> str | list:
    """Estimates the grid of networks; returns text, or data with --json."""
    networks = archs()
    alphas = parse_numbers("alphas", _ALPHAS.value, float, 0.01, 100)
    sizes = parse_numbers("sizes", _SIZES.value, int, 32, 8192)
    cells = list(grid.grid(networks, alphas, sizes, _CLASSES.value, device))
    return (grid.records if _JSON.value else grid.table)(cells, device)


def file_report(path: str, device: grid.DeviceLimits) -> str | dict:
    """Reports the needs of a file as text, or as data with --json; plots the arena with --plot."""
    from fd_keras.tflite.format.flatbuffer import read
    from fd_keras.tflite.memory.arena import plan
    from fd_keras.tflite.memory.plot import arena_plot
    from fd_keras.tflite.memory.report import report, tables

    if _PLOT.value:
        check_figure(_PLOT.value)
    file, board = read(path), board_of()
    whole = plan(file.network)
    facts = report(path, file, whole)
    if _PLOT.value:
        arena_plot(_PLOT.value, whole)
    fit = boards.BoardFit.of(board, file.network, file.bytes, reserve()) if board else None
    if _JSON.value:
        return facts | ({"board": fit.record()} if fit else {})
    return tables(facts, fit.text() if fit else verdict_of(facts, device))


def verdict_of(facts: dict, device: grid.DeviceLimits) -> str:
    """Formats whether a file fits into --ram and --flash."""
    from fd_keras.tflite.memory.report import verdict

    return verdict(facts["activations"] + facts["tflm"], facts["flash"]["bytes"], device.ram, device.flash)


def main(argv: list[str]) -> None:
    """Prints the report of a file or of the grid."""
    if len(argv) != (0 if _GRID.value else 1):
        raise UsageError("pass either one .tflite file or --grid")
    if _GRID.value and _PLOT.value:
        raise UsageError("--plot needs a file and cannot be combined with --grid; remove one of the two")
    device = limits()
    found = grid_report(device) if _GRID.value else file_report(argv[0], device)
    print(found if isinstance(found, str) else json.dumps(found, indent=1))


PROGRAM = Program(main, "[FILE.tflite]")

if __name__ == "__main__":
    PROGRAM.run()
