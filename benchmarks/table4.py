"""Writes the networks of the paper's Table 4, and FD-ShuffleNet, as .tflite files whose latency can be measured.

    python -m benchmarks.table4 --output_dir=table4_output/models

Weights are random, since they do not affect latency. Existing files are kept, so an interrupted call can be repeated.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from fd_keras import zoo
from fd_keras.errors import ProgramError, run_and_exit
from fd_keras.io import write_json
from fd_keras.spec import model_name
from fd_keras.tflite.format.sidecar import read_sidecar, sidecar_path
from fd_keras.tflite.recipes import MIN_CALIBRATION

RECIPES = ("float32", "int8")
SIZE = 224
ROOT = Path(__file__).resolve().parent.parent


def networks() -> list[zoo.PaperRow]:
    """The nine networks of the paper's tables, and FD-ShuffleNet at ShuffleNet's widths."""
    fd_shufflenets = [
        zoo.PaperRow("fd_shufflenet", row.alpha, row.mflops) for row in zoo.PAPER_TABLE2 if row.arch == "shufflenet"
    ]
    return [*zoo.PAPER_TABLE2, *fd_shufflenets]


def write_noise(folder: Path) -> None:
    """Writes calibration images of random noise; quantization ranges do not affect latency."""
    rng = np.random.default_rng(0)
    for number in range(MIN_CALIBRATION):
        Image.fromarray(rng.integers(0, 256, (SIZE, SIZE, 3), "uint8")).save(folder / f"{number}.png")


def convert(network: zoo.PaperRow, calibration: Path, output: Path) -> None:
    """Converts the missing files of a network, in a separate process, since TensorFlow does not release memory."""
    name = model_name(zoo.get_arch(network.arch), network.alpha, (SIZE, SIZE))
    paths = {recipe: str(output / f"{name}_{recipe}.tflite") for recipe in RECIPES}
    missing = [recipe for recipe, path in paths.items() if not (os.path.exists(path) and read_sidecar(path))]
    if missing:
        flags = [f"--model={network.arch}", f"--alpha={network.alpha}", "--weights=none", f"--size={SIZE}"]
        flags += [f"--recipes={','.join(missing)}", f"--calibration_dir={calibration}", f"--output_dir={output}"]
        call = [sys.executable, "-m", "fd_keras.cli", "convert", *flags, f"--calibration_count={MIN_CALIBRATION}"]
        done = subprocess.run(call, cwd=ROOT, capture_output=True, text=True)
        if done.returncode:
            raise ProgramError(f"{name} could not be converted:\n{done.stderr[-3000:]}")
    for path in paths.values():
        facts = read_sidecar(path) or {}
        if network.top1 is not None and facts.get("paper_top1") != network.top1:
            write_json(sidecar_path(path), facts | {"paper_top1": network.top1})


def main() -> None:
    """Writes the missing files."""
    parser = argparse.ArgumentParser(
        description="Writes the networks of the paper's Table 4 as .tflite files.", allow_abbrev=False
    )
    parser.add_argument("--output_dir", type=Path, required=True, help="folder for the .tflite and .json files")
    output = parser.parse_args().output_dir.resolve()
    output.mkdir(parents=True, exist_ok=True)
    selected = networks()
    with tempfile.TemporaryDirectory() as calibration:
        write_noise(Path(calibration))
        for number, network in enumerate(selected, 1):
            print(f"{number} of {len(selected)}: {network.arch} {network.alpha:g}x", flush=True)
            convert(network, Path(calibration), output)


if __name__ == "__main__":
    run_and_exit(main, "python -m benchmarks.table4")
