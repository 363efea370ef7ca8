"""Quantization as named data: what each recipe asks of the converter."""

import dataclasses
import os
from collections.abc import Sequence

import numpy as np

from fd_keras import imagenet

MIN_CALIBRATION = 8  # fewer images than that say little about an activation's range


@dataclasses.dataclass(frozen=True)
class Int8Settings:
    """The steps that `tflite.int8.pipeline` takes before the converter; each can be left out.

    Attributes:
        equalize: whether the channels of a tensor are scaled to use its levels alike.
        power: how far, from 0 to 1, those are that a convolution sums over, see `equalize.equalize`.
        clip: whether activations are clipped where the squared error is least.
        split: how many depthwise convolutions get two ranges a channel, see `equalize.split_ranges`.
        fit: ridge of the least-squares fit of each layer to the exact one; 0 leaves it out.
        compensate: whether the roundings of weights make up for each other.
        bias: whether means are corrected.
        clip_logits: whether the lowest logits are cut off before the softmax.
    """

    equalize: bool = True
    power: float = 0.75
    clip: bool = True
    split: int = 0
    fit: float = 0.3
    compensate: bool = True
    bias: bool = True
    clip_logits: bool = True


@dataclasses.dataclass(frozen=True)
class ConversionRecipe:
    """How a model's numbers are stored and computed.

    Attributes:
        name: part of the file name.
        weights: type in which weights are stored: float32, float16 or int8.
        activations: type in which layers compute: float32 or int8.
        summary: one line for people.
        settings: what is done to the network before it is converted; None: nothing.
    """

    name: str
    weights: str
    activations: str
    summary: str
    settings: Int8Settings | None = None

    @property
    def calibrated(self) -> bool:
        """Whether it needs images to measure the activations' ranges on."""
        return self.activations == "int8"


RECIPES = {
    recipe.name: recipe
    for recipe in (
        ConversionRecipe("float32", "float32", "float32", "as trained"),
        ConversionRecipe("float16", "float16", "float32", "half the size, computes in float32"),
        ConversionRecipe("dynamic", "int8", "float32", "a quarter of the size, activations quantized on the fly"),
        ConversionRecipe(
            "int8", "int8", "int8", "integers only, prepared so as to lose next to nothing", Int8Settings()
        ),
        ConversionRecipe("int8_plain", "int8", "int8", "integers only, the converter alone, for comparison"),
    )
}
IO_TYPES = ("uint8", "int8", "float32")


def get_recipes(names: Sequence[str]) -> list[ConversionRecipe]:
    """Looks recipes up by name; raises ValueError for one that does not exist, or for none."""
    unknown = [name for name in names if name not in RECIPES]
    if unknown or not names:
        asked = f"Unknown recipe {unknown[0]!r}" if unknown else "No recipe given"
        raise ValueError(f"{asked}; there are {', '.join(RECIPES)}.")
    return [RECIPES[name] for name in dict.fromkeys(names)]


@dataclasses.dataclass(frozen=True)
class Calibration:
    """The images that activation ranges are measured on.

    Attributes:
        ids: their file names, relative to the folder.
        images: uint8 of shape (count, height, width, 3).
    """

    ids: tuple[str, ...]
    images: np.ndarray


def load_calibration(folder: str, size: tuple[int, int], count: int, ids: Sequence[str] | None = None) -> Calibration:
    """Takes calibration images from a folder, cropped as for evaluation.

    Args:
        folder: of images, searched below too.
        size: (height, width) that the network takes.
        count: how many to take, evenly from all of them sorted by name, if no ids are given.
        ids: which to take: paths relative to the folder.

    Raises:
        ValueError: if there are fewer than `MIN_CALIBRATION` images, or one cannot be read.
        OSError: if the folder or an image is not there.
    """
    if ids is None:
        paths = evenly(imagenet.list_images(folder), count)
    else:
        paths = [os.path.join(folder, name) for name in ids]
    if len(paths) < MIN_CALIBRATION:
        raise ValueError(
            f"{folder}: {len(paths)} images, but calibration needs at least {MIN_CALIBRATION} (about 128 are good)."
        )
    images = np.stack([imagenet.load_image(path, size) for path in paths])
    return Calibration(tuple(os.path.relpath(path, folder) for path in paths), images)


def evenly(items: Sequence[str], count: int) -> list[str]:
    """`count` of the items at even distances, or all if there are not so many."""
    step = max(1.0, len(items) / max(1, count))
    return [items[int(i * step)] for i in range(min(count, len(items)))]


def read_ids(path: str) -> list[str]:
    """Reads a file of one image id a line; empty lines do not count."""
    with open(path, encoding="utf-8") as file:
        return [line.strip() for line in file if line.strip()]
