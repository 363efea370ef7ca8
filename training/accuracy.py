"""Accuracy of a classifier on a validation set, measured as in the paper: top-1 and top-5 on central crops."""

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from fd_keras import imagenet
from fd_keras.image_classifier import Classifier, keras_classifier, tflite_classifier
from fd_keras.progress import progress
from fd_keras.training import recipes
from fd_keras.training.sources import Source

if TYPE_CHECKING:
    from fd_keras.training.input_pipeline import Feed

__all__ = ["Accuracy", "Classifier", "check", "keras_classifier", "score", "tflite_classifier"]


@dataclasses.dataclass
class Accuracy:
    """Counts of correct predictions.

    Attributes:
        images: Number of images.
        top1: Number of images whose label has the highest score.
        top5: Number of images whose label is among the five highest scores.
    """

    images: int = 0
    top1: int = 0
    top5: int = 0

    def update(self, scores: np.ndarray, labels: np.ndarray) -> None:
        """Counts a batch: scores of shape (batch, classes), integer labels of shape (batch,)."""
        hits = imagenet.top_classes(scores, 5) == labels[:, None]
        self.images += len(labels)
        self.top1 += int(hits[:, 0].sum())
        self.top5 += int(hits.sum())

    def percentages(self) -> dict[str, float]:
        """Returns the number of images, and top-1 and top-5 in percent."""
        return {"images": self.images, "top1": 100 * self.top1 / self.images, "top5": 100 * self.top5 / self.images}


def score(classifier: Classifier, source: Source, size: int, batch_size: int, feed: "Feed") -> Accuracy:
    """Runs a classifier on all photos of a validation set.

    Photos that cannot be decoded are skipped, and counted by `feed.bad`.

    Args:
        classifier: Classifier of square RGB images.
        source: Validation set.
        size: Side of the images in pixels.
        batch_size: Number of photos in a batch.
        feed: How batches are made on this machine.

    Raises:
        ValueError: If more than `feed.bad.limit` photos, or all, cannot be decoded.
        DamagedDataError: If a file is damaged or missing.
    """
    from fd_keras.training import input_pipeline  # imports OpenCV, which the classifiers above do not need

    feed = dataclasses.replace(feed, careful=True)  # there is only one pass, so it cannot be repeated carefully
    batches = input_pipeline.evaluation_batches(source, size, batch_size, feed)
    accuracy = Accuracy()
    with input_pipeline.explained([source]):
        for images, labels, weights in progress(batches.as_numpy_iterator(), len(batches), unit="batches"):
            real = weights > 0
            if real.any():
                accuracy.update(classifier(images[real]), labels[real])
            if feed.bad.too_many:
                raise ValueError(str(feed.bad))
    if not accuracy.images:
        raise ValueError(f"{source.name}: none of the photos can be decoded.")
    return accuracy


def check(top1: float, target: float, what: str) -> str:
    """Compares an accuracy with a target.

    Args:
        top1: Measured top-1 in percent.
        target: Expected top-1 in percent.
        what: Where the target comes from, for the message.

    Returns:
        A line that states that the target is reached.

    Raises:
        ValueError: If the target is missed by more than `recipes.TOLERANCE`.
    """
    text = f"{what}: top-1 {top1:.2f}%, target {target:.1f}% (tolerance {recipes.TOLERANCE})"
    if top1 < target - recipes.TOLERANCE:
        raise ValueError(f"{text}: missed by {target - top1:.2f} points")
    return f"{text}: reached"
