"""A RetinaNet in training: batches and losses."""

from typing import Any

import tensorflow as tf

from fd_keras.training.optimizer import TorchSGD
from fd_keras.training.voc import detection_pipeline
from fd_keras.training.voc.detection_pipeline import Example, Images
from fd_keras.training.voc.retinanet_recipe import GRAY, RetinaNetRecipe
from fd_keras.training.voc.trainable_detector import TrainableDetector


def batches(
    images: Images, recipe: RetinaNetRecipe, seed: int, step: int, threads: int | None = None
) -> tf.data.Dataset:
    """Returns the batches from a step to the end of its epoch, without the images that do not fill a batch.

    Args:
        images: Training images.
        recipe: Recipe, which sets image sizes and flips.
        seed: Seed of the run.
        step: Number of steps done in the run, the index of the first batch.
        threads: Number of decoding threads; None lets TensorFlow choose.

    Returns:
        A dataset of `Example`s with a batch dimension; images are padded with gray, boxes and labels with -1.
    """
    epoch, done = divmod(step, images.count // recipe.batch_size)
    first = epoch * images.count + done * recipe.batch_size
    examples = detection_pipeline.examples(images, recipe, seed, first, threads)
    padding = Example(*(tf.constant(value, spec.dtype) for value, spec in zip(_PADDING, _SPEC, strict=True)))
    shapes: Any = (recipe.side, recipe.side, 3), (), (None, 4), (None,)
    return examples.padded_batch(recipe.batch_size, Example(*shapes), padding, drop_remainder=True)


_SPEC, _PADDING = detection_pipeline.SPEC, (GRAY, 0, -1, -1)


class TrainableRetinaNet(TrainableDetector):
    """A RetinaNet in training, see `TrainableDetector`."""

    LOSSES = ("loss", "class", "box")

    def __init__(self, detector: Any, optimizer: TorchSGD, seed: int):
        own = {id(weight) for weight in detector.net.backbone.trainable_variables}
        share = detector.recipe.backbone_rate
        optimizer.shares = [share if id(weight) in own else 1.0 for weight in detector.net.trainable_variables]
        super().__init__(detector, optimizer, seed)

    def signature(self) -> Example:
        """Returns the specs of a step's tensors."""
        count, side = self.detector.recipe.batch_size, self.detector.recipe.side
        shapes = (count, side, side, 3), (count,), (count, None, 4), (count, None)
        specs: Any = [tf.TensorSpec(shape, spec.dtype) for shape, spec in zip(shapes, _SPEC, strict=True)]
        return Example(*specs)

    def losses(self, example: Example) -> list[tf.Tensor]:
        """Computes the losses of classes and boxes of a batch."""
        return self.detector.losses(example.image, example.truth, example.labels)
