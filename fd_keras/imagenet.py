"""ImageNet's conventions, defined only here: mean and std, resize and crop, class names."""

import functools
import importlib.resources
import logging
import os
from collections.abc import Sequence
from typing import IO, Any

import numpy as np

from fd_keras import photos

# Of RGB in 0..1, as in torchvision's models and all known FD-MobileNet checkpoints.
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
SIZE = 224  # side of the square image that the networks were trained on
RESIZE = 256  # short side before the central crop of `SIZE`
CLASSES = 1000


def statistics(channels: int = 3) -> tuple[list[float], list[float]]:
    """Mean and standard deviation per channel, for images in 0..1: ImageNet's for RGB, their average otherwise."""
    if channels == len(MEAN):
        return list(MEAN), list(STD)
    return [sum(MEAN) / len(MEAN)] * channels, [sum(STD) / len(STD)] * channels


def rescaling(channels: int = 3) -> dict[str, list[float]]:
    """Scale and offset per channel that map pixels 0..255 to the networks' normalized input."""
    means, deviations = statistics(channels)
    scale = [1 / (255 * deviation) for deviation in deviations]
    return {"scale": scale, "offset": [-mean / std for mean, std in zip(means, deviations, strict=True)]}


def preprocess_input(x: Any, include_preprocessing: bool = True) -> Any:
    """Prepares raw pixels for a model that was built with the same `include_preprocessing`.

    Args:
        x: Array or tensor of pixels 0..255, shape (..., channels); RGB unless the model takes other channels.
        include_preprocessing: True (the applications' default): the model normalizes by itself, and `x` is
            returned unchanged, as in Keras's MobileNetV3. False: mean and std are applied here.

    Returns:
        The model's input, of the same shape as `x`.
    """
    if include_preprocessing:
        return x
    if not isinstance(x, np.ndarray):
        import keras

        x = keras.ops.cast(x, "float32")
    scale, offset = (np.asarray(values, "float32") for values in rescaling(x.shape[-1]).values())
    return x * scale + offset


@functools.cache
def _classes() -> tuple[tuple[str, str], ...]:
    text = (importlib.resources.files("fd_keras") / "imagenet_classes.tsv").read_text("utf-8")
    rows = (line.split("\t") for line in text.splitlines())
    return tuple((wordnet_id, name) for wordnet_id, name in rows)


def wordnet_ids() -> tuple[str, ...]:
    """The 1000 WordNet ids, such as "n01440764", in label order."""
    return tuple(wordnet_id for wordnet_id, _ in _classes())


def class_names() -> tuple[str, ...]:
    """The 1000 class names in label order ("crane" and "maillot" each name two classes)."""
    return tuple(name for _, name in _classes())


def top_classes(scores: np.ndarray, top: int) -> np.ndarray:
    """Indices of the `top` largest scores of each row, largest first; shape (batch, top)."""
    return np.argsort(-scores, axis=-1, kind="stable")[:, :top]


def decode_predictions(preds: Any, top: int = 5) -> list[list[tuple[str, str, float]]]:
    """Names the most probable ImageNet classes, like `keras.applications`, but without a download.

    Args:
        preds: Array of shape (batch, 1000).
        top: Number of classes for each image.

    Returns:
        For each image a list of (WordNet id, class name, score), best first. Names are spelled as in Keras:
        "giant_panda", where `class_names` has "giant panda".

    Raises:
        ValueError: If `preds` does not have that shape.
    """
    preds = np.asarray(preds)
    if preds.ndim != 2 or preds.shape[1] != CLASSES:
        raise ValueError(
            f"decode_predictions needs predictions of the {CLASSES} ImageNet classes, of shape (batch, {CLASSES}); "
            f"got {preds.shape}. For a model with other classes, use its own class names."
        )
    rows = zip(top_classes(preds, top), preds, strict=True)
    named = [(wordnet_id, name.replace(" ", "_")) for wordnet_id, name in _classes()]
    return [[(*named[i], float(row[i])) for i in best] for best, row in rows]


def resized_size(height: int, width: int, target: Sequence[int]) -> tuple[int, int]:
    """Size of an image resized to just cover `target` (height, width).

    For a square target this is torchvision's Resize, which rounds the longer side down.
    """
    if height * target[1] <= width * target[0]:
        return target[0], max(target[1], int(target[0] * width / height))
    return max(target[0], int(target[1] * height / width)), target[1]


def crop_offset(height: int, width: int, size: Sequence[int]) -> tuple[int, int]:
    """Top and left of the central crop, with torchvision's rounding."""
    return round((height - size[0]) / 2), round((width - size[1]) / 2)


def resize_target(size: Sequence[int]) -> tuple[int, int]:
    """Size to resize to before a central crop of `size`: 256 for 224, and proportional for other sizes."""
    height, width = (side * RESIZE // SIZE for side in size)
    return height, width


def load_image(
    path: str | os.PathLike, size: Sequence[int] = (SIZE, SIZE), *, resize: bool = True, upright: bool = False
) -> np.ndarray:
    """Decodes an image file and crops it exactly like the reference evaluation.

    This is PIL's decoder, bilinear resize and central crop: torchvision's Resize(256), CenterCrop(224). Grayscale,
    palette and CMYK images are converted to RGB; transparency is dropped; an animation's first frame is used.

    Args:
        path: Any file that PIL reads.
        size: (height, width) of the result, or (height, width, channels): 3 for RGB, 1 for gray by PIL's conversion.
        resize: Whether to resize first; if not, the central `size` pixels are cropped, and smaller images are an error.
        upright: Whether to rotate a photo by its EXIF orientation. The reference does not.

    Returns:
        uint8 of shape (height, width, channels).

    Raises:
        ValueError: If the file is not an image, or is broken or too small; the message names it.
        OSError: If the file cannot be read.
    """
    return decode_image(path, os.fspath(path), size, resize=resize, upright=upright)


def decode_image(
    file: str | os.PathLike | IO[bytes], name: str, size: Sequence[int], *, resize: bool = True, upright: bool = False
) -> np.ndarray:
    """Does what `load_image` does for a path or an open file; `name` is used in error messages."""
    from PIL import Image, ImageOps

    try:
        with photos.opened(file) as opened:
            image = photos.rgb(ImageOps.exif_transpose(opened) if upright else opened)
    except ValueError as error:
        raise ValueError(f"{name}: {error}.") from error
    *size, channels = (*size, 3)[:3]
    if channels == 1:
        image = image.convert("L")
    if resize:
        image = without_far_ends(image)
        height, width = resized_size(image.height, image.width, resize_target(size))
        image = image.resize((width, height), Image.Resampling.BILINEAR)
    if image.height < size[0] or image.width < size[1]:
        raise ValueError(
            f"{name}: {image.width}x{image.height} pixels, too small for a crop of {size[1]}x{size[0]} without "
            "resizing."
        )
    top, left = crop_offset(image.height, image.width, size)
    cropped = np.asarray(image.crop((left, top, left + size[1], top + size[0])))
    return cropped.reshape(*size, channels)


def load_images(paths: Sequence[str], size: Sequence[int], least: int = 1) -> tuple[list[str], list[np.ndarray]]:
    """Decodes image files, see `load_image`; skips and logs those that cannot be decoded.

    Args:
        paths: Paths of the files.
        size: (height, width) of the images, or (height, width, channels).
        least: Minimum number of images.

    Returns:
        Paths and images, each uint8 (height, width, channels).

    Raises:
        ValueError: If there are fewer images; the message names files that cannot be decoded.
        OSError: If a file cannot be read.
    """
    found, bad = {}, []
    for path in paths:
        try:
            found[path] = load_image(path, size)
        except ValueError as error:
            bad.append(str(error).rstrip("."))
    left_out = photos.counted(photos.UNDECODABLE, bad)
    if len(found) < least:
        raise ValueError(f"need at least {least} images, found {len(found)}; skipped {left_out}")
    if bad:
        logging.warning("skipped %s", left_out)
    return list(found), list(found.values())


LONGEST = 64  # maximum ratio of the long side to the short side


def without_far_ends(image):
    """Crops an extremely long and thin image to its middle, the only part that the central crop shows.

    Resizing the whole image, as the reference does, would take 12 GB for 60000 x 1 pixels.
    """
    width, height = (min(side, LONGEST * min(image.size)) for side in image.size)
    if (width, height) == image.size:
        return image
    top, left = crop_offset(image.height, image.width, (height, width))
    return image.crop((left, top, left + width, top + height))
