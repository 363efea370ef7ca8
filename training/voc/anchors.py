"""Anchors: the reference boxes of the region proposal network."""

import numpy as np
import tensorflow as tf

STRIDE = 16  # stride of the feature map
OCTAVES = (1, 2, 4)  # scales
RATIOS = (0.5, 1.0, 2.0)  # height to width
COUNT = len(OCTAVES) * len(RATIOS)  # anchors per cell


def base_anchors(size: int) -> np.ndarray:
    """Returns the anchors of the first cell, as in py-faster-rcnn with its rounding.

    Args:
        size: Side of the smallest square anchor in pixels.

    Returns:
        Edges, float32 (9, 4), ordered by ratio and then by scale.
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
    """Returns the anchors of a feature map.

    Args:
        height: Height of the feature map.
        width: Width of the feature map.
        size: Side of the smallest square anchor in pixels.

    Returns:
        Edges, float32 (height * width * 9, 4), ordered by row, column and the order of `base_anchors`.
    """
    x, y = tf.meshgrid(tf.range(width), tf.range(height))
    shifts = tf.cast(STRIDE * tf.stack([x, y, x, y], axis=-1), tf.float32)
    return tf.reshape(shifts[:, :, None] + base_anchors(size), (-1, 4))
