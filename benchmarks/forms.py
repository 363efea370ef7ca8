"""Measures the latency of three forms of the graph on this machine, for each network of the paper's Table 4.

    python -m benchmarks.forms
    python -m benchmarks.forms --networks=shufflenet:0.25 --ops    # with the time per op

"converter" is the Keras model as TensorFlow's converter writes it. "folded" has batch normalization, mean and std
folded into the convolutions, and borders in the mean color. "ours", which `fd-keras convert` writes, also uses the ops
that LiteRT runs fastest (`tflite.int8.xnnpack_ops`). One thread; random weights, which do not affect latency. Figures
are median and quartiles of the ratios within each round.
"""

import argparse
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import keras
import numpy as np
from ai_edge_litert.interpreter import Interpreter

from benchmarks.table4 import SIZE, networks
from benchmarks.timing import interleaved, ratio
from fd_keras.android_bench import host_profiler
from fd_keras.android_bench.models import read_model
from fd_keras.android_bench.plan import Job
from fd_keras.android_bench.random_inputs import fill_inputs
from fd_keras.applications import build_by_name
from fd_keras.litert import quiet
from fd_keras.tflite.export import convert, save_graph, save_model
from fd_keras.tflite.int8.equalize import fold_input
from fd_keras.tflite.int8.fold import fold
from fd_keras.tflite.int8.xnnpack_ops import arrange
from fd_keras.tflite.recipes import MIN_CALIBRATION, RECIPES, Calibration

FORMS = ("converter", "folded", "ours")
TYPES = {"float32": RECIPES["float32"], "int8": RECIPES["int8_plain"]}
BASE = "fd_mobilenet"


def write_forms(arch: str, alpha: float, folder: Path) -> Iterator[tuple[str, str, Path]]:
    """Writes the files of a network; yields the form, type and path of each."""
    keras.utils.clear_session()
    model = build_by_name(arch, alpha=alpha, input_shape=(SIZE, SIZE, 3), weights=None)
    graph = fold_input(fold(model))
    noise = np.random.default_rng(0).integers(0, 256, (MIN_CALIBRATION, SIZE, SIZE, 3), "uint8")
    calibration = Calibration((), noise)
    for form in FORMS:
        with tempfile.TemporaryDirectory() as saved:
            if form == "converter":
                save_model(model, saved)
            else:
                save_graph(arrange(graph) if form == "ours" else graph, saved)
            for kind, recipe in TYPES.items():
                path = folder / f"{arch}_{alpha}_{form}_{kind}.tflite"
                path.write_bytes(convert(saved, recipe, calibration))
                yield form, kind, path


def runners(paths: dict[tuple, Path]) -> dict[tuple, Callable[[], None]]:
    """For each file, a function that runs it on random noise with one thread."""
    calls = {}
    for key, path in paths.items():
        with quiet():
            interpreter = Interpreter(model_path=str(path), num_threads=1)
            interpreter.allocate_tensors()
        fill_inputs(interpreter)
        calls[key] = interpreter.invoke
    return calls


def print_forms(times: dict[tuple, list[float]], names: list[tuple[str, float]]) -> None:
    """Prints the latency of the forms relative to "converter"."""
    print(f"\n{'network':22}{'type':9}{'converter, ms':>14}{'folded':>20}{'ours':>20}")
    for arch, alpha in names:
        for kind in TYPES:
            base, *others = (times[arch, alpha, form, kind] for form in FORMS)
            cells = "".join(f"{ratio(other, base):>20}" for other in others)
            print(f"{f'{arch} {alpha:g}x':22}{kind:9}{np.median(base):>14.3f}{cells}")


def print_families(times: dict[tuple, list[float]], names: list[tuple[str, float]], columns: dict[str, tuple]) -> None:
    """Prints the latency of the other networks relative to the FD-MobileNet listed before them.

    Args:
        times: Times in ms of each file. Keys are (network, width, *key).
        names: Networks and widths. Each FD-MobileNet is followed by the networks to compare with it.
        columns: Key of the file by column title.
    """
    print(f"\n{'network':22}{'relative to':22}{''.join(f'{title:>20}' for title in columns)}")
    base = None
    for arch, alpha in names:
        if arch == BASE:
            base = arch, alpha
        elif base:
            cells = "".join(f"{ratio(times[arch, alpha, *key], times[*base, *key]):>20}" for key in columns.values())
            print(f"{f'{arch} {alpha:g}x':22}{f'{BASE} {base[1]:g}x':22}{cells}")


def print_ops(paths: dict[tuple, Path]) -> None:
    """Prints the time per type of op for each file, slowest first."""
    for path in paths.values():
        ops = host_profiler.run_in_subprocess(Job(read_model(path)), "profile", 30)["ops"]
        totals: dict[str, list[float]] = {}
        for kind, ms, _ in ops:
            totals.setdefault(kind, []).append(ms)
        print(f"\n{path.stem}: {sum(ms for _, ms, _ in ops):.3f} ms")
        for kind, parts in sorted(totals.items(), key=lambda pair: -sum(pair[1])):
            print(f"  {sum(parts):8.3f} ms  {len(parts):3} x {kind}")


def parse_networks(text: str | None) -> list[tuple[str, float]]:
    """The networks and widths in `--networks`, by default those of Table 4."""
    if text:
        return [(arch, float(alpha)) for arch, _, alpha in (part.partition(":") for part in text.split(","))]
    return [(row.arch, row.alpha) for row in networks() if row.arch != "fd_shufflenet"]


def build_parser(description: str) -> argparse.ArgumentParser:
    """The command line of a benchmark that measures networks in rounds."""
    parser = argparse.ArgumentParser(description=description, allow_abbrev=False)
    parser.add_argument("--networks", metavar="ARCH:ALPHA,...", help="networks (default: the nine of Table 4)")
    parser.add_argument("--rounds", type=int, default=20, metavar="N", help="number of rounds (default: %(default)s)")
    return parser


def main() -> None:
    """Writes the files, measures their latency and prints the tables."""
    parser = build_parser("Measures the latency of three forms of the graph on this machine.")
    parser.add_argument("--ops", action="store_true", help="also print the time per op")
    args = parser.parse_args()
    names = parse_networks(args.networks)
    with tempfile.TemporaryDirectory() as folder:
        paths = {}
        for number, (arch, alpha) in enumerate(names, 1):
            print(f"{number} of {len(names)}: {arch} {alpha:g}x", flush=True)
            paths |= {(arch, alpha, *key): path for *key, path in write_forms(arch, alpha, Path(folder))}
        times = interleaved(runners(paths), rounds=args.rounds)
        print_forms(times, names)
        print_families(times, names, {kind: ("ours", kind) for kind in TYPES})
        if args.ops:
            print_ops(paths)


if __name__ == "__main__":
    main()
