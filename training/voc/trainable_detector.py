"""A detector in training: a step, and all variables that it changes."""

from typing import Any, ClassVar

import keras
import numpy as np
import tensorflow as tf

from fd_keras.training.optimizer import TorchSGD
from fd_keras.training.voc import detection_pipeline, losses, targets

_ANCHORS, _ROIS = range(2)  # purposes of random numbers; each has its own seeds


class TrainableDetector:
    """A detector in training; its `variables` are the whole state of a run.

    Args:
        detector: Detector to train: a `FasterRCNN`, or another one in subclasses.
        optimizer: Optimizer, which is built here.
        seed: Seed of the sampled anchors and RoIs.

    Attributes:
        steps: Number of steps done.
        bad_step: First step whose loss was not finite, else -1.
        sums: Sums of the losses since the start of the epoch, float32, in the order of `LOSSES`.
    """

    LOSSES: ClassVar[tuple[str, ...]] = ("loss", *losses.NAMES)

    def __init__(self, detector: Any, optimizer: TorchSGD, seed: int):
        self.detector, self.optimizer, self.seed = detector, optimizer, seed
        optimizer.build(detector.net.trainable_variables)
        self.steps, self.bad_step = _state("steps", 0, "int32"), _state("bad_step", -1, "int32")
        self.sums = _state("sums", np.zeros(len(self.LOSSES)), "float32")
        # Without AutoGraph, which would take seconds and is not needed, as there is no control flow of tensors.
        self.step = tf.function(self._step, input_signature=[self.signature()], autograph=False)

    def signature(self) -> detection_pipeline.Example:
        """Returns the specs of a step's tensors; sides are unknown, so that one graph handles all image sizes."""
        return detection_pipeline.SPEC

    @property
    def variables(self) -> list[keras.Variable]:
        """All variables of a checkpoint, frozen ones included, without duplicates, always in the same order."""
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
        """Computes the losses of one image, in the order of `losses.NAMES`, from weights, seed and step only."""
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
        """Returns the seed of a step, int32 (2,); `targets` uses this one and the next."""
        return tf.stack([tf.constant(self.seed), 4 * tf.convert_to_tensor(self.steps.value) + 2 * purpose])


def _state(name: str, value, dtype: str) -> keras.Variable:
    return keras.Variable(value, dtype=dtype, trainable=False, autocast=False, name=name)
