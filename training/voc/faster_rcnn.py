"""Faster R-CNN (arXiv 1506.01497) on a network of the zoo, cut at stride 16.

The first part of the network makes the features of the whole image; a proposal network scores and moves anchors on
them. The rest of the network, whose layers work at stride 32, sees a crop of the features for every proposal and tells
its class and a box for each class ("C4" in detectron's words).
"""

from collections.abc import Sequence
from typing import NamedTuple

import keras
import tensorflow as tf
from keras import layers

from fd_keras import builder, spec
from fd_keras.spec import IMAGE, Arch, Op
from training.voc import anchors, boxes
from training.voc.recipe import Recipe

NMS_IOU, MIN_SCORE, MOST = 0.3, 0.05, 100  # of the detections in an image; py-faster-rcnn's
CROPS = "crops"


class Proposals(NamedTuple):
    """What the first stage says of one image.

    Attributes:
        features: (1, h, w, channels).
        anchors: (h * w * 9, 4) edges.
        logits: (h * w * 9,), of being an object.
        deltas: (h * w * 9, 4).
        boxes: (n, 4) edges: the best of the moved anchors, best first.
    """

    features: tf.Tensor
    anchors: tf.Tensor
    logits: tf.Tensor
    deltas: tf.Tensor
    boxes: tf.Tensor


def build_net(arch: Arch, alpha: float, classes: int, recipe: Recipe) -> keras.Model:
    """The weights of a detector: both stages, as one Keras model of two inputs that do not meet.

    Args:
        arch: the backbone's table.
        alpha: its width.
        classes: without the background.
        recipe: gives the sizes, and what stays as it is.

    Returns:
        A model of [image (1, height, width, 3) raw RGB 0..255, crops (n, size, size, channels)] that gives [features,
        objectness, anchors' boxes, class logits, classes' boxes]. Its backbone has the names and shapes of the
        zoo's layers, whose weights it takes.
    """
    trunk, rest = spec.cut(spec.lower(arch, alpha, (None, None), include_top=False), anchors.STRIDE)
    image = layers.Input((None, None, 3), batch_size=1, name=IMAGE)
    features = builder.build(arch, trunk, image)
    hidden = layers.Conv2D(
        recipe.rpn_channels, 3, padding="same", activation="relu", kernel_initializer=_normal(0.01), name="rpn"
    )(features)
    objectness = layers.Conv2D(anchors.COUNT, 1, kernel_initializer=_normal(0.01), name="rpn_objectness")(hidden)
    anchor_boxes = layers.Conv2D(4 * anchors.COUNT, 1, kernel_initializer=_normal(0.01), name="rpn_boxes")(hidden)

    crops = layers.Input((recipe.roi_size, recipe.roi_size, trunk[-1].cout), name=CROPS)
    x = builder.build(arch, rest, crops, start=trunk[-1].name, include_preprocessing=False)
    x = layers.GlobalAveragePooling2D(name="roi_pool")(x)
    logits = layers.Dense(classes + 1, kernel_initializer=_normal(0.01), name="roi_classes")(x)
    deltas = layers.Dense(4 * classes, kernel_initializer=_normal(0.001), name="roi_boxes")(x)

    deltas = layers.Reshape((classes, 4), name="class_boxes")(deltas)
    net = keras.Model(
        [image, crops],
        [features, objectness, anchor_boxes, logits, deltas],
        name=f"faster_rcnn_{spec.model_name(arch, alpha, (None, None))}",
    )
    _freeze(net, spec.cut(trunk + rest, recipe.freeze_stride)[0] if recipe.freeze_stride else ())
    return net


def _normal(deviation: float) -> keras.initializers.Initializer:
    return keras.initializers.RandomNormal(stddev=deviation)


def _freeze(net: keras.Model, ops: Sequence[Op]) -> None:
    """Keeps all batch normalizations as they are, and the kernels of some ops."""
    for layer in net.layers:
        if isinstance(layer, layers.BatchNormalization):
            layer.trainable = False
    for op in ops:
        net.get_layer(op.name).trainable = False


class FasterRCNN:
    """The two stages as functions of tensors, over the weights of `build_net`.

    Args:
        net: from `build_net`, or loaded from what a run saved.
        recipe: what it was built with.

    Attributes:
        classes: how many, without the background.
    """

    def __init__(self, net: keras.Model, recipe: Recipe):
        self.net, self.recipe = net, recipe
        layer = net.get_layer
        self._first = keras.Model(
            layer(IMAGE).output, [layer("rpn").input, layer("rpn_objectness").output, layer("rpn_boxes").output]
        )
        self._second = keras.Model(layer(CROPS).output, [layer("roi_classes").output, layer("class_boxes").output])
        self.classes = self._second.outputs[1].shape[1]

    def propose(self, image, scale, training: bool) -> Proposals:
        """The first stage on one image.

        Args:
            image: (height, width, 3) RGB 0..255 at the network's size.
            scale: of that size to the original's.
            training: as many proposals as in training or as in tests.
        """
        features, logits, deltas = self._first(image[None], training=training)
        shape = tf.shape(features)
        grid = anchors.grid(shape[1], shape[2], self.recipe.anchor_size)
        logits, deltas = tf.reshape(logits, [-1]), tf.reshape(deltas, [-1, 4])
        recipe = self.recipe
        before, kept = (
            (recipe.train_before_nms, recipe.train_proposals)
            if training
            else (recipe.test_before_nms, recipe.test_proposals)
        )
        moved = boxes.clip(boxes.decode(deltas, grid), tf.shape(image)[:2])
        sides = tf.reduce_min(moved[:, 2:] - moved[:, :2], axis=1)
        scores = tf.where(sides >= recipe.min_size * scale, logits, -1e9)
        best, indices = tf.math.top_k(scores, tf.minimum(before, tf.size(scores)))
        moved = tf.gather(moved, indices)
        # The order is all that counts of the scores. Sides swapped in all boxes alike do not change an overlap.
        chosen = tf.image.non_max_suppression(moved, best, kept, recipe.rpn_iou, score_threshold=-1e8)
        return Proposals(features, grid, logits, deltas, tf.stop_gradient(tf.gather(moved, chosen)))

    def classify(self, features, rois, training: bool) -> tuple[tf.Tensor, tf.Tensor]:
        """The second stage: logits (n, classes + 1) and deltas (n, classes, 4) of RoIs (n, 4)."""
        crops = boxes.roi_align(features, rois, self.recipe.roi_size, anchors.STRIDE)
        return self._second(crops, training=training)

    def detect(self, image, scale) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """The detections in one image.

        Args:
            image: (height, width, 3) RGB 0..255 at the network's size.
            scale: of that size to the original's.

        Returns:
            Boxes (k, 4), edges in pixels of `image`; scores (k,), best first; labels (k,) from 0.
        """
        first = self.propose(image, scale, training=False)
        logits, deltas = self.classify(first.features, first.boxes, training=False)
        moved = boxes.decode(deltas, first.boxes[:, None], boxes.VARIANCE)
        moved = boxes.clip(moved, tf.shape(image)[:2])
        found, scores, labels, count = tf.image.combined_non_max_suppression(
            moved[None], tf.nn.softmax(logits)[None, :, 1:], MOST, MOST, NMS_IOU, MIN_SCORE, clip_boxes=False
        )
        valid = count[0]
        return found[0, :valid], scores[0, :valid], tf.cast(labels[0, :valid], tf.int64)


def fit(image, recipe: Recipe) -> tuple[tf.Tensor, tf.Tensor]:
    """Resizes an image to what the network sees: a short side of `short_side`, unless the long one gets too long.

    Args:
        image: (height, width, 3), of any type.
        recipe: gives the sides.

    Returns:
        The image, float32, and what multiplies its boxes (4,): the sides are whole pixels, so x and y differ a little.
    """
    sides = tf.cast(tf.shape(image)[:2], tf.float32)
    scale = tf.minimum(recipe.short_side / tf.reduce_min(sides), recipe.long_side / tf.reduce_max(sides))
    size = tf.maximum(tf.round(sides * scale), 1.0)
    factors = tf.tile((size / sides)[::-1], [2])
    return tf.image.resize(image, tf.cast(size, tf.int32), antialias=True), factors
