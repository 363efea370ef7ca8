"""The four losses of Faster R-CNN (arXiv 1506.01497, section 3.1.2), each a scalar for one image."""

import tensorflow as tf

NAMES = ("rpn_objectness", "rpn_box", "class", "box")
RPN_SIGMA, ROI_SIGMA = 3.0, 1.0


def smooth_l1(differences, sigma: float) -> tf.Tensor:
    """Computes smooth L1, quadratic below 1 / sigma^2, summed over the last axis (arXiv 1504.08083, equation 3)."""
    size, edge = tf.abs(differences), 1 / sigma**2
    return tf.reduce_sum(tf.where(size < edge, 0.5 * sigma**2 * size**2, size - 0.5 * edge), axis=-1)


def objectness(logits, labels) -> tf.Tensor:
    """Computes the mean cross-entropy of the sampled anchors: labels 1 object, 0 background, -1 not sampled."""
    sampled = tf.cast(labels >= 0, tf.float32)
    losses = tf.nn.sigmoid_cross_entropy_with_logits(tf.cast(labels > 0, tf.float32), logits)
    return tf.math.divide_no_nan(tf.reduce_sum(losses * sampled), tf.reduce_sum(sampled))


def anchor_boxes(deltas, targets, labels) -> tf.Tensor:
    """Computes smooth L1 of the anchors with an object, divided by the number of sampled anchors."""
    losses = smooth_l1(deltas - targets, RPN_SIGMA) * tf.cast(labels > 0, tf.float32)
    return tf.math.divide_no_nan(tf.reduce_sum(losses), tf.reduce_sum(tf.cast(labels >= 0, tf.float32)))


def classes(logits, labels) -> tf.Tensor:
    """Computes the mean cross-entropy of the sampled RoIs; label 0 is the background."""
    return tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits))


def roi_boxes(deltas, targets, labels) -> tf.Tensor:
    """Computes smooth L1 of the RoIs with an object, divided by the number of sampled RoIs.

    Args:
        deltas: Predicted box of each class without the background, (n, classes, 4).
        targets: Target boxes, (n, 4).
        labels: Labels, (n,); `label - 1` selects the box.
    """
    chosen = tf.gather(deltas, tf.maximum(labels - 1, 0), axis=1, batch_dims=1)
    losses = smooth_l1(chosen - targets, ROI_SIGMA) * tf.cast(labels > 0, tf.float32)
    return tf.reduce_mean(losses)
