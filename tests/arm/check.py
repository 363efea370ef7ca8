"""Checks that ARM's kernels give the answers of this machine's: `make test-arm`.

FD-MobileNet .25x with the authors' weights, float32 and int8, on real photos, through LiteRT for aarch64 in an
emulator. That tells nothing of time.
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
# XNNPACK has kernels for each: of plain NEON, as the oldest 64-bit phones have it, and of all that there is since.
PROCESSORS = ("cortex-a53", "max")
PHOTOS = 40
RECIPE_NAMES = ("float32", "int8")
# How far a score may be off, and on how many photos in a hundred the first class must be the same. Sums of floats
# depend on their order; integers may round a half the other way.
LIMITS = {"float32": (1e-5, 100), "int8": (2 / 256, 95)}


def files(data: Path, folder: Path) -> list[Path]:
    """Converts the network."""
    (weights,) = (data / "weights").glob("0.25x-*")
    model = FDMobileNet(alpha=0.25, weights=str(weights))
    calibration = load_calibration(str(data / "imagenet" / "sample"), (imagenet.SIZE, imagenet.SIZE), 64)
    recipes = [RECIPES[name] for name in RECIPE_NAMES]
    return [Path(path) for path in write(model, "model", {}, recipes, str(folder), calibration=calibration)]


def photos(data: Path) -> np.ndarray:
    """Validation photos of all sorts, cropped."""
    paths = evenly(list_images(data / "imagenet" / "val"), PHOTOS)
    return np.stack([imagenet.load_image(path, resize=False) for path in paths]).astype("float32")


def emulated(processor: str) -> list:
    """The Python of an emulated processor."""
    packages = f"PYTHONPATH={ARM / 'packages'}"
    return [*EMULATOR, "-cpu", processor, "-E", packages, ARM / "aarch64/usr/bin/python3.13"]


def scores(python: list, images: Path, models: list[Path], output: Path) -> dict[str, np.ndarray]:
    """What a Python gives for the images, by model."""
    subprocess.run([*python, ROOT / "tests/arm/score.py", images, output, *models], check=True)
    with np.load(output) as found:
        return dict(found)


def compare(recipe: str, here: np.ndarray, there: np.ndarray) -> bool:
    """Prints how far two arrays of scores are apart; returns whether that is near enough."""
    most, least_same = LIMITS[recipe]
    apart = float(np.abs(here - there).max())
    same = 100 * float(np.mean(here.argmax(axis=1) == there.argmax(axis=1)))
    equal = 100 * float(np.mean(here == there))
    print(f"{recipe}: first class the same on {same:g}% of {len(here)} photos, {equal:.2f}% of all scores equal, "
          f"at most {apart:.2g} apart")  # fmt: skip
    return apart <= most and same >= least_same


def agree(processor: str, here: dict[str, np.ndarray], there: dict[str, np.ndarray]) -> bool:
    """Prints and returns whether all files give the same here and on an emulated processor."""
    if here["machine"] == there["machine"] or there["machine"] != "aarch64":
        sys.exit(f"error: {there['machine']} beside {here['machine']} compares nothing: run this on x86")
    print(f"{there['machine']} ({processor}, emulated) beside {here['machine']}")
    return all(compare(name, here[f"model_{name}"], there[f"model_{name}"]) for name in RECIPE_NAMES)


def main() -> None:
    if not os.environ.get("FD_KERAS_DATA"):
        sys.exit("error: FD_KERAS_DATA is not set: it names the folder of real weights and photos that this needs")
    data = Path(os.environ["FD_KERAS_DATA"])
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        models, images = files(data, folder), folder / "images.npy"
        np.save(images, photos(data))
        here = scores([sys.executable], images, models, folder / "here.npz")
        there = {name: scores(emulated(name), images, models, folder / f"{name}.npz") for name in PROCESSORS}
    near = [agree(name, here, there[name]) for name in PROCESSORS]
    sys.exit(None if all(near) else "error: ARM's kernels give other answers")


if __name__ == "__main__":
    main()
