"""Runs .tflite files on images with whatever processor Python runs on: score.py IMAGES.npy SCORES.npz FILE.tflite...

Needs numpy and LiteRT alone, as there is no TensorFlow on the other side of an emulator.
"""

import importlib.util
import platform
import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent.parent


def load_litert():
    """fd_keras.litert without the package around it, which imports Keras."""
    spec = importlib.util.spec_from_file_location("litert", ROOT / "fd_keras" / "litert.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def main(images: str, scores: str, *files: str) -> None:
    runner, pixels = load_litert().Runner, np.load(images)
    found = {Path(path).stem: runner(path)(pixels) for path in files}
    np.savez(scores, machine=platform.machine(), **found)


if __name__ == "__main__":
    main(*sys.argv[1:])
