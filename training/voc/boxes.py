"""Boxes in TensorFlow graphs: overlap, encoding relative to anchors, clipping, and RoIAlign.

Boxes in this module are float32 edges (x1, y1, x2, y2) in pixels: the pixel p covers [p, p + 1), and a box is x2 - x1
wide. In VOC's files, and so in `annotation.Annotation` and `detections.Detections`, x2 and y2 are the last pixel inside
instead, and a box is x2 - x1 + 1 wide; `from_pixels` and `to_pixels` convert between the two.
"""

from typing import Any

import numpy as np
import tensorflow as tf

VARIANCE = (0.1, 0.1, 0.2, 0.2)  # standard deviations by which py-faster-rcnn divides RoI targets
_LARGEST = float(np.log(1000 / 16))  # maximum logarithm of a scale, so that no box makes the loss infinite


def from_pixels(boxes):
    """Converts (first x, first y, last x, last y) of the pixels inside to edges."""
    return boxes + np.array([0, 0, 1, 1], "float32")


def to_pixels(boxes):
    """Converts edges to the first and last pixels inside."""
    return boxes - np.array([0, 0, 1, 1], "float32")


def shape_of(tensor) -> list:
    """Returns the shape of a tensor, as numbers where it is static, so that graphs of fixed size stay static."""
    known, found = tensor.shape, tf.shape(tensor)
    return [found[axis] if side is None else side for axis, side in enumerate(known)]


def area(boxes) -> tf.Tensor:
    """Computes the areas of boxes (..., 4); 0 for inverted boxes."""
    sides = tf.maximum(boxes[..., 2:] - boxes[..., :2], 0.0)
    return sides[..., 0] * sides[..., 1]


def iou(boxes, others) -> tf.Tensor:
    """Computes the intersection over union (n, m) of boxes (n, 4) and others (m, 4); 0 where both are empty."""
    low = tf.maximum(boxes[:, None, :2], others[None, :, :2])
    high = tf.minimum(boxes[:, None, 2:], others[None, :, 2:])
    common = area(tf.concat([low, high], axis=-1))
    return tf.math.divide_no_nan(common, area(boxes)[:, None] + area(others)[None] - common)


def encode(boxes, anchors, variance=(1.0, 1.0, 1.0, 1.0)) -> tf.Tensor:
    """Encodes boxes relative to anchors (arXiv 1506.01497, equation 2).

    Args:
        boxes: Boxes, (n, 4).
        anchors: Anchors with nonzero areas, (n, 4).
        variance: Divisors of the four numbers.

    Returns:
        float32 (n, 4): shifts of the center relative to the anchor's sides, and logarithms of the scales, divided by
        `variance`.
    """
    (centers, sides), (anchor_centers, anchor_sides) = _centered(boxes), _centered(anchors)
    deltas = tf.concat([(centers - anchor_centers) / anchor_sides, tf.math.log(sides / anchor_sides)], axis=-1)
    return deltas / tf.constant(variance, tf.float32)


def decode(deltas, anchors, variance=(1.0, 1.0, 1.0, 1.0)) -> tf.Tensor:
    """Decodes boxes (inverse of `encode`), for any leading dimensions; scales are limited to 62.5."""
    deltas = deltas * tf.constant(variance, tf.float32)
    centers, sides = _centered(anchors)
    centers += deltas[..., :2] * sides
    half = tf.exp(tf.minimum(deltas[..., 2:], _LARGEST)) * sides / 2
    return tf.concat([centers - half, centers + half], axis=-1)


def _centered(boxes) -> tuple[tf.Tensor, tf.Tensor]:
    sides = boxes[..., 2:] - boxes[..., :2]
    return boxes[..., :2] + sides / 2, sides


def clip(boxes, size) -> tf.Tensor:
    """Clips boxes to an image.

    Args:
        boxes: Boxes, (..., 4).
        size: Size of the image, (height, width).
    """
    return tf.minimum(tf.maximum(boxes, 0.0), corner(size))


def corner(size) -> tf.Tensor:
    """Returns the limits of boxes, float32 (width, height, width, height), for an image of size (height, width)."""
    height, width = tf.cast(size[0], tf.float32), tf.cast(size[1], tf.float32)
    return tf.stack([width, height, width, height])


def mirror(boxes, width) -> tf.Tensor:
    """Mirrors boxes (n, 4) for a horizontally flipped image."""
    x1, y1, x2, y2 = tf.unstack(boxes, axis=-1)
    return tf.stack([width - x2, y1, width - x1, y2], axis=-1)


def roi_align(features, boxes, size: int, stride: int, origin=(0, 0), for_tflite: bool = False) -> tf.Tensor:
    """Crops the features in each box to a fixed size, sampled bilinearly at the center of each bin.

    This is torchvision's RoIAlign with one sample per bin. Cell i of the features is centered at pixel origin + i *
    stride; with torch's padding of strided convolutions, the origin is 0.

    Args:
        features: Features, (1, height, width, channels).
        boxes: Boxes inside the image in pixels, (n, 4).
        size: Side of the crops in cells.
        stride: Stride of the features.
        origin: Pixel (y, x) at the center of the first cell.
        for_tflite: Whether to use gathers, which TFLite supports, instead of TensorFlow's faster `crop_and_resize`.

    Returns:
        Crops, (n, size, size, channels).
    """
    at_x, at_y = (
        _samples(boxes[:, axis] - shift, boxes[:, axis + 2] - shift, size, stride)
        for axis, shift in enumerate(tf.cast(side, tf.float32) for side in reversed(origin))
    )
    return (_gathered if for_tflite else _cropped)(features, at_y, at_x)


def _gathered(features, at_y, at_x) -> tf.Tensor:
    """Samples the features at rows (n, size) and columns (n, size)."""
    flat = tf.reshape(features, (-1, shape_of(features)[-1]))
    return tf.add_n([weights * tf.gather(flat, cells) for weights, cells in _corners(features, at_y, at_x)])


@tf.custom_gradient
def _cropped(features, at_y, at_x) -> Any:
    """Samples the features like `_gathered`, at positions at most one cell outside; the decorator drops gradients."""
    height, width = (tf.cast(side, tf.float32) for side in shape_of(features)[1:3])
    edged = tf.pad(features, [[0, 0], [1, 1], [1, 1], [0, 0]], "SYMMETRIC")  # outside of them, the op returns 0
    ends = [at[:, place] for place in (0, -1) for at in (at_y, at_x)]
    corners = [(end + 1) / (side + 1) for end, side in zip(ends, (height, width) * 2, strict=True)]
    boxes = tf.stack(corners, axis=1)
    crops = tf.image.crop_and_resize(edged, boxes, tf.zeros(tf.shape(boxes)[:1], tf.int32), [at_y.shape[1]] * 2)

    def gradient(upstream):
        """Replaces the op's gradient, which several threads sum in random order, by a deterministic one."""
        _, height, width, channels = shape_of(features)
        parts = [
            tf.math.unsorted_segment_sum(weights * upstream, cells, height * width)
            for weights, cells in _corners(features, at_y, at_x)
        ]
        return tf.reshape(tf.add_n(parts), (1, height, width, channels)), None, None

    return crops, gradient


def _corners(features, at_y, at_x) -> list[tuple[tf.Tensor, tf.Tensor]]:
    """Returns weights (n, size, size, 1) and flat indices (n, size, size) of the four cells around each position."""
    _, height, width, _ = shape_of(features)
    (left, right, to_right), (above, below, to_below) = _neighbors(at_x, width), _neighbors(at_y, height)
    return [
        (down[:, :, None, None] * along[:, None, :, None], row[:, :, None] * width + column[:, None, :])
        for row, down in ((above, 1 - to_below), (below, to_below))
        for column, along in ((left, 1 - to_right), (right, to_right))
    ]


def _samples(low, high, size: int, stride: int) -> tf.Tensor:
    """Returns the centers of the bins in cells of the features, (n, size)."""
    bins = (tf.range(size, dtype=tf.float32) + 0.5) / size
    return (low[:, None] + (high - low)[:, None] * bins - 0.5) / stride


def _neighbors(at, count) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Returns the cells before and after each position, and the weight of the second; clamps positions to the edge."""
    at = tf.minimum(tf.maximum(at, 0.0), tf.cast(count - 1, tf.float32))
    before = tf.floor(at)
    first = tf.cast(before, tf.int32)
    return first, tf.minimum(first + 1, count - 1), at - before
