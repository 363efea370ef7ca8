"""Training targets of the two stages: which anchors and RoIs are drawn, their labels and boxes.

The numbers are py-faster-rcnn's. All that is random is a pure function of a seed.
"""

from typing import NamedTuple

import tensorflow as tf

from fd_keras.training.voc import boxes

ANCHORS = 256  # drawn for an image
ANCHORS_POSITIVE = 128  # of those, at most
ANCHOR_POSITIVE_IOU, ANCHOR_NEGATIVE_IOU = 0.7, 0.3
ROIS = 128
ROIS_POSITIVE = 32
ROI_IOU = 0.5
_TIE = 1e-5  # overlaps closer than this are equal


class AnchorTargets(NamedTuple):
    """Targets of all anchors.

    Attributes:
        labels: 1 object, 0 none, -1 not drawn, int32 (n,).
        deltas: What turns each into the object that it overlaps most, (n, 4).
    """

    labels: tf.Tensor
    deltas: tf.Tensor


class RoiTargets(NamedTuple):
    """Targets of the drawn RoIs.

    Attributes:
        rois: Boxes, those with an object first, (n, 4).
        labels: 0 for the background, c + 1 for class c, int32 (n,).
        deltas: What turns each into its object, in units of `boxes.VARIANCE`, (n, 4).
    """

    rois: tf.Tensor
    labels: tf.Tensor
    deltas: tf.Tensor


def draw(candidates, count, seed) -> tf.Tensor:
    """Indices of at most `count` of the true entries of `candidates`, each as likely as the others."""
    indices = tf.cast(tf.where(candidates)[:, 0], tf.int32)
    order = tf.argsort(tf.random.stateless_uniform(tf.shape(indices), seed))
    return tf.gather(indices, order[:count])


def anchor_targets(anchors, truth, size, seed) -> AnchorTargets:
    """Labels the anchors of one image and draws those that count.

    An anchor has an object where it overlaps one by .7, or where none overlaps that object more. It has none below .3.
    Anchors that stick out of the image are left out.

    Args:
        anchors: Anchors, (n, 4).
        truth: Objects, (m, 4), m > 0.
        size: Size of the image, (height, width).
        seed: Seed, int32 (2,).
    """
    inside = tf.reduce_all((anchors >= 0) & (anchors <= boxes.corner(size)), axis=-1)
    overlaps = tf.where(inside[:, None], boxes.iou(anchors, truth), -1.0)
    most = tf.reduce_max(overlaps, axis=1)
    best = tf.maximum(tf.reduce_max(overlaps, axis=0), _TIE)  # an object that no anchor touches claims none
    claimed = tf.reduce_any(overlaps >= best - _TIE / 2, axis=1) & inside
    positive = claimed | (most >= ANCHOR_POSITIVE_IOU)
    negative = inside & (most < ANCHOR_NEGATIVE_IOU) & ~positive
    drawn = draw(positive, ANCHORS_POSITIVE, seed)
    others = draw(negative, ANCHORS - tf.size(drawn), seed + 1)
    labels = tf.fill(tf.shape(most), -1)
    labels = tf.tensor_scatter_nd_update(labels, drawn[:, None], tf.ones_like(drawn))
    labels = tf.tensor_scatter_nd_update(labels, others[:, None], tf.zeros_like(others))
    return AnchorTargets(labels, boxes.encode(tf.gather(truth, tf.argmax(overlaps, axis=1)), anchors))


def roi_targets(proposals, truth, labels, seed) -> RoiTargets:
    """Draws the RoIs that the second stage is trained on.

    The objects themselves are among the candidates, so there is always one to draw.

    Args:
        proposals: Proposals, (n, 4).
        truth: Objects, (m, 4), m > 0.
        labels: Labels of the objects from 0, int (m,).
        seed: Seed, int32 (2,).
    """
    candidates = tf.concat([proposals, truth], axis=0)
    overlaps = boxes.iou(candidates, truth)
    most, nearest = tf.reduce_max(overlaps, axis=1), tf.argmax(overlaps, axis=1)
    objects = draw(most >= ROI_IOU, ROIS_POSITIVE, seed)
    others = draw(most < ROI_IOU, ROIS - tf.size(objects), seed + 1)
    drawn = tf.concat([objects, others], axis=0)
    nearest = tf.gather(nearest, drawn)
    rois, objects_of = tf.gather(candidates, drawn), tf.gather(truth, nearest)
    found = tf.cast(tf.gather(labels, nearest), tf.int32) + 1
    chosen = tf.where(tf.range(tf.size(drawn)) < tf.size(objects), found, 0)
    return RoiTargets(rois, chosen, boxes.encode(objects_of, rois, boxes.VARIANCE))
