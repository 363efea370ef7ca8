"""Checks that LiteRT's kernels for ARM give the same scores as those of this machine: `make test-arm`.

Runs FD-MobileNet 0.25x with the authors' weights, float32 and int8, on real photos with LiteRT for aarch64 in an
emulator. Latency is not measured.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from fd_keras import imagenet
from fd_keras.applications import FDMobileNet
from fd_keras.photos import list_images
from fd_keras.tflite.export import write
from fd_keras.tflite.recipes import RECIPES, evenly, load_calibration

ROOT = Path(__file__).resolve().parent.parent.parent
ARM = ROOT / ".arm"
EMULATOR = [ARM / "emulator/usr/bin/qemu-aarch64", "-L", ARM / "aarch64"]
# XNNPACK has different kernels for them: plain NEON, as on the oldest 64-bit phones, and all later instruction sets.
PROCESSORS = ("cortex-a53", "max")
PHOTOS = 40
RECIPE_NAMES = ("float32", "int8")
# Maximum difference of a score, and minimum percentage of photos with the same first class. Sums of floats depend on
# the order of summation; integer kernels may round halves differently.
LIMITS = {"float32": (1e-5, 100), "int8": (2 / 256, 95)}


def files(data: Path, folder: Path) -> list[Path]:
    """Converts the network; returns the paths of the .tflite files."""
    (weights,) = (data / "weights").glob("0.25x-*")
    model = FDMobileNet(alpha=0.25, weights=str(weights))
    calibration = load_calibration(str(data / "imagenet" / "sample"), (imagenet.SIZE, imagenet.SIZE), 64)
    recipes = [RECIPES[name] for name in RECIPE_NAMES]
    return [Path(path) for path in write(model, "model", {}, recipes, str(folder), calibration=calibration)]


def photos(data: Path) -> np.ndarray:
    """Cropped validation photos, float32 (40, height, width, 3)."""
    paths = evenly(list_images(data / "imagenet" / "val"), PHOTOS)
    return np.stack([imagenet.load_image(path, resize=False) for path in paths]).astype("float32")


def emulated(processor: str) -> list:
    """The command of Python on an emulated processor."""
    packages = f"PYTHONPATH={ARM / 'packages'}"
    return [*EMULATOR, "-cpu", processor, "-E", packages, ARM / "aarch64/usr/bin/python3.13"]


def scores(python: list, images: Path, models: list[Path], output: Path) -> dict[str, np.ndarray]:
    """Runs the models on the images with a Python interpreter; returns scores by model."""
    subprocess.run([*python, ROOT / "tests/arm/score.py", images, output, *models], check=True)
    with np.load(output) as found:
        return dict(found)


def compare(recipe: str, here: np.ndarray, there: np.ndarray) -> bool:
    """Prints the difference of two arrays of scores; returns whether it is within the limits."""
    max_difference, min_same = LIMITS[recipe]
    difference = float(np.abs(here - there).max())
    same = 100 * float(np.mean(here.argmax(axis=1) == there.argmax(axis=1)))
    equal = 100 * float(np.mean(here == there))
    print(f"{recipe}: same first class on {same:g}% of {len(here)} photos, {equal:.2f}% of all scores equal, "
          f"maximum difference {difference:.2g}")  # fmt: skip
    return difference <= max_difference and same >= min_same


def agree(processor: str, here: dict[str, np.ndarray], there: dict[str, np.ndarray]) -> bool:
    """Compares all files on this machine and on an emulated processor; returns whether they are within the limits."""
    if here["machine"] == there["machine"] or there["machine"] != "aarch64":
        sys.exit(f"error: need an x86 machine to compare with aarch64, found {here['machine']} and {there['machine']}")
    print(f"{there['machine']} ({processor}, emulated) compared with {here['machine']}")
    return all(compare(name, here[f"model_{name}"], there[f"model_{name}"]) for name in RECIPE_NAMES)


def main() -> None:
    if not os.environ.get("FD_KERAS_DATA"):
        sys.exit("error: FD_KERAS_DATA is not set: set it to a folder with weights/ and imagenet/")
    data = Path(os.environ["FD_KERAS_DATA"])
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        models, images = files(data, folder), folder / "images.npy"
        np.save(images, photos(data))
        here = scores([sys.executable], images, models, folder / "here.npz")
        there = {name: scores(emulated(name), images, models, folder / f"{name}.npz") for name in PROCESSORS}
    passed = [agree(name, here, there[name]) for name in PROCESSORS]
    sys.exit(None if all(passed) else "error: the scores of the kernels for ARM differ from those of x86")


if __name__ == "__main__":
    main()
