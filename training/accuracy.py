"""Accuracy of any classifier on a validation set, the paper's way: centre crop, top-1 and top-5."""

import dataclasses
import json
import os
from collections.abc import Callable

import keras
import numpy as np

from fd_keras import imagenet
from fd_keras.litert import Runner
from fd_keras.progress import progress
from fd_keras.training import input_pipeline, recipes
from fd_keras.training.sources import Source

Classifier = Callable[[np.ndarray], np.ndarray]  # uint8 RGB (batch, height, width, 3) -> scores (batch, classes)


@dataclasses.dataclass
class Accuracy:
    """Counts hits over batches.

    Attributes:
        images: how many were seen.
        top1: how many had their label first.
        top5: how many had it among the first five.
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


def keras_classifier(model: keras.Model) -> Classifier:
    """A Keras model that takes raw images."""
    return lambda images: model.predict_on_batch(images.astype("float32"))


def tflite_classifier(runner: Runner) -> Classifier:
    """A .tflite file; the .json beside it, if there is one, says whether it normalizes by itself."""
    path = os.path.splitext(runner.path)[0] + ".json"
    include = True
    if os.path.exists(path):
        with open(path, encoding="utf-8") as file:
            include = json.load(file).get("include_preprocessing", True)
    return lambda images: runner(imagenet.preprocess_input(images.astype("float32"), include))


def score(classifier: Classifier, source: Source, size: int, batch_size: int, feed: input_pipeline.Feed) -> Accuracy:
    """Runs a whole validation set through a classifier.

    Photos that cannot be decoded are left out, and counted by `feed.bad`.

    Raises:
        ValueError: if there are more of those than `feed.bad.limit`.
    """
    feed = dataclasses.replace(feed, careful=True)  # one pass: there is no second one to be careful in
    batches = input_pipeline.evaluation_batches(source, size, batch_size, feed)
    accuracy = Accuracy()
    for images, labels, weights in progress(batches.as_numpy_iterator(), len(batches), unit="batches"):
        real = weights > 0
        if real.any():
            accuracy.update(classifier(images[real]), labels[real])
        if feed.bad.too_many:
            raise ValueError(str(feed.bad))
    return accuracy


def check(top1: float, target: float, what: str) -> str:
    """Says by how much a target is met. Raises ValueError if it is missed by more than `recipes.TOLERANCE`."""
    text = f"{what}: top-1 {top1:.2f}%, to reach {target:.1f}% (tolerance {recipes.TOLERANCE})"
    if top1 < target - recipes.TOLERANCE:
        raise ValueError(f"{text}: missed by {target - top1:.2f}")
    return f"{text}: reached"
