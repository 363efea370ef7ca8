"""Anchors: the boxes that the region proposal network moves and scores."""

import numpy as np
import tensorflow as tf

STRIDE = 16  # of the features that carry them
OCTAVES = (1, 2, 4)
RATIOS = (0.5, 1.0, 2.0)  # height to width
COUNT = len(OCTAVES) * len(RATIOS)  # at every cell


def base_anchors(size: int) -> np.ndarray:
    """The anchors of the first cell, (9, 4) edges, ratio by ratio: py-faster-rcnn's, with its rounding.

    Args:
        size: Side of the smallest square anchor, in pixels.
    """
    center = STRIDE / 2
    anchors = []
    for ratio in RATIOS:
        width = np.round(np.sqrt(STRIDE**2 / ratio))
        sides = np.array([width, np.round(width * ratio)])
        for octave in OCTAVES:
            half = octave * size / STRIDE * sides / 2
            anchors.append(np.concatenate([center - half, center + half]))
    return np.array(anchors, "float32")


def grid(height, width, size: int) -> tf.Tensor:
    """The anchors of a feature map, (height * width * 9, 4): row by row, cell by cell, in the order of the base.

    Args:
        height: Height of the feature map.
        width: Width of the feature map.
        size: Side of the smallest square anchor, in pixels.
    """
    x, y = tf.meshgrid(tf.range(width), tf.range(height))
    shifts = tf.cast(STRIDE * tf.stack([x, y, x, y], axis=-1), tf.float32)
    return tf.reshape(shifts[:, :, None] + base_anchors(size), (-1, 4))
