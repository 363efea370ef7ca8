"""A RetinaNet as it is trained: its batches and its losses."""

from typing import Any

import tensorflow as tf

from fd_keras.training.voc import detection_pipeline, retinanet
from fd_keras.training.voc.detection_pipeline import Example, Images
from fd_keras.training.voc.retinanet_recipe import RetinaNetRecipe
from fd_keras.training.voc.trainable_detector import TrainableDetector


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
        """The losses of classes and of boxes of a batch."""
        return self.detector.losses(example.image, example.truth, example.labels)
