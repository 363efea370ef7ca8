"""Runs .tflite files on images and saves the scores: score.py IMAGES.npy SCORES.npz FILE.tflite...

Needs only NumPy and LiteRT, since there is no TensorFlow in the emulator.
"""

import importlib.util
import platform
import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent.parent


def load_litert():
    """Loads fd_keras.litert without its package, which imports Keras."""
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
