"""A detector as it is trained: one step, and everything that changes in it."""

from typing import Any, ClassVar

import keras
import numpy as np
import tensorflow as tf

from fd_keras.training.optimizer import TorchSGD
from fd_keras.training.voc import detection_pipeline, losses, targets

_ANCHORS, _ROIS = range(2)  # purposes of random numbers, which keep them apart


class TrainableDetector:
    """A detector under training; saving `variables` saves the run.

    Args:
        detector: Detector to train: a `FasterRCNN`, or what a subclass trains.
        optimizer: Optimizer, which is built here.
        seed: Seed of the anchors and RoIs that are drawn.

    Attributes:
        steps: Number of steps done.
        bad_step: First step whose loss was not finite, else -1.
        sums: Sums of the losses named in `LOSSES` since the epoch began.
    """

    LOSSES: ClassVar[tuple[str, ...]] = ("loss", *losses.NAMES)

    def __init__(self, detector: Any, optimizer: TorchSGD, seed: int):
        self.detector, self.optimizer, self.seed = detector, optimizer, seed
        optimizer.build(detector.net.trainable_variables)
        self.steps, self.bad_step = _state("steps", 0, "int32"), _state("bad_step", -1, "int32")
        self.sums = _state("sums", np.zeros(len(self.LOSSES)), "float32")
        # Without autograph, which would spend seconds on rewriting code that has no control flow of tensors.
        self.step = tf.function(self._step, input_signature=[self.signature()], autograph=False)

    def signature(self) -> detection_pipeline.Example:
        """The tensors of a step; of unknown sides, which makes one graph for images of every size."""
        return detection_pipeline.SPEC

    @property
    def variables(self) -> list[keras.Variable]:
        """All that changes, and the frozen rest, once each, in an order that does not change."""
        return [*self.detector.net.variables, *self.optimizer.variables, self.steps, self.bad_step, self.sums]

    def _step(self, example: detection_pipeline.Example) -> tf.Tensor:
        weights = self.detector.net.trainable_variables
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch([weight.value for weight in weights])
            found = self.losses(example)
            total = tf.add_n(found)
        self.optimizer.apply(tape.gradient(total, [weight.value for weight in weights]), weights)
        every = tf.stack([total, *found])
        first_bad = (self.bad_step.value < 0) & ~tf.math.is_finite(total)
        self.bad_step.assign(tf.where(first_bad, self.steps.value, self.bad_step.value))
        self.sums.assign_add(every)
        self.steps.assign_add(1)
        return every

    def losses(self, example: detection_pipeline.Example) -> list[tf.Tensor]:
        """The four losses of one image, in the order of `losses.NAMES`; a pure function of weights, seed and step."""
        detector, size = self.detector, tf.shape(example.image)[:2]
        first = detector.propose(example.image, example.scale, training=True)
        anchor = targets.anchor_targets(first.anchors, example.truth, size, self._seed(_ANCHORS))
        roi = targets.roi_targets(first.boxes, example.truth, example.labels, self._seed(_ROIS))
        logits, deltas = detector.classify(first, roi.rois, training=True)
        return [
            losses.objectness(first.logits, anchor.labels),
            losses.anchor_boxes(first.deltas, anchor.deltas, anchor.labels),
            losses.classes(logits, roi.labels),
            losses.roi_boxes(deltas, roi.deltas, roi.labels),
        ]

    def _seed(self, purpose: int) -> tf.Tensor:
        """Of a step; `targets` takes this and the one after."""
        return tf.stack([tf.constant(self.seed), 4 * tf.convert_to_tensor(self.steps.value) + 2 * purpose])


def _state(name: str, value, dtype: str) -> keras.Variable:
    return keras.Variable(value, dtype=dtype, trainable=False, autocast=False, name=name)
