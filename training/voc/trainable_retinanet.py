"""A RetinaNet as it is trained: its batches and its losses."""

from typing import Any

import keras_cv
import tensorflow as tf

from fd_keras.training.voc import detection_pipeline, retinanet
from fd_keras.training.voc.detection_pipeline import Example, Images
from fd_keras.training.voc.retinanet_recipe import RetinaNetRecipe
from fd_keras.training.voc.trainable_detector import TrainableDetector

_BACKGROUND, _IGNORED = -1, -2  # what keras-cv's label encoder gives for a class


def batches(
    images: Images, recipe: RetinaNetRecipe, seed: int, step: int, threads: int | None = None
) -> tf.data.Dataset:
    """The batches of the rest of an epoch, from a step on; the images that do not fill a batch are left out.

    Args:
        images: Images of the split.
        recipe: Recipe, which decides the sizes and the flip.
        seed: Seed of the run.
        step: Number of steps done in the run.
        threads: Number of threads that decode.

    Returns:
        `Example`s with a batch in front; images are padded with gray, boxes and labels with -1.
    """
    epoch, done = divmod(step, images.count // recipe.batch_size)
    first = epoch * images.count + done * recipe.batch_size
    examples = detection_pipeline.examples(images, recipe, seed, first, threads)
    padding = Example(*(tf.constant(value, spec.dtype) for value, spec in zip(_PADDING, _SPEC, strict=True)))
    shapes: Any = (recipe.side, recipe.side, 3), (), (None, 4), (None,)
    return examples.padded_batch(recipe.batch_size, Example(*shapes), padding, drop_remainder=True)


_SPEC, _PADDING = detection_pipeline.SPEC, (retinanet.GRAY, 0, -1, -1)


class TrainableRetinaNet(TrainableDetector):
    """A RetinaNet under training, see `TrainableDetector`."""

    LOSSES = ("loss", "class", "box")

    def signature(self) -> Example:
        """The tensors of a step."""
        count, side = self.detector.recipe.batch_size, self.detector.recipe.side
        shapes = (count, side, side, 3), (count,), (count, None, 4), (count, None)
        specs: Any = [tf.TensorSpec(shape, spec.dtype) for shape, spec in zip(shapes, _SPEC, strict=True)]
        return Example(*specs)

    def losses(self, example: Example) -> list[tf.Tensor]:
        """The two losses of a batch, each a sum over anchors by the number of those with an object."""
        net = self.detector.net
        found = net({"images": example.image}, training=True)
        truth = {"boxes": example.truth, "classes": tf.cast(example.labels, tf.float32)}
        deltas, classes = net.label_encoder(example.image, truth)
        positive = classes > _BACKGROUND
        count = tf.maximum(tf.reduce_sum(tf.cast(positive, tf.float32)), 1.0)
        one_hot = tf.one_hot(tf.cast(classes, tf.int32), self.detector.classes)
        focal: Any = keras_cv.losses.FocalLoss(from_logits=True, reduction="none")(one_hot, found["classification"])
        smooth: Any = keras_cv.losses.SmoothL1Loss(reduction="none")(deltas, found["box"])
        return [
            tf.reduce_sum(tf.where(classes != _IGNORED, focal, 0.0)) / count,
            tf.reduce_sum(tf.where(positive, smooth, 0.0)) / count,
        ]
