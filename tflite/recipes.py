"""Quantization as named data: what each recipe asks of the converter."""

import dataclasses
import functools
import os
from collections.abc import Collection, Sequence

import numpy as np

from fd_keras import imagenet
from fd_keras.cli import nearest
from fd_keras.errors import UsageError
from fd_keras.photos import list_images
from fd_keras.training.settings import setting

MIN_CALIBRATION = 8  # with fewer images, activation ranges are mostly chance


@dataclasses.dataclass(frozen=True)
class Int8Settings:
    """Settings of the steps that `tflite.int8.pipeline` runs before the converter, each with a flag --int8_NAME."""

    equalize: bool = setting(True, "Scale the channels of each tensor so that all of them use its 256 levels.")
    power: float = setting(0.75, "How far to equalize channels that a convolution sums over; 1 is fully.", 0, 1)
    clip: bool = setting(True, "Clip activations where the squared error is smallest.")
    split: int = setting(0, "Number of depthwise convolutions, from the image on, with two ranges per channel.", 0)
    fit: float = setting(0.3, "Ridge of the least-squares fit of each layer (int4: 0.1); 0 skips the fit.", 0)
    compensate: bool = setting(True, "Round each weight so that it compensates for the roundings before it (GPTQ).")
    bias: bool = setting(True, "Correct the bias of each layer so that its mean output equals the float one.")
    clip_logits: bool = setting(True, "Clip the lowest logits before the softmax, which gives the others finer steps.")


@dataclasses.dataclass(frozen=True)
class ConversionRecipe:
    """How the weights of a model are stored, and how its activations are computed.

    Attributes:
        name: Part of the file name.
        weights: Type in which weights are stored: float32, float16, int8, or int4 (large kernels; the others int8).
        activations: Type in which layers compute: float32 or int8.
        summary: One-line description.
        settings: Settings of the steps before the conversion; None: convert the network unchanged.
    """

    name: str
    weights: str
    activations: str
    summary: str
    settings: Int8Settings | None = None

    @property
    def calibrated(self) -> bool:
        """Whether the recipe needs calibration images, to measure activation ranges."""
        return self.activations == "int8"


RECIPES = {
    recipe.name: recipe
    for recipe in (
        ConversionRecipe("float32", "float32", "float32", "as trained"),
        ConversionRecipe("float16", "float16", "float32", "half the size, computes in float32"),
        ConversionRecipe("dynamic", "int8", "float32", "a quarter of the size, activations quantized on the fly"),
        ConversionRecipe(
            "int8", "int8", "int8", "integers only, prepared so that almost no accuracy is lost", Int8Settings()
        ),
        ConversionRecipe("int4", "int4", "int8", "as int8, with large kernels in 4 bits", Int8Settings(fit=0.1)),
        ConversionRecipe("int8_plain", "int8", "int8", "integers only, by the converter alone, for comparison"),
    )
}
IO_TYPES = ("uint8", "int8", "float32")
MEASURES = ("classes", "logits", "scores", "values")  # see `fd_keras.head`
SENSITIVITY_MODES = ("alone", "kept_float")  # see `verification.sensitivity`


def get_recipes(names: Sequence[str]) -> list[ConversionRecipe]:
    """Returns the recipes of these names without duplicates; raises UsageError for unknown names or none at all."""
    check_names(names, RECIPES)
    return [RECIPES[name] for name in dict.fromkeys(names)]


def check_names(names: Sequence[str], known: Collection[str]) -> None:
    """Raises UsageError if --recipes is empty or contains an unknown name."""
    if not names:
        raise UsageError(f"--recipes is empty; there are {', '.join(known)}")
    for name in names:
        if name not in known:
            near = nearest(name, known)
            raise UsageError(f"--recipes={name}: unknown recipe{near} (there are {', '.join(known)})")


def check_recipes(recipes: list[ConversionRecipe]) -> None:
    """Raises ValueError for a recipe that TFLM has no kernels for: weights of another type than the activations."""
    mixed = [recipe.name for recipe in recipes if recipe.weights != recipe.activations and recipe.weights != "int4"]
    if mixed:
        raise ValueError(
            f"--c_array: TensorFlow Lite Micro does not run --recipes={mixed[0]}; use int8, int4 or float32"
        )


@dataclasses.dataclass(frozen=True)
class Calibration:
    """Images to measure activation ranges on.

    Attributes:
        ids: Paths of the images, relative to their folder.
        images: RGB or gray 0..255, uint8 of shape (count, height, width, channels).
    """

    ids: tuple[str, ...]
    images: np.ndarray


def check_channels(size: Sequence[int], instead: str = "") -> None:
    """Raises ValueError unless photos can be read as images of this (height, width, channels).

    Args:
        size: Size of the images; without channels, they are RGB.
        instead: What to do instead, for the message.
    """
    if len(size) == 3 and size[2] not in (1, 3):
        raise ValueError(
            f"the network takes images of {size[2]} channels, but photos are read as gray (1) or RGB (3){instead}."
        )


def load_calibration(folder: str, size: Sequence[int], count: int, ids: Sequence[str] | None = None) -> Calibration:
    """Loads calibration images from a folder, cropped as for evaluation.

    Args:
        folder: Folder of images, also in subfolders.
        size: (height, width) of the network's input, or (height, width, channels) for gray.
        count: Number of images, evenly spaced in the list sorted by name; ignored if ids are given.
        ids: Paths of the images to take, relative to the folder.

    Raises:
        ValueError: If fewer than `MIN_CALIBRATION` images can be decoded, or if an image in `ids` cannot.
        OSError: If the folder or an image does not exist.
    """
    check_channels(size, "; convert with --recipes=float32, which needs no photos")
    paths = calibration_paths(folder, count, None if ids is None else tuple(ids))
    if ids is None:
        paths, images = imagenet.load_images(paths, size, MIN_CALIBRATION)
    else:
        images = [imagenet.load_image(path, size) for path in paths]
    return Calibration(tuple(os.path.relpath(path, folder) for path in paths), np.stack(images))


@functools.cache  # called before the conversion, and again for the images
def calibration_paths(folder: str, count: int, ids: tuple[str, ...] | None = None) -> list[str]:
    """Paths of the images that `load_calibration` loads; raises the same errors, except for undecodable images."""
    paths = evenly(list_images(folder), count) if ids is None else [os.path.join(folder, id) for id in ids]
    missing = [path for path in paths if not os.path.isfile(path)]
    if missing:
        raise FileNotFoundError(f"{missing[0]}: no such file")
    if len(paths) < MIN_CALIBRATION:
        raise ValueError(
            f"{folder}: {len(paths)} images, but calibration needs at least {MIN_CALIBRATION} (about 128 are enough)"
        )
    return paths


def evenly(items: Sequence[str], count: int) -> list[str]:
    """Returns `count` evenly spaced items, or all if there are fewer."""
    step = max(1.0, len(items) / max(1, count))
    return [items[int(i * step)] for i in range(min(count, len(items)))]


def read_ids(path: str) -> list[str]:
    """Reads the file of --calibration_ids, one image id per line; errors name the flag."""
    try:
        with open(path, encoding="utf-8-sig") as file:
            return [line.strip() for line in file if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        reason = "not valid UTF-8" if isinstance(error, UnicodeDecodeError) else error.strerror
        raise ValueError(f"--calibration_ids={path}: cannot be read ({reason}).") from error
