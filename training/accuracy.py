"""Accuracy of any classifier on a validation set, the paper's way: central crop, top-1 and top-5."""

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
    """Hits counted over batches.

    Attributes:
        images: Number of images.
        top1: Number of images whose label came first.
        top5: Number of images whose label was among the first five.
    """

    images: int = 0
    top1: int = 0
    top5: int = 0

    def update(self, scores: np.ndarray, labels: np.ndarray) -> None:
        """Adds scores of shape (batch, classes) and labels of shape (batch,)."""
        hits = imagenet.top_classes(scores, 5) == labels[:, None]
        self.images += len(labels)
        self.top1 += int(hits[:, 0].sum())
        self.top5 += int(hits.sum())

    def percentages(self) -> dict[str, float]:
        """Top-1 and top-5 in percent of the images."""
        return {"images": self.images, "top1": 100 * self.top1 / self.images, "top5": 100 * self.top5 / self.images}


def score(classifier: Classifier, source: Source, size: int, batch_size: int, feed: "Feed") -> Accuracy:
    """Runs a whole validation set through a classifier.

    Photos that cannot be decoded are left out, and counted by `feed.bad`.

    Raises:
        ValueError: If there are more of those than `feed.bad.limit`.
        DamagedDataError: If a file is damaged or gone.
    """
    from fd_keras.training import input_pipeline  # which needs OpenCV; the classifiers above do not

    feed = dataclasses.replace(feed, careful=True)  # one pass: there is no second one to be careful in
    batches = input_pipeline.evaluation_batches(source, size, batch_size, feed)
    accuracy = Accuracy()
    with input_pipeline.explained([source]):
        for images, labels, weights in progress(batches.as_numpy_iterator(), len(batches), unit="batches"):
            real = weights > 0
            if real.any():
                accuracy.update(classifier(images[real]), labels[real])
            if feed.bad.too_many:
                raise ValueError(str(feed.bad))
    return accuracy


def check(top1: float, target: float, what: str) -> str:
    """The line about a target that is met; raises ValueError if it is missed by more than `recipes.TOLERANCE`."""
    text = f"{what}: top-1 {top1:.2f}%, to reach {target:.1f}% (tolerance {recipes.TOLERANCE})"
    if top1 < target - recipes.TOLERANCE:
        raise ValueError(f"{text}: missed by {target - top1:.2f}")
    return f"{text}: reached"
