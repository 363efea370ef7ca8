"""Boxes in TensorFlow graphs: overlap, the four numbers that move one box onto another, clipping, and RoIAlign.

A box here is (x1, y1, x2, y2), float32, in pixels with both ends as edges: the pixel p covers [p, p + 1), and a box is
x2 - x1 wide. VOC's files, and so `data.Annotation` and `detections.Detections`, name the last pixel inside instead;
`from_pixels` and `to_pixels` are the border between the two. py-faster-rcnn widths, x2 - x1 + 1, are the same numbers.
"""

from typing import Any

import numpy as np
import tensorflow as tf

VARIANCE = (0.1, 0.1, 0.2, 0.2)  # what py-faster-rcnn divides a RoI's targets by, so that their spread is about 1
_LARGEST = float(np.log(1000 / 16))  # of the logarithm of a scale: a box that exploded would make the loss infinite


def from_pixels(boxes):
    """Edges from (first x, first y, last x, last y) of the pixels inside."""
    return boxes + np.array([0, 0, 1, 1], "float32")


def to_pixels(boxes):
    """The first and last pixels inside, from edges."""
    return boxes - np.array([0, 0, 1, 1], "float32")


def shape_of(tensor) -> list:
    """The sides of a tensor, as numbers where they are known: a graph of fixed size then has only fixed sizes."""
    known, found = tensor.shape, tf.shape(tensor)
    return [found[axis] if side is None else side for axis, side in enumerate(known)]


def area(boxes) -> tf.Tensor:
    """Areas of boxes (..., 4); 0 for one that is inside out."""
    sides = tf.maximum(boxes[..., 2:] - boxes[..., :2], 0.0)
    return sides[..., 0] * sides[..., 1]


def iou(boxes, others) -> tf.Tensor:
    """Intersection over union of every box (n, 4) with every other (m, 4): (n, m), 0 where both are empty."""
    low = tf.maximum(boxes[:, None, :2], others[None, :, :2])
    high = tf.minimum(boxes[:, None, 2:], others[None, :, 2:])
    common = area(tf.concat([low, high], axis=-1))
    return tf.math.divide_no_nan(common, area(boxes)[:, None] + area(others)[None] - common)


def encode(boxes, anchors, variance=(1.0, 1.0, 1.0, 1.0)) -> tf.Tensor:
    """What turns anchors into boxes: shifts of the center in anchor sides, logarithms of the scale, over `variance`.

    Args:
        boxes: Boxes, (n, 4).
        anchors: Anchors, each with an area, (n, 4).
        variance: Divisors of the four numbers.

    Returns:
        (n, 4): arXiv 1506.01497, equation 2.
    """
    (centers, sides), (anchor_centers, anchor_sides) = _centered(boxes), _centered(anchors)
    deltas = tf.concat([(centers - anchor_centers) / anchor_sides, tf.math.log(sides / anchor_sides)], axis=-1)
    return deltas / tf.constant(variance, tf.float32)


def decode(deltas, anchors, variance=(1.0, 1.0, 1.0, 1.0)) -> tf.Tensor:
    """The inverse of `encode`, for any leading shape; scales are kept below 62 times."""
    deltas = deltas * tf.constant(variance, tf.float32)
    centers, sides = _centered(anchors)
    centers += deltas[..., :2] * sides
    half = tf.exp(tf.minimum(deltas[..., 2:], _LARGEST)) * sides / 2
    return tf.concat([centers - half, centers + half], axis=-1)


def _centered(boxes) -> tuple[tf.Tensor, tf.Tensor]:
    sides = boxes[..., 2:] - boxes[..., :2]
    return boxes[..., :2] + sides / 2, sides


def clip(boxes, size) -> tf.Tensor:
    """Boxes cut to an image.

    Args:
        boxes: Boxes, (..., 4).
        size: Size of the image, (height, width).
    """
    return tf.minimum(tf.maximum(boxes, 0.0), corner(size))


def corner(size) -> tf.Tensor:
    """The last edges (width, height, width, height), float32, of an image of (height, width)."""
    height, width = tf.cast(size[0], tf.float32), tf.cast(size[1], tf.float32)
    return tf.stack([width, height, width, height])


def mirror(boxes, width) -> tf.Tensor:
    """Boxes (n, 4) in the image that is flipped left to right."""
    x1, y1, x2, y2 = tf.unstack(boxes, axis=-1)
    return tf.stack([width - x2, y1, width - x1, y2], axis=-1)


def roi_align(features, boxes, size: int, stride: int, origin=(0, 0), for_tflite: bool = False) -> tf.Tensor:
    """A crop of fixed size from the features under every box, sampled bilinearly at the middle of every bin.

    It is torchvision's RoIAlign with one sample for each bin. The cell i of the features looks at the pixel origin +
    i * stride; torch's padding makes that i * stride of a stack of strided windows.

    Args:
        features: Features, (1, height, width, channels).
        boxes: Boxes inside the image, in its pixels, (n, 4).
        size: Side of the crops.
        stride: Stride of the features.
        origin: Pixel (y, x) that the first cell looks at.
        for_tflite: True: gathers, which TFLite has. False: TensorFlow's `crop_and_resize`, which is faster.

    Returns:
        (n, size, size, channels).
    """
    at_x, at_y = (
        _samples(boxes[:, axis] - shift, boxes[:, axis + 2] - shift, size, stride)
        for axis, shift in enumerate(tf.cast(side, tf.float32) for side in reversed(origin))
    )
    return (_gathered if for_tflite else _cropped)(features, at_y, at_x)


def _gathered(features, at_y, at_x) -> tf.Tensor:
    """The features at rows (n, size) and columns (n, size)."""
    flat = tf.reshape(features, (-1, shape_of(features)[-1]))
    return tf.add_n([weights * tf.gather(flat, cells) for weights, cells in _corners(features, at_y, at_x)])


@tf.custom_gradient
def _cropped(features, at_y, at_x) -> Any:
    """The same, where no position is more than a cell outside; Any: the decorator takes the gradient off."""
    height, width = (tf.cast(side, tf.float32) for side in shape_of(features)[1:3])
    edged = tf.pad(features, [[0, 0], [1, 1], [1, 1], [0, 0]], "SYMMETRIC")  # beyond its edges the op gives 0
    ends = [at[:, place] for place in (0, -1) for at in (at_y, at_x)]
    corners = [(end + 1) / (side + 1) for end, side in zip(ends, (height, width) * 2, strict=True)]
    boxes = tf.stack(corners, axis=1)
    crops = tf.image.crop_and_resize(edged, boxes, tf.zeros(tf.shape(boxes)[:1], tf.int32), [at_y.shape[1]] * 2)

    def gradient(upstream):
        """The op's own is added up by several threads at once, and so differs from run to run."""
        _, height, width, channels = shape_of(features)
        parts = [
            tf.math.unsorted_segment_sum(weights * upstream, cells, height * width)
            for weights, cells in _corners(features, at_y, at_x)
        ]
        return tf.reshape(tf.add_n(parts), (1, height, width, channels)), None, None

    return crops, gradient


def _corners(features, at_y, at_x) -> list[tuple[tf.Tensor, tf.Tensor]]:
    """The four cells around each position: their weights (n, size, size, 1) and flat indices (n, size, size)."""
    _, height, width, _ = shape_of(features)
    (left, right, to_right), (above, below, to_below) = _neighbors(at_x, width), _neighbors(at_y, height)
    return [
        (down[:, :, None, None] * along[:, None, :, None], row[:, :, None] * width + column[:, None, :])
        for row, down in ((above, 1 - to_below), (below, to_below))
        for column, along in ((left, 1 - to_right), (right, to_right))
    ]


def _samples(low, high, size: int, stride: int) -> tf.Tensor:
    """Where the middles of the bins are, in cells of the features: (n, size)."""
    bins = (tf.range(size, dtype=tf.float32) + 0.5) / size
    return (low[:, None] + (high - low)[:, None] * bins - 0.5) / stride


def _neighbors(at, count) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """The cells before and after a position, and how far it is to the second; positions outside move to the edge."""
    at = tf.minimum(tf.maximum(at, 0.0), tf.cast(count - 1, tf.float32))
    before = tf.floor(at)
    first = tf.cast(before, tf.int32)
    return first, tf.minimum(first + 1, count - 1), at - before
