"""Training targets of the two stages: samples anchors and RoIs, and assigns labels and boxes to them.

The constants are py-faster-rcnn's. Random numbers are a pure function of a seed.
"""

from typing import NamedTuple

import tensorflow as tf

from fd_keras.training.voc import boxes

ANCHORS = 256  # number of sampled anchors per image
ANCHORS_POSITIVE = 128  # maximum number of those with an object
ANCHOR_POSITIVE_IOU, ANCHOR_NEGATIVE_IOU = 0.7, 0.3
ROIS = 128
ROIS_POSITIVE = 32
ROI_IOU = 0.5
_TIE = 1e-5  # overlaps that differ by less are equal


class AnchorTargets(NamedTuple):
    """Targets of all anchors.

    Attributes:
        labels: 1 for an object, 0 for background, -1 for anchors that are not sampled, int32 (n,).
        deltas: Object that each anchor overlaps most, encoded relative to the anchor, (n, 4).
    """

    labels: tf.Tensor
    deltas: tf.Tensor


class RoiTargets(NamedTuple):
    """Targets of the sampled RoIs.

    Attributes:
        rois: Boxes, those with an object first, (n, 4).
        labels: 0 for the background, c + 1 for class c, int32 (n,).
        deltas: Object of each RoI, encoded relative to the RoI with `boxes.VARIANCE`, (n, 4).
    """

    rois: tf.Tensor
    labels: tf.Tensor
    deltas: tf.Tensor


def draw(candidates, count, seed) -> tf.Tensor:
    """Samples at most `count` indices of true entries of `candidates` uniformly, without replacement."""
    indices = tf.cast(tf.where(candidates)[:, 0], tf.int32)
    order = tf.argsort(tf.random.stateless_uniform(tf.shape(indices), seed))
    return tf.gather(indices, order[:count])


def anchor_targets(anchors, truth, size, seed) -> AnchorTargets:
    """Labels the anchors of one image, and samples those to train on.

    An anchor has an object if it overlaps one by at least 0.7, or overlaps it most of all anchors. It is background if
    all overlaps are below 0.3. Anchors that are partly outside the image are not sampled.

    Args:
        anchors: Anchors, (n, 4).
        truth: Objects, (m, 4), m > 0.
        size: Size of the image, (height, width).
        seed: Seed, int32 (2,).
    """
    inside = tf.reduce_all((anchors >= 0) & (anchors <= boxes.corner(size)), axis=-1)
    overlaps = tf.where(inside[:, None], boxes.iou(anchors, truth), -1.0)
    most = tf.reduce_max(overlaps, axis=1)
    best = tf.maximum(tf.reduce_max(overlaps, axis=0), _TIE)  # an object without any overlap gets no anchor
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
    """Samples the RoIs to train the second stage on.

    The objects themselves are candidates too, so that at least one RoI has an object.

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
