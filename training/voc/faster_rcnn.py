"""Faster R-CNN (arXiv 1506.01497) on a network of the zoo, cut at stride 16.

The first part of the network computes the features of the whole image, on which a proposal network scores and moves
anchors. The rest of the network, at stride 32, takes a crop of the features for each proposal, and predicts its class
and a box for each class ("C4" in Detectron).
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
import tensorflow as tf
from keras import layers

from fd_keras import builder, spec
from fd_keras.spec import IMAGE, Op
from fd_keras.training.voc import anchors, boxes
from fd_keras.training.voc.backbone import Backbone
from fd_keras.training.voc.detector_recipe import DetectorRecipe
from fd_keras.training.voc.retinanet_recipe import RetinaNetRecipe

# Detections in an image: maximum overlap, minimum score, maximum number; as in py-faster-rcnn.
NMS_IOU, MIN_SCORE, MOST = 0.3, 0.05, 100
CROPS = "crops"


class Proposals(NamedTuple):
    """The output of the first stage for one image.

    Attributes:
        features: Features, (1, h, w, channels).
        anchors: Edges of the anchors, (h * w * 9, 4).
        logits: Objectness logits of the anchors, (h * w * 9,).
        deltas: Box predictions relative to the anchors, (h * w * 9, 4).
        boxes: Edges of the proposals, best first, (n, 4).
        valid: Number of proposals; in tests, the other boxes are padding.
        origin: Pixel (y, x) at the center of the first cell of the features.
    """

    features: tf.Tensor
    anchors: tf.Tensor
    logits: tf.Tensor
    deltas: tf.Tensor
    boxes: tf.Tensor
    valid: tf.Tensor
    origin: list


def build_net(backbone: Backbone, classes: int, recipe: DetectorRecipe) -> keras.Model:
    """Builds both stages of a detector as one Keras model with two separate inputs.

    Args:
        backbone: Network under the detector.
        classes: Number of classes without the background.
        recipe: Recipe, which sets sizes and frozen layers.

    Returns:
        A model from [image (1, height, width, 3) raw RGB 0..255, crops (n, size, size, channels)] to [features,
        objectness, anchors' boxes, class logits, classes' boxes]. The layers of its backbone have the names and shapes
        of the zoo's, so that it can load their weights.
    """
    arch = backbone.arch
    trunk, rest = spec.cut(backbone.ops, anchors.STRIDE)
    image = x = layers.Input((None, None, 3), batch_size=1, name=IMAGE)
    if backbone.rescaling:
        x = layers.Rescaling(*backbone.rescaling, name="preprocessing")(x)
    features = builder.build(arch, trunk, x, include_preprocessing=not backbone.rescaling)
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
        name=f"faster_rcnn_{spec.model_name(arch, backbone.alpha, (None, None))}",
    )
    freeze(net, spec.cut(trunk + rest, recipe.freeze_stride)[0] if recipe.freeze_stride else ())
    return net


def _normal(deviation: float) -> Any:  # an Initializer, which the annotations of Keras's layers do not include
    return keras.initializers.RandomNormal(stddev=deviation)


def freeze(net: keras.Model, ops: Sequence[Op], every_batch_norm: bool = True) -> None:
    """Freezes the layers of some ops, and by default all batch normalizations."""
    names = {name for op in ops for name in (op.name, f"{op.name}_bn")}
    for layer in net.layers:
        if layer.name in names or (every_batch_norm and isinstance(layer, layers.BatchNormalization)):
            layer.trainable = False


class FasterRCNN:
    """The two stages as functions of tensors, with the weights of `build_net`.

    Args:
        net: Network from `build_net`, or loaded from a run.
        recipe: Recipe that it was built with.

    Attributes:
        classes: Number of classes without the background.
    """

    def __init__(self, net: keras.Model, recipe: DetectorRecipe):
        self.net, self.recipe = net, recipe
        layer = net.get_layer
        self._first = keras.Model(
            layer(IMAGE).output, [layer("rpn").input, layer("rpn_objectness").output, layer("rpn_boxes").output]
        )
        self._second = keras.Model(layer(CROPS).output, [layer("roi_classes").output, layer("class_boxes").output])
        self.classes = self._second.outputs[1].shape[1]
        self._one_sided = sum(_pads_ends_only(layer) for layer in self._first.layers)

    def propose(self, image, scale, training: bool) -> Proposals:
        """Runs the first stage on one image.

        Args:
            image: Image resized by `fit`, (height, width, 3) RGB 0..255.
            scale: Scale relative to the original image.
            training: Whether to return the number of proposals for training, or for tests.
        """
        recipe = self.recipe
        features, logits, deltas = self._first(image[None], training=training)
        _, height, width, _ = boxes.shape_of(features)
        grid = anchors.grid(height, width, recipe.anchor_size)
        logits, deltas = tf.reshape(logits, [-1]), tf.reshape(deltas, [-1, 4])
        before, most = (
            (recipe.train_before_nms, recipe.train_proposals)
            if training
            else (recipe.test_before_nms, recipe.test_proposals)
        )
        moved = boxes.clip(boxes.decode(deltas, grid), boxes.shape_of(image)[:2])
        small = tf.reduce_min(moved[:, 2:] - moved[:, :2], axis=1) < recipe.min_size * scale
        best, indices = tf.math.top_k(tf.where(small, _NEVER, logits), _least(before, boxes.shape_of(logits)[0]))
        moved = tf.gather(moved, indices)
        chosen, count = suppress(moved, best, most, recipe.rpn_iou, _NEVER / 10)
        if training:  # in tests, the number is fixed, so that graphs of fixed size stay static
            chosen = chosen[:count]
        origin = [first_pixel(side, self._one_sided) for side in boxes.shape_of(image)[:2]]
        return Proposals(features, grid, logits, deltas, tf.stop_gradient(tf.gather(moved, chosen)), count, origin)

    def classify(self, first: Proposals, rois, training: bool, for_tflite: bool = False) -> tuple[tf.Tensor, tf.Tensor]:
        """Runs the second stage: computes logits (n, classes + 1) and deltas (n, classes, 4) of RoIs (n, 4)."""
        crops = boxes.roi_align(first.features, rois, self.recipe.roi_size, anchors.STRIDE, first.origin, for_tflite)
        return self._second(crops, training=training)

    def detect(self, image, scale, for_tflite: bool = False) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
        """Detects the objects in one image.

        Args:
            image: Image resized by `fit`, (height, width, 3) RGB 0..255.
            scale: Scale relative to the original image.
            for_tflite: Whether to only use operations that TFLite supports, see `boxes.roi_align`.

        Returns:
            Edges of the boxes in pixels of `image` (100, 4); scores (100,), best first; labels int32 (100,), from 0;
            and the number of detections, int32. Padded with zeros.
        """
        first = self.propose(image, scale, training=False)
        logits, deltas = self.classify(first, first.boxes, training=False, for_tflite=for_tflite)
        size = boxes.shape_of(image)[:2]
        moved = boxes.clip(boxes.decode(deltas, first.boxes[:, None], boxes.VARIANCE), size)
        real = tf.range(self.recipe.test_proposals) < first.valid
        scores = tf.reshape(tf.where(real[:, None], tf.nn.softmax(logits)[:, 1:], 0.0), [-1])
        labels = tf.tile(tf.range(self.classes), [self.recipe.test_proposals])
        moved = tf.reshape(moved, [-1, 4])
        return best_of_each_class(moved, scores, labels, size, NMS_IOU, MIN_SCORE)


_NEVER = -1e9  # below all logits of a network


def _pads_ends_only(layer: keras.Layer) -> bool:
    """Whether a layer has strides and TensorFlow's padding, as in networks with Google's weights."""
    return getattr(layer, "padding", None) == "same" and getattr(layer, "strides", (1, 1)) != (1, 1)


def first_pixel(side, halvings: int):
    """Returns the pixel at the center of the first cell of the features, in one dimension.

    Windows of size 3 and stride 2 with equal padding at both ends are centered at pixels 0, 2, 4, and so on. TensorFlow
    only pads the far end of an even side, so that they start one pixel later: at 15 for stride 16 if all sides are
    even.

    Args:
        side: Side of the image in pixels.
        halvings: Number of layers of stride 2 with TensorFlow's padding.
    """
    pixel = 0
    for level in range(halvings):
        pixel += 2**level * (1 - side % 2)
        side = (side + 1) // 2
    return pixel


def _least(number: int, other):
    return min(number, other) if isinstance(other, int) else tf.minimum(number, other)


def suppress(candidates, scores, most: int, overlap: float, least: float) -> tuple[tf.Tensor, tf.Tensor]:
    """Non-maximum suppression: keeps the best of boxes that overlap by more than `overlap`.

    Args:
        candidates: Boxes, (n, 4).
        scores: Scores, (n,).
        most: Maximum number of boxes to keep.
        overlap: Maximum overlap (IoU) of the boxes to keep.
        least: Score that a box must exceed.

    Returns:
        Indices of the boxes to keep, int32 (most,), best first, padded with zeros; and their number.
    """
    # LiteRT would return a box without an area repeatedly, so sides are at least 1.
    low, high = candidates[:, :2], tf.maximum(candidates[:, 2:], candidates[:, :2] + 1)
    return tf.raw_ops.NonMaxSuppressionV4(
        # The op expects y before x, but swapping them in all boxes does not change overlaps.
        boxes=tf.concat([low, high], axis=1), scores=scores, max_output_size=most, iou_threshold=overlap,
        score_threshold=least, pad_to_max_output_size=True,
    )  # fmt: skip


def best_of_each_class(
    candidates, scores, labels, size, overlap: float, least: float
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
    """Non-maximum suppression among the boxes of each class.

    Args:
        candidates: Boxes inside an image, (n, 4).
        scores: Scores, (n,).
        labels: Labels from 0, int32 (n,).
        size: Size of the image, (height, width).
        overlap: Maximum overlap (IoU) of the boxes of a class to keep.
        least: Score that a box must exceed.

    Returns:
        Boxes (100, 4), scores (100,), best first, labels int32 (100,), and their number; padded with zeros.
    """
    # Boxes of different classes are moved apart, so that a single suppression handles all classes.
    apart = tf.cast(labels, tf.float32)[:, None] * (tf.reduce_max(boxes.corner(size)) + 1)
    chosen, count = suppress(candidates + apart, scores, MOST, overlap, least)
    there = tf.range(MOST) < count
    return (
        tf.where(there[:, None], tf.gather(candidates, chosen), 0.0),
        tf.where(there, tf.gather(scores, chosen), 0.0),
        tf.where(there, tf.gather(labels, chosen), 0),
        count,
    )


def fit(image, recipe: DetectorRecipe | RetinaNetRecipe, zoom: Any = 1.0) -> tuple[tf.Tensor, tf.Tensor]:
    """Resizes an image for the network: to `short_side`, or less if the other side would exceed `long_side`.

    Args:
        image: Image of any type, (height, width, 3).
        recipe: Recipe, which sets the sides.
        zoom: Factor of the resulting size.

    Returns:
        The image, float32 (height, width, 3), and the factors for its boxes, float32 (4,). Since sides are whole
        pixels, the factors of x and y differ slightly.
    """
    sides = tf.cast(tf.stack(boxes.shape_of(image)[:2]), tf.float32)
    scale = tf.minimum(recipe.short_side / tf.reduce_min(sides), recipe.long_side / tf.reduce_max(sides))
    size = tf.maximum(tf.round(sides * scale * zoom), 1.0)
    factors = tf.tile((size / sides)[::-1], [2])
    return tf.image.resize(image, tf.cast(size, tf.int32), antialias=True), factors
