"""The camera frame for the self-test, its preprocessing by fd_keras and its scores by LiteRT."""

import dataclasses
import io
import os
from collections.abc import Sequence

import numpy as np
from PIL import Image

from fd_keras import imagenet, litert

_SIDES = (160, 120)  # maximum (width, height), QQVGA: 38 kB of flash in RGB565


@dataclasses.dataclass(frozen=True)
class TestFrame:
    """A camera frame.

    Attributes:
        words: Pixels in RGB565, uint16 of shape (height, width).
    """

    __test__ = False  # otherwise pytest collects the class
    words: np.ndarray

    @property
    def width(self) -> int:
        """Number of columns."""
        return self.words.shape[1]

    @property
    def height(self) -> int:
        """Number of rows."""
        return self.words.shape[0]

    @property
    def bytes(self) -> bytes:
        """The pixels as big-endian RGB565: red is in the first byte."""
        return self.words.astype(">u2").tobytes()

    def rgb(self) -> np.ndarray:
        """Converts to uint8 RGB of shape (height, width, 3); the high bits are repeated in the low bits."""
        red, green, blue = self.words >> 11, self.words >> 5 & 63, self.words & 31
        colors = [red << 3 | red >> 2, green << 2 | green >> 4, blue << 3 | blue >> 2]
        return np.stack(colors, axis=-1).astype("uint8")


def frame_of(photo: str | None, width: int, height: int) -> TestFrame:
    """Converts a photo, or colored shapes if `photo` is None, to a frame of at most this size and 160 x 120.

    Raises:
        ValueError, OSError: If the photo cannot be read; see `imagenet.load_image`.
    """
    width, height = min(width, _SIDES[0]), min(height, _SIDES[1])
    pixels = imagenet.load_image(photo, (height, width), upright=True) if photo else _shapes(width, height)
    red, green, blue = np.moveaxis(pixels.astype("uint16"), -1, 0)
    return TestFrame(red >> 3 << 11 | green >> 2 << 5 | blue >> 3)


def _shapes(width: int, height: int) -> np.ndarray:
    """Draws a disk on a gradient, uint8 RGB of shape (height, width, 3)."""
    y, x = np.mgrid[:height, :width]
    background = np.stack([255 * x // width, 255 * y // height, 255 - 255 * x // width], axis=-1)
    inside = (2 * x - width) ** 2 + (2 * y - height) ** 2 < (min(width, height) * 2 // 3) ** 2
    return np.where(inside[..., None], (230, 120, 30), background).astype("uint8")


def image_of(frame: TestFrame, shape: Sequence[int]) -> np.ndarray:
    """Preprocesses a frame with fd_keras.imagenet; returns a uint8 image of `shape`."""
    file = io.BytesIO()
    Image.fromarray(frame.rgb()).save(file, "PNG")
    file.seek(0)
    return imagenet.decode_image(file, "the frame", shape)


def scores_of(path: str | os.PathLike, image: np.ndarray) -> np.ndarray:
    """Runs a file with LiteRT's reference kernels, which are close to TFLM's.

    Args:
        path: Path of the .tflite file.
        image: Input in the file's own type, of shape (height, width, channels).

    Returns:
        Integer scores of shape (classes,).
    """
    litert.interpreter_class()  # raises an error with the install command if LiteRT is missing
    from ai_edge_litert.interpreter import OpResolverType

    interpreter = litert.load(path, experimental_op_resolver_type=OpResolverType.BUILTIN_REF)
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], image[None])
    interpreter.invoke()
    return interpreter.get_tensor(interpreter.get_output_details()[0]["index"])[0]


def fnv1a(data: bytes) -> int:
    """Computes the 32-bit FNV-1a hash, like self_test.cc."""
    value = 2166136261
    for byte in data:
        value = (value ^ byte) * 16777619 & 0xFFFFFFFF
    return value
