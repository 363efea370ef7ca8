"""Pooled features of photos: the input of a network's classifier, for several views of each photo."""

import os
from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf

from fd_keras.progress import progress
from fd_keras.training import crops

_BATCH = 64  # views


def pooled(trunk: keras.Model, paths: Sequence[str], views: int, least: float, seed: int) -> np.ndarray:
    """Computes features of the evaluation crop of each photo, of its mirror image, and of random crops.

    Args:
        trunk: Network without its classifier, from images (batch, size, size, 3) to features (batch, channels).
        paths: Paths of photos that can be decoded.
        views: Number of views of each photo; the first is the evaluation crop.
        least: Minimum share of a photo's area in a random crop.
        seed: Seed of the crops, which are a pure function of it.

    Returns:
        float32 of shape (photos, views, channels).
    """
    size, channels = trunk.input_shape[1], trunk.output_shape[-1]
    features = np.empty((len(paths), views, channels), "float32")
    flat = features.reshape(-1, channels)
    start = 0
    rows = _views(paths, size, views, least, seed).unbatch().batch(_BATCH).prefetch(4)
    for images in progress(rows.as_numpy_iterator(), -(-len(flat) // _BATCH), unit="batches"):
        count = len(images)
        full = np.resize(images, (_BATCH, size, size, 3))  # a smaller last batch would be traced again
        flat[start : start + count] = trunk.predict_on_batch(full.astype("float32"))[:count]
        start += count
    return features


def _views(paths: Sequence[str], size: int, views: int, least: float, seed: int) -> tf.data.Dataset:
    """Returns a dataset of the views of each photo, uint8 (views, size, size, 3)."""
    drawn = max(0, views - 2)

    def of(index, path):
        data = tf.io.read_file(path)
        plain = crops.eval_crop(data, size)
        shown = [plain, plain[:, ::-1]][:views]
        if drawn:
            draws = crops.draw_boxes(drawn, tf.stack([index, tf.constant(seed, tf.int64)]), least)
            random = crops.train_crops([data] * drawn, tf.unstack(draws, drawn), size, antialias=True)
            shown += [image[:, ::-1] if place % 2 else image for place, image in enumerate(tf.unstack(random, drawn))]
        return tf.stack(shown)

    names = [os.fsencode(path) for path in paths]
    rows = tf.data.Dataset.from_tensor_slices((np.arange(len(paths), dtype="int64"), names))
    return rows.map(of, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
