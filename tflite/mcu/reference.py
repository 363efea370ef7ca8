"""The self-test's camera frame, and what fd_keras and LiteRT make of it."""

import dataclasses
import io
import os
from collections.abc import Sequence

import numpy as np
from PIL import Image

from fd_keras import imagenet, litert

_SIDES = (160, 120)  # QQVGA, 38 kB of flash in RGB565


@dataclasses.dataclass(frozen=True)
class TestFrame:
    """A camera's frame.

    Attributes:
        words: Pixels in RGB565, uint16 of shape (height, width).
    """

    __test__ = False  # pytest would take it for a test
    words: np.ndarray

    @property
    def width(self) -> int:
        """Its columns."""
        return self.words.shape[1]

    @property
    def height(self) -> int:
        """Its rows."""
        return self.words.shape[0]

    @property
    def bytes(self) -> bytes:
        """Its pixels, red in the first byte of each."""
        return self.words.astype(">u2").tobytes()

    def rgb(self) -> np.ndarray:
        """Its pixels in 8 bits, uint8 of shape (height, width, 3); the highest bits are repeated below."""
        red, green, blue = self.words >> 11, self.words >> 5 & 63, self.words & 31
        colors = [red << 3 | red >> 2, green << 2 | green >> 4, blue << 3 | blue >> 2]
        return np.stack(colors, axis=-1).astype("uint8")


def frame_of(photo: str | None, width: int, height: int) -> TestFrame:
    """A photo, or shapes in colors, as a camera's frame of at most that size.

    Raises:
        ValueError, OSError: If the photo cannot be read; see `imagenet.load_image`.
    """
    width, height = min(width, _SIDES[0]), min(height, _SIDES[1])
    pixels = imagenet.load_image(photo, (height, width), upright=True) if photo else _shapes(width, height)
    red, green, blue = np.moveaxis(pixels.astype("uint16"), -1, 0)
    return TestFrame(red >> 3 << 11 | green >> 2 << 5 | blue >> 3)


def _shapes(width: int, height: int) -> np.ndarray:
    """A disk before a gradient."""
    y, x = np.mgrid[:height, :width]
    background = np.stack([255 * x // width, 255 * y // height, 255 - 255 * x // width], axis=-1)
    inside = (2 * x - width) ** 2 + (2 * y - height) ** 2 < (min(width, height) * 2 // 3) ** 2
    return np.where(inside[..., None], (230, 120, 30), background).astype("uint8")


def image_of(frame: TestFrame, shape: Sequence[int]) -> np.ndarray:
    """The network's image of a frame by fd_keras.imagenet, uint8 of `shape`."""
    file = io.BytesIO()
    Image.fromarray(frame.rgb()).save(file, "PNG")
    file.seek(0)
    return imagenet.decode_image(file, "the frame", shape)


def scores_of(path: str | os.PathLike, image: np.ndarray) -> np.ndarray:
    """A file's scores of an image, integers of shape (classes,), by LiteRT's reference kernels, which TFLM's resemble.

    Args:
        path: Path of the .tflite file.
        image: Input values in the file's own type, of shape (height, width, channels).
    """
    litert.interpreter_class()  # says so if LiteRT is missing
    from ai_edge_litert.interpreter import OpResolverType

    interpreter = litert.load(path, experimental_op_resolver_type=OpResolverType.BUILTIN_REF)
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], image[None])
    interpreter.invoke()
    return interpreter.get_tensor(interpreter.get_output_details()[0]["index"])[0]


def fnv1a(data: bytes) -> int:
    """The 32-bit FNV-1a hash, as self_test.cc computes it."""
    value = 2166136261
    for byte in data:
        value = (value ^ byte) * 16777619 & 0xFFFFFFFF
    return value
