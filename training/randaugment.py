"""RandAugment (arXiv 1909.13719) on single photos, from stateless operations.

A resumed run has to see the photos of the uninterrupted one, so what is drawn must be a pure function of (seed, step).
keras-cv's layers keep random state of their own and cannot do that. Most of Keras core's can: `RandomBrightness` and
the like take a seed in `get_random_transformation`, and could replace operations here. Its `RandAugment` ignores that
seed (3.15), so the choice of operations would stay.
"""

import math

import tensorflow as tf

from fd_keras import imagenet

FILL = tuple(round(255 * mean) for mean in imagenet.MEAN)  # what shows where a photo was moved away


def augment(image, seed, count: int, magnitude: float) -> tf.Tensor:
    """Applies `count` random operations in turn.

    Args:
        image: Photo, uint8 (height, width, 3).
        seed: Seed, int64 of shape (2,).
        count: Number of operations.
        magnitude: Strength, from 0 (nothing) to 10.

    Returns:
        uint8 of the same shape.
    """
    draws = tf.random.stateless_uniform([count, 2], seed)
    strength = magnitude / 10
    for index in range(count):
        which = tf.cast(draws[index, 0] * len(OPERATIONS), tf.int32)
        sign = tf.where(draws[index, 1] < 0.5, -1.0, 1.0)
        image = tf.switch_case(which, [lambda op=op, x=image, s=sign: op(x, strength, s) for op in OPERATIONS])
    return image


def _to_uint8(image):
    return tf.cast(tf.clip_by_value(tf.round(image), 0, 255), tf.uint8)


def _blend(base, image, factor):
    """(1 - factor) * base + factor * image; factors above 1 go beyond the image."""
    base, image = tf.cast(base, tf.float32), tf.cast(image, tf.float32)
    return _to_uint8(base + factor * (image - base))


def _gray(image):
    return tf.image.grayscale_to_rgb(tf.image.rgb_to_grayscale(image))


def _affine(image, transform):
    """Maps output (x, y) to input (a x + b y + c, d x + e y + f); nearest pixel, `FILL` outside."""
    inside = tf.concat(
        [tf.cast(image, tf.float32) - tf.constant(FILL, tf.float32), tf.ones_like(image[..., :1], tf.float32)], -1
    )
    moved = tf.raw_ops.ImageProjectiveTransformV3(
        images=inside[None], transforms=tf.concat([transform, [0.0, 0.0]], 0)[None], output_shape=tf.shape(image)[:2],
        fill_value=0.0, interpolation="NEAREST", fill_mode="CONSTANT",
    )  # fmt: skip
    return _to_uint8(moved[0, ..., :3] + tf.constant(FILL, tf.float32))


def _size(image):
    height, width = tf.unstack(tf.cast(tf.shape(image)[:2], tf.float32))
    return height, width


def _rotate(image, strength, sign):
    height, width = _size(image)
    angle = sign * strength * math.pi / 6
    cos, sin, x, y = tf.cos(angle), tf.sin(angle), (width - 1) / 2, (height - 1) / 2
    return _affine(image, tf.stack([cos, -sin, x - cos * x + sin * y, sin, cos, y - sin * x - cos * y]))


def _shear_x(image, strength, sign):
    shear = sign * strength * 0.3
    return _affine(image, tf.stack([1.0, shear, -shear * _size(image)[0] / 2, 0.0, 1.0, 0.0]))


def _shear_y(image, strength, sign):
    shear = sign * strength * 0.3
    return _affine(image, tf.stack([1.0, 0.0, 0.0, shear, 1.0, -shear * _size(image)[1] / 2]))


def _translate_x(image, strength, sign):
    return _affine(image, tf.stack([1.0, 0.0, tf.round(sign * strength * 0.45 * _size(image)[1]), 0.0, 1.0, 0.0]))


def _translate_y(image, strength, sign):
    return _affine(image, tf.stack([1.0, 0.0, 0.0, 0.0, 1.0, tf.round(sign * strength * 0.45 * _size(image)[0])]))


def _brightness(image, strength, sign):
    return _blend(tf.zeros_like(image), image, 1 + sign * strength * 0.9)


def _contrast(image, strength, sign):
    mean = tf.round(tf.reduce_mean(tf.cast(tf.image.rgb_to_grayscale(image), tf.float32)))
    return _blend(tf.fill(tf.shape(image), mean), image, 1 + sign * strength * 0.9)


def _color(image, strength, sign):
    return _blend(_gray(image), image, 1 + sign * strength * 0.9)


def _sharpness(image, strength, sign):
    kernel = tf.constant([[1, 1, 1], [1, 5, 1], [1, 1, 1]], tf.float32) / 13
    kernel = tf.tile(kernel[:, :, None, None], [1, 1, 3, 1])
    padded = tf.pad(tf.cast(image, tf.float32)[None], [[0, 0], [1, 1], [1, 1], [0, 0]], "SYMMETRIC")
    smooth = tf.nn.depthwise_conv2d(padded, kernel, [1, 1, 1, 1], "VALID")[0]
    return _blend(smooth, image, 1 + sign * strength * 0.9)


def _posterize(image, strength, sign):
    shift = tf.cast(tf.round(strength * 4.0), tf.uint8)
    return tf.bitwise.left_shift(tf.bitwise.right_shift(image, shift), shift)


def _solarize(image, strength, sign):
    return tf.where(tf.cast(image, tf.float32) >= 256 * (1 - strength), 255 - image, image)


def _autocontrast(image, strength, sign):
    values = tf.cast(image, tf.float32)
    low, high = tf.reduce_min(values, (0, 1)), tf.reduce_max(values, (0, 1))
    stretched = (values - low) * 255 / tf.maximum(high - low, 1)
    return _to_uint8(tf.where(high > low, stretched, values))


def _equalize(image, strength, sign):
    """PIL's equalize: every channel's gray levels become about equally frequent."""

    def channel(values):
        histogram = tf.math.bincount(tf.cast(tf.reshape(values, [-1]), tf.int32), minlength=256, maxlength=256)
        used = tf.boolean_mask(histogram, histogram > 0)
        step = (tf.reduce_sum(histogram) - used[-1]) // 255
        table = tf.clip_by_value((tf.cumsum(histogram, exclusive=True) + step // 2) // tf.maximum(step, 1), 0, 255)
        return tf.where(step > 0, tf.cast(tf.gather(table, tf.cast(values, tf.int32)), tf.uint8), values)

    return tf.stack([channel(image[..., index]) for index in range(3)], axis=-1)


OPERATIONS = (
    lambda image, strength, sign: image,
    _rotate, _shear_x, _shear_y, _translate_x, _translate_y, _brightness, _contrast, _color, _sharpness,
    _posterize, _solarize, _autocontrast, _equalize,
)  # fmt: skip
