"""RandAugment (arXiv 1909.13719) on single photos, with Keras's augmentation layers and stateless random numbers.

A resumed run must see the same photos as an uninterrupted one, so random numbers must be a pure function of (seed,
step). `keras.layers.RandAugment` ignores its seed (Keras 3.15). So operations and signs are drawn here, and Keras's
layers only change pixels: their `transform_images` is a pure function of a photo and a transformation.
"""

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from fd_keras import imagenet

FILL = tuple(round(255 * mean) for mean in imagenet.MEAN)  # color of uncovered pixels
_OUTSIDE: Any = {"fill_mode": "constant", "dtype": "float32"}  # 0, for photos from which `FILL` was subtracted
_COLORS: Any = {"value_range": (0, 255), "dtype": "float32"}

Operation = Callable[[Any], tf.Tensor]  # takes and returns a float32 photo (1, height, width, 3), RGB 0..255


class RandAugment:
    """Applies random operations one after another.

    Must be created outside of tf.data's functions, since Keras's layers create variables.

    Args:
        count: Number of operations per photo.
        magnitude: Strength, from 0 (no change) to 10.
    """

    def __init__(self, count: int, magnitude: float):
        self._count = count
        self._choices = [make(sign * magnitude / 10) for make in OPERATIONS for sign in (1.0, -1.0)]

    @tf.autograph.experimental.do_not_convert  # converting the layers' code would take minutes
    def __call__(self, image, seed) -> tf.Tensor:
        """Augments a photo.

        Args:
            image: Photo, uint8 (height, width, 3).
            seed: Seed, int64 of shape (2,).

        Returns:
            uint8 of the same shape.
        """
        draws = tf.random.stateless_uniform([self._count], seed, 0, len(self._choices), tf.int32)
        photo = tf.cast(image[None], tf.float32)
        for index in range(self._count):
            changed = tf.switch_case(draws[index], [lambda op=op, x=photo: op(x) for op in self._choices])
            photo = tf.clip_by_value(tf.round(tf.ensure_shape(changed, photo.shape)), 0, 255)
        return tf.cast(photo[0], tf.uint8)


def _on_tensorflow(layer: Any) -> Any:
    """Makes a layer run inside tf.data on any backend, as its `__call__` would."""
    layer.backend.set_backend("tensorflow")
    return layer


def _moved(layer: Any, transformation: Callable[[Any], Any]) -> Operation:
    """Applies a layer to photos from which `FILL` is subtracted meanwhile, since layers fill with a single number."""
    layer = _on_tensorflow(layer)
    return lambda photo: layer.transform_images(photo - FILL, transformation(photo)) + FILL


def _colored(layer: Any, **transformation: Any) -> Operation:
    layer = _on_tensorflow(layer)
    return lambda photo: layer.transform_images(photo, transformation)


def rotate(strength: float) -> Operation:
    """Rotates by up to 30 degrees."""
    layer = keras.layers.RandomRotation((strength / 12, strength / 12), **_OUTSIDE)
    return _moved(layer, lambda photo: layer.get_random_transformation(photo, seed=0))  # equal bounds: not random


def shear_x(strength: float) -> Operation:
    """Shears horizontally by up to 0.3 of the height, with a fixed upper edge."""
    return _moved(
        keras.layers.RandomShear(**_OUTSIDE), lambda photo: {"shear_factor": tf.constant([[0.3 * strength, 0]])}
    )


def shear_y(strength: float) -> Operation:
    """Shears vertically by up to 0.3 of the width, with a fixed left edge."""
    return _moved(
        keras.layers.RandomShear(**_OUTSIDE), lambda photo: {"shear_factor": tf.constant([[0, 0.3 * strength]])}
    )


def translate_x(strength: float) -> Operation:
    """Moves horizontally by up to 0.45 of the width."""
    return _translated(0.45 * strength, 0.0)


def translate_y(strength: float) -> Operation:
    """Moves vertically by up to 0.45 of the height."""
    return _translated(0.0, 0.45 * strength)


def _translated(along: float, down: float) -> Operation:
    """Moves by whole pixels; distances are shares of width and height."""

    def shift(photo) -> dict[str, tf.Tensor]:
        height, width = tf.unstack(tf.cast(tf.shape(photo)[1:3], tf.float32))
        return {"translations": tf.round(tf.stack([along * width, down * height]))[None]}

    return _moved(keras.layers.RandomTranslation(0.0, 0.0, **_OUTSIDE), shift)


def brightness(strength: float) -> Operation:
    """Multiplies pixels by 0.1 to 1.9; Keras's layer adds a constant instead, which washes photos out."""
    return lambda photo: photo * (1 + 0.9 * strength)


def contrast(strength: float) -> Operation:
    """Multiplies the distance from each channel's mean by 0.1 to 1.9."""
    return _colored(keras.layers.RandomContrast(0.0, **_COLORS), contrast_factor=1 + 0.9 * strength)


def color(strength: float) -> Operation:
    """Multiplies the distance from gray by 0.1 to 1.9."""
    return _colored(keras.layers.RandomColorDegeneration(0.0, **_COLORS), factor=-0.9 * strength)


def sharpness(strength: float) -> Operation:
    """Multiplies the distance from the smoothed photo by 0.1 to 1.9."""
    sharpened = _colored(keras.layers.RandomSharpness(0.0, **_COLORS), factor=tf.constant([(1 + 0.9 * strength) / 2]))
    edges = [[0, 0], [1, 1], [1, 1], [0, 0]]  # the layer would pad with black
    return lambda photo: sharpened(tf.pad(photo, edges, "SYMMETRIC"))[:, 1:-1, 1:-1]


def posterize(strength: float) -> Operation:
    """Removes up to 4 bits of each value."""
    shift = tf.constant([round(4 * abs(strength))], tf.uint8)
    return _colored(keras.layers.RandomPosterization(8, **_COLORS), shift_factor=shift)


def solarize(strength: float) -> Operation:
    """Inverts values above a threshold."""
    return _colored(keras.layers.Solarization(**_COLORS), additions=0.0, thresholds=256 * (1 - abs(strength)))


def auto_contrast(strength: float) -> Operation:
    """Stretches each channel to the full range."""
    return _colored(keras.layers.AutoContrast(**_COLORS))


def equalize(strength: float) -> Operation:
    """Equalizes the histogram of each channel as PIL does; Keras's layer takes 768 comparisons on JAX."""
    return lambda photo: tf.stack([_equalized(photo[0, ..., channel]) for channel in range(3)], axis=-1)[None]


def _equalized(values) -> tf.Tensor:
    levels = tf.cast(values, tf.int32)
    histogram = tf.math.bincount(tf.reshape(levels, [-1]), minlength=256, maxlength=256)
    step = (tf.reduce_sum(histogram) - tf.boolean_mask(histogram, histogram > 0)[-1]) // 255
    table = tf.clip_by_value((tf.cumsum(histogram, exclusive=True) + step // 2) // tf.maximum(step, 1), 0, 255)
    return tf.where(step > 0, tf.cast(tf.gather(table, levels), tf.float32), values)


OPERATIONS: tuple[Callable[[float], Operation], ...] = (
    lambda strength: lambda photo: photo,
    rotate, shear_x, shear_y, translate_x, translate_y, brightness, contrast, color, sharpness,
    posterize, solarize, auto_contrast, equalize,
)  # fmt: skip
