"""Decoding, and the crops of training and evaluation: TensorFlow graphs equal to torchvision's on PIL images."""

import math

import tensorflow as tf

from fd_keras import imagenet
from training.recipes import RATIO

TRIES = 10  # torchvision's, before it falls back on a central crop


def random_box(height, width, seed, crop_scale: float) -> tf.Tensor:
    """The box of torchvision's RandomResizedCrop.

    Area and logarithm of the aspect ratio are uniform; of ten tries the first that fits is taken, else the largest
    central crop of an allowed ratio. (`tf.image.sample_distorted_bounding_box` has other distributions.)

    Args:
        height: of the image, int32.
        width: of the image, int32.
        seed: int64 of shape (2,); the box is a pure function of it.
        crop_scale: least share of the area.

    Returns:
        int32 (top, left, height, width).
    """
    draws = tf.random.stateless_uniform([4, TRIES], seed, dtype=tf.float32)
    rows, columns = tf.cast(height, tf.float32), tf.cast(width, tf.float32)
    area = rows * columns * (crop_scale + (1 - crop_scale) * draws[0])
    low, high = (math.log(ratio) for ratio in RATIO)
    ratio = tf.exp(low + (high - low) * draws[1])
    heights, widths = tf.round(tf.sqrt(area / ratio)), tf.round(tf.sqrt(area * ratio))
    fits = (heights > 0) & (heights <= rows) & (widths > 0) & (widths <= columns)
    tops, lefts = tf.floor(draws[2] * (rows - heights + 1)), tf.floor(draws[3] * (columns - widths + 1))
    boxes = tf.concat([tf.stack([tops, lefts, heights, widths], axis=1), [_central_box(rows, columns)]], axis=0)
    first = tf.argmax(tf.concat([fits, [True]], axis=0))
    return tf.cast(boxes[first], tf.int32)


def _central_box(rows, columns):
    """The largest central crop whose ratio is within `RATIO`."""
    height = tf.where(columns / rows < RATIO[0], tf.round(columns / RATIO[0]), rows)
    width = tf.where(columns / rows > RATIO[1], tf.round(rows * RATIO[1]), columns)
    return tf.stack([(rows - height) // 2, (columns - width) // 2, height, width])


def is_jpeg(data) -> tf.Tensor:
    """Whether encoded bytes begin as a JPEG does."""
    return tf.strings.substr(data, 0, 3) == b"\xff\xd8\xff"


def decode(data) -> tf.Tensor:
    """uint8 RGB (height, width, 3) of an encoded photo: of a JPEG what PIL makes of it, bit for bit."""
    return tf.cond(
        is_jpeg(data),
        lambda: tf.io.decode_jpeg(data, channels=3, dct_method="INTEGER_ACCURATE"),
        lambda: tf.io.decode_image(data, channels=3, expand_animations=False),
    )


def train_crop(data, seed, size: int, crop_scale: float, antialias: bool) -> tf.Tensor:
    """Decodes a random crop of an encoded photo and resizes it.

    Of a JPEG only the crop is decoded, with the fast inverse transform.

    Args:
        data: bytes of a JPEG, PNG, GIF or BMP.
        seed: int64 of shape (2,).
        size: side of the result.
        crop_scale: see `random_box`.
        antialias: see `Recipe.antialias`.

    Returns:
        uint8 of shape (size, size, 3).
    """

    def jpeg():
        shape = tf.io.extract_jpeg_shape(data)
        box = random_box(shape[0], shape[1], seed, crop_scale)
        return tf.io.decode_and_crop_jpeg(data, box, channels=3)

    def other():
        image = tf.io.decode_image(data, channels=3, expand_animations=False)
        top, left, height, width = tf.unstack(random_box(tf.shape(image)[0], tf.shape(image)[1], seed, crop_scale))
        return image[top : top + height, left : left + width]

    return _resize(tf.cond(is_jpeg(data), jpeg, other), (size, size), antialias)


def eval_crop(data, size: int) -> tf.Tensor:
    """Decodes a photo and crops it for evaluation: Resize(256) and CenterCrop(224) on PIL, within one grey level.

    Args:
        data: bytes of a JPEG, PNG, GIF or BMP.
        size: side of the result; the resize is in proportion (256 for 224).

    Returns:
        uint8 of shape (size, size, 3).
    """
    image = decode(data)
    short = imagenet.resize_target((size, size))[0]
    height, width = tf.shape(image)[0], tf.shape(image)[1]
    shortest = tf.minimum(height, width)
    # As `imagenet.resized_size`: the long side is truncated, in float64 as Python does.
    long = tf.cast(
        tf.math.floor(tf.cast(short * tf.maximum(height, width), tf.float64) / tf.cast(shortest, tf.float64)), tf.int32
    )
    target = tf.where(height <= width, tf.stack([short, long]), tf.stack([long, short]))
    image = _resize(image, target, antialias=True)
    # As `imagenet.crop_offset`: halves go to the even side.
    top, left = tf.unstack(tf.cast(tf.round(tf.cast(target - size, tf.float64) / 2), tf.int32))
    return tf.ensure_shape(image[top : top + size, left : left + size], (size, size, 3))


def _resize(image, size, antialias: bool):
    """Bilinear, rounded to uint8; both ways average with weights that sum to 1, so nothing has to be clipped."""
    if antialias:
        image = tf.image.resize(image, size, antialias=True)
    else:  # what tf.image.resize calls, without its work on shapes
        image = tf.raw_ops.ResizeBilinear(images=image[None], size=size, half_pixel_centers=True)[0]
    return tf.cast(tf.round(image), tf.uint8)
