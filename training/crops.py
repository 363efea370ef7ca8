"""Decodes and crops photos for training and evaluation in TensorFlow graphs, as torchvision does with PIL images."""

import functools
import io
import math
from collections.abc import Sequence

import cv2
import numpy as np
import tensorflow as tf

from fd_keras import imagenet, photos
from fd_keras.training.recipes import RATIO, TRIES


def draw_boxes(count: int, seed, crop_scale: float) -> tf.Tensor:
    """Draws the random numbers of torchvision's RandomResizedCrop for a batch of photos of unknown sizes.

    Area and logarithm of the aspect ratio are uniformly distributed, unlike in
    `tf.image.sample_distorted_bounding_box`. Drawing for many photos at once takes almost no time.

    Args:
        count: Number of photos.
        seed: Seed, int64 of shape (2,); the draws are a pure function of it.
        crop_scale: Minimum share of a photo's area in its crop.

    Returns:
        float32 of shape (count, 4, TRIES), the input of `random_box` for each photo: height and width relative to the
        square root of the photo's area, and the vertical and horizontal position from 0 (top, left) to 1.
    """
    draws = tf.random.stateless_uniform([count, 4, TRIES], seed)
    area = crop_scale + (1 - crop_scale) * draws[:, 0]
    low, high = (math.log(ratio) for ratio in RATIO)
    ratio = tf.exp(low + (high - low) * draws[:, 1])
    return tf.concat([tf.sqrt(tf.stack([area / ratio, area * ratio], axis=1)), draws[:, 2:]], axis=1)


def random_box(shape, draw) -> tf.Tensor:
    """Computes the box of torchvision's RandomResizedCrop: the first of ten tries that fits, or a central crop.

    It uses few operations, since each of them costs time for each photo in tf.data.

    Args:
        shape: Size of the photo, int32 (height, width).
        draw: Random numbers for the photo from `draw_boxes`, of shape (4, TRIES).

    Returns:
        int32 (top, left, height, width).
    """
    sides = tf.cast(shape, tf.float32)[:, None]
    sizes = tf.round(draw[:2] * tf.sqrt(sides[0] * sides[1]))
    fits = tf.reduce_all((sizes > 0) & (sizes <= sides), axis=0)
    # The largest central crop with an allowed aspect ratio: no side is longer than 4/3 of the other.
    central = tf.minimum(sides, tf.round(sides[::-1] * RATIO[1]))
    sizes = tf.concat([sizes, central], axis=1)
    first = tf.argmax(tf.concat([fits, [True]], axis=0))
    corners = tf.floor(tf.concat([draw[2:], _MIDDLE], axis=1) * (sides - sizes + _ONE_MORE))
    return tf.cast(tf.concat([corners, sizes], axis=0)[:, first], tf.int32)


_MIDDLE = [[0.5], [0.5]]
_ONE_MORE = [[1.0] * TRIES + [0.0]]  # a random offset is one of the n + 1 integers in 0..n; the middle is at n / 2


def is_jpeg(data) -> tf.Tensor:
    """Whether encoded bytes start with the signature of a JPEG."""
    return tf.strings.substr(data, 0, 3) == b"\xff\xd8\xff"


def decode(data) -> tf.Tensor:
    """Decodes a photo to uint8 RGB of shape (height, width, 3), bit-identical to PIL."""
    return tf.cond(
        _is_usual_jpeg(data),
        lambda: tf.io.decode_jpeg(data, channels=3, dct_method="INTEGER_ACCURATE"),
        lambda: _decode_other(data),
    )


def _is_usual_jpeg(data) -> tf.Tensor:
    """Whether it is a JPEG with at most `photos.MAX_PIXELS` pixels."""

    def fits():
        return tf.reduce_prod(tf.cast(tf.io.extract_jpeg_shape(data)[:2], tf.int64)) <= photos.MAX_PIXELS

    return tf.cond(is_jpeg(data), fits, lambda: tf.constant(False))


def _is_usual_png(data) -> tf.Tensor:
    """Whether it is a PNG with at most `photos.MAX_PIXELS` pixels; its width and height are at byte 16."""
    sides = tf.io.decode_raw(tf.strings.substr(data, 16, 8), tf.int32, little_endian=False)
    fits = tf.reduce_prod(tf.cast(sides, tf.int64)) <= photos.MAX_PIXELS
    return (tf.strings.substr(data, 0, 8) == b"\x89PNG\r\n\x1a\n") & fits


def _decode_other(data) -> tf.Tensor:
    """Decodes other formats and huge photos; TensorFlow cannot decode TIFF and WebP, and decodes others differently."""
    decoded = tf.cond(
        _is_usual_png(data),
        lambda: tf.io.decode_png(data, channels=3),
        lambda: tf.numpy_function(_by_pil, [data], tf.uint8, stateful=False),
    )
    return tf.ensure_shape(decoded, (None, None, 3))


def _by_pil(data: bytes) -> np.ndarray:
    with photos.opened(io.BytesIO(data)) as image:
        return np.asarray(photos.rgb(image))


def train_crops(data: Sequence, draws: Sequence, size: int, antialias: bool, jpegs: bool = False) -> tf.Tensor:
    """Decodes a random crop of each encoded photo and resizes it.

    Only the crop of a JPEG is decoded, with the fast inverse transform.

    Args:
        data: Bytes of each photo, in any format of `photos.SUFFIXES`.
        draws: Random numbers for each photo, see `random_box`; the crop is a pure function of them.
        size: Side of the crops in pixels.
        antialias: Whether to shrink with PIL's filter, see `TrainingRecipe.antialias`.
        jpegs: Whether all photos are known to be JPEGs, which saves a check.

    Returns:
        uint8 of shape (photos, size, size, 3).
    """
    # Traced once, not for each photo, which would take seconds in every epoch.
    decode_crop = tf.function(
        _decode_jpeg_crop if jpegs else _decode_crop,
        input_signature=[tf.TensorSpec([], tf.string), tf.TensorSpec([4, TRIES], tf.float32)],
        autograph=False,
    )
    images = [decode_crop(*photo) for photo in zip(data, draws, strict=True)]
    if antialias:
        return tf.stack([_resize(image, (size, size)) for image in images])
    resized = tf.numpy_function(functools.partial(_plain_resize, size), images, tf.uint8, stateful=False)
    return tf.ensure_shape(resized, (len(images), size, size, 3))


def _decode_jpeg_crop(data, draw):
    return tf.io.decode_and_crop_jpeg(data, random_box(tf.io.extract_jpeg_shape(data)[:2], draw), channels=3)


def _decode_crop(data, draw):
    def other():
        image = _decode_other(data)
        top, left, height, width = tf.unstack(random_box(tf.shape(image)[:2], draw))
        return image[top : top + height, left : left + width]

    return tf.cond(_is_usual_jpeg(data), lambda: _decode_jpeg_crop(data, draw), other)


def _plain_resize(size: int, *images: np.ndarray) -> np.ndarray:
    """Bilinear resize without a filter by OpenCV; TensorFlow's operation has no SIMD and is several times slower."""
    cv2.setNumThreads(0)  # tf.data already runs this in several threads
    resized = np.empty((len(images), size, size, 3), "uint8")
    for image, target in zip(images, resized, strict=True):
        cv2.resize(image, (size, size), dst=target, interpolation=cv2.INTER_LINEAR)
    return resized


def eval_crop(data, size: int) -> tf.Tensor:
    """Decodes a photo and crops it for evaluation, as torchvision's Resize(256) and CenterCrop(224) do on PIL images.

    The pixels differ from theirs by at most one gray level.

    Args:
        data: Bytes of a photo, in any format of `photos.SUFFIXES`.
        size: Side of the crop in pixels; the resized short side is in proportion (256 for 224).

    Returns:
        uint8 of shape (size, size, 3).
    """
    image = _without_far_ends(decode(data))
    short = imagenet.resize_target((size, size))[0]
    height, width = tf.shape(image)[0], tf.shape(image)[1]
    shortest = tf.minimum(height, width)
    # As in `imagenet.resized_size`: the long side is computed in float64, as in Python, and truncated.
    long = tf.cast(
        tf.math.floor(tf.cast(short * tf.maximum(height, width), tf.float64) / tf.cast(shortest, tf.float64)), tf.int32
    )
    target = tf.where(height <= width, tf.stack([short, long]), tf.stack([long, short]))
    image = _resize(image, target)
    # As in `imagenet.crop_offset`: halves are rounded to even.
    top, left = tf.unstack(tf.cast(tf.round(tf.cast(target - size, tf.float64) / 2), tf.int32))
    return tf.ensure_shape(image[top : top + size, left : left + size], (size, size, 3))


def _without_far_ends(image):
    """Cuts off the ends of a long thin image, as `imagenet.without_far_ends` does, so that it fits into memory."""
    shape = tf.shape(image)[:2]
    height, width = tf.unstack(tf.minimum(shape, imagenet.LONGEST * tf.reduce_min(shape)))
    top, left = tf.unstack(tf.cast(tf.round((shape - [height, width]) / 2), tf.int32))
    return image[top : top + height, left : left + width]


def _resize(image, size):
    """Bilinear resize with PIL's filter, rounded to uint8; the weights sum to 1, so no value needs clipping."""
    return tf.cast(tf.round(tf.image.resize(image, size, antialias=True)), tf.uint8)
