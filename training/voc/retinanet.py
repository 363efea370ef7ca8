"""keras-cv's RetinaNet (arXiv 1708.02002) on a network of the zoo."""

from typing import Any

import keras
import keras_cv
import tensorflow as tf

from fd_keras import spec
from fd_keras.backbones.keras_cv_backbone import KerasCVBackbone
from fd_keras.training.voc import boxes, faster_rcnn, light_pyramid
from fd_keras.training.voc.retinanet_recipe import GRAY, RetinaNetRecipe

NMS_IOU, MIN_SCORE = 0.5, 0.05  # maximum overlap and minimum score of detections, as in the RetinaNet paper
_BACKGROUND, _IGNORED = -1, -2  # labels that keras-cv's label encoder returns instead of a class


@keras.saving.register_keras_serializable(package="fd_keras")
class LightRetinaNet(keras_cv.models.RetinaNet):
    """keras-cv's RetinaNet with the pyramid and heads of `light_pyramid`.

    Args:
        backbone: Network with the pyramid levels P3 to P5.
        num_classes: Number of classes.
        channels: Channels of the pyramid and the heads.
        kwargs: Further arguments of keras-cv's RetinaNet.
    """

    def __init__(self, backbone: Any, num_classes: int, channels: int, **kwargs: Any):
        light = light_pyramid.arguments(backbone, num_classes, channels)
        super().__init__(backbone=backbone, num_classes=num_classes, **light, **kwargs)
        self.channels = channels

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments, for saving; keras-cv's own lack the pyramid and the name."""
        return {
            "backbone": keras.saving.serialize_keras_object(self.backbone),
            "num_classes": self.num_classes,
            "channels": self.channels,
            "bounding_box_format": self.bounding_box_format,
            "name": self.name,
        }


def build_net(backbone: KerasCVBackbone, classes: int, recipe: RetinaNetRecipe) -> keras.Model:
    """Builds the Keras model of a detector.

    Args:
        backbone: Network under the detector, for images of any size.
        classes: Number of classes.
        recipe: Recipe, which sets the frozen layers.
    """
    source = backbone.source
    ops = spec.lower(source.arch, source.alpha, (None, None), include_top=False)
    frozen = spec.cut(ops, recipe.freeze_stride)[0] if recipe.freeze_stride else ()
    faster_rcnn.freeze(backbone, frozen, every_batch_norm=not recipe.train_batch_norm)
    name, box_format = f"retinanet_{backbone.name}", "xyxy"
    if recipe.pyramid_channels:
        return LightRetinaNet(backbone, classes, recipe.pyramid_channels, bounding_box_format=box_format, name=name)
    return keras_cv.models.RetinaNet(backbone, classes, box_format, name=name)


class RetinaNet:
    """The detector as functions of tensors, with the weights of `build_net`.

    Args:
        net: Network from `build_net`, or loaded from a run.
        recipe: Recipe that it was built with.

    Attributes:
        classes: Number of classes.
    """

    def __init__(self, net: keras.Model, recipe: RetinaNetRecipe):
        self.net, self.recipe, self.classes = net, recipe, net.num_classes
        levels = net.anchor_generator(image_shape=(recipe.side, recipe.side, 3))
        self._anchors = tf.concat(list(levels.values()), axis=0)

    def detect(self, image, scale, for_tflite: bool = False) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
        """Detects the objects in one image, with operations that TFLite supports.

        keras-cv's own decoding uses an operation that TFLite lacks, and returns only one class per box.

        Args:
            image: Image that fits into the square of the recipe, (height, width, 3) RGB 0..255.
            scale: Unused; for the interface of `FasterRCNN.detect`.
            for_tflite: Unused; for the interface of `FasterRCNN.detect`.

        Returns:
            Boxes, scores, labels and their number, as from `FasterRCNN.detect`.
        """
        height, width, _ = boxes.shape_of(image)
        side = self.recipe.side
        square = tf.pad(image, [[0, side - height], [0, side - width], [0, 0]], constant_values=GRAY)
        found = self.net({"images": square[None]}, training=False)
        best, places = tf.math.top_k(tf.reshape(found["classification"], [-1]), self._candidates())
        deltas = tf.gather(found["box"][0], places // self.classes)
        anchors, labels = tf.gather(self._anchors, places // self.classes), places % self.classes
        # The order of keras-cv's deltas is y, x, height, width.
        moved = boxes.decode(tf.gather(deltas, [1, 0, 3, 2], axis=-1), anchors, boxes.VARIANCE)
        moved = boxes.clip(moved, (height, width))
        return faster_rcnn.best_of_each_class(moved, tf.nn.sigmoid(best), labels, (side, side), NMS_IOU, MIN_SCORE)

    def losses(self, images, truth, labels) -> list[tf.Tensor]:
        """Computes the losses of classes and boxes of a batch, divided by the number of anchors with an object.

        Args:
            images: Images, (batch, side, side, 3) RGB 0..255.
            truth: Edges of the objects, (batch, n, 4), padded with -1.
            labels: Labels of the objects from 0, (batch, n), padded with -1.

        Returns:
            Two scalars: the focal loss of the classes, and smooth L1 of the boxes.
        """
        found = self.net({"images": images}, training=True)
        deltas, classes = self.net.label_encoder(images, {"boxes": truth, "classes": tf.cast(labels, tf.float32)})
        positive = classes > _BACKGROUND
        count = tf.maximum(tf.reduce_sum(tf.cast(positive, tf.float32)), 1.0)
        one_hot = tf.one_hot(tf.cast(classes, tf.int32), self.classes)
        focal: Any = keras_cv.losses.FocalLoss(from_logits=True, reduction="none")(one_hot, found["classification"])
        smooth: Any = keras_cv.losses.SmoothL1Loss(reduction="none")(deltas, found["box"])
        return [
            tf.reduce_sum(tf.where(classes != _IGNORED, focal, 0.0)) / count,
            tf.reduce_sum(tf.where(positive, smooth, 0.0)) / count,
        ]

    def _candidates(self) -> int:
        return min(self.recipe.test_candidates, self._anchors.shape[0] * self.classes)
