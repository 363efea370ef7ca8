"""Accuracy of a classifier, and how far it is from a reference, over a stream of batches."""

import dataclasses
import math
from collections.abc import Iterator, Sequence
from typing import Any

import keras
import numpy as np

from fd_keras import imagenet
from fd_keras.head import HEADS, Head
from fd_keras.litert import Runner
from fd_keras.tflite.format.sidecar import read_sidecar
from fd_keras.tflite.verification.deviation import Deviation
from fd_keras.training import accuracy
from fd_keras.training.accuracy import Classifier

THRESHOLD = 0.5  # of a score: whether the network says yes


def keras_classifier(model: keras.Model, include_preprocessing: bool = True) -> Classifier:
    """A Keras model as a function of raw images; `include_preprocessing`: whether it normalizes them by itself."""
    classify = accuracy.keras_classifier(model)
    return lambda images: classify(np.asarray(imagenet.preprocess_input(images, include_preprocessing)))


def tflite_classifier(path: str, threads: int) -> Classifier:
    """A .tflite file as a function of raw images; its .json, if there is one, records whether it normalizes them.

    Raises:
        ValueError: If the file or its .json is damaged; names it.
    """
    read_sidecar(path)  # raises if it is damaged
    return accuracy.tflite_classifier(Runner(path, threads))


@dataclasses.dataclass
class Comparison:
    """Compares one classifier with a reference, batch by batch.

    Attributes:
        head: What the outputs are, and so what agreement is.
        images: Number of images seen.
        agreeing: Number of those with the reference's first class first; of scores, of those that are on the
            reference's side of 0.5, where these are fewest.
        ties: Number of those with several classes first, of which the first in order counts; integer outputs tie.
        largest_error: Largest difference of a score from the reference's.
        hits: For every image, whether its label was first; None without labels.
        expected_hits: For every image, whether the reference had its label first; None without labels.
        hits5: For every image, whether its label was among the first five; None without labels.
        labels: Label of every image, or None.
        deviation: Errors of the outputs.
        step: Distance of the levels of integer outputs, which show no smaller differences; 0 for others.
    """

    head: Head = HEADS["classes"]
    images: int = 0
    ties: int = 0
    largest_error: float = 0.0
    hits: np.ndarray | None = None
    expected_hits: np.ndarray | None = None
    hits5: np.ndarray | None = None
    labels: np.ndarray | None = None
    deviation: Deviation = dataclasses.field(default_factory=Deviation)
    step: float = 0.0
    _agreeing: Any = 0  # one number, or one a score
    _named: set[int] = dataclasses.field(default_factory=set)

    @property
    def agreeing(self) -> int | None:
        """How many images agree, see `Head.agrees`; of several scores, of the one that agrees least."""
        return int(np.min(self._agreeing)) if self.head.agrees else None

    @property
    def error_decides(self) -> bool:
        """Whether agreement alone shows too little: always but for classes of which the reference names several."""
        return self.head.errs or len(self._named) < 2

    @property
    def top1(self) -> int | None:
        """How many images had their label first; None without labels."""
        return None if self.hits is None else int(self.hits.sum())

    @property
    def top5(self) -> int | None:
        """How many images had their label among the first five; None without labels."""
        return None if self.hits5 is None else int(self.hits5.sum())

    def update(self, scores: np.ndarray, reference: np.ndarray, labels: np.ndarray | None = None) -> None:
        """Adds a batch: scores and reference of shape (batch, classes), labels of shape (batch,)."""
        if scores.shape != reference.shape:
            raise ValueError(f"The file gives scores of shape {scores.shape[1:]}, the reference {reference.shape[1:]}.")
        self.images += len(scores)
        self.deviation.update(scores, reference)
        # np.maximum, unlike max, lets NaN through to the result.
        self.largest_error = float(np.maximum(self.largest_error, np.abs(scores - reference).max()))
        if self.head.agrees == "threshold":
            self._agreeing = self._agreeing + np.sum((scores >= THRESHOLD) == (reference >= THRESHOLD), axis=0)
        best, expected = (_ranked(values) for values in (scores, reference))
        if self.head.agrees == "first":
            self._agreeing += int(np.sum(best[:, 0] == expected[:, 0]))
            self._named.update(expected[:, 0].tolist())
        if scores.shape[1] > 1:
            self.ties += int(np.sum(np.sum(scores == scores.max(axis=1, keepdims=True), axis=1) > 1))
        if labels is not None:
            found = best == labels[:, None]
            self.hits = _joined(self.hits, found[:, 0])
            self.hits5 = _joined(self.hits5, found.any(axis=1))
            self.expected_hits = _joined(self.expected_hits, expected[:, 0] == labels)
            self.labels = _joined(self.labels, labels)

    def percentages(self) -> dict[str, Any]:
        """The sums as percent of the images.

        `relative_error` is the error in percent of the standard deviation of the reference's outputs over the images:
        of a file that always answers the same 100 or more. `spread` is that deviation where it is least.
        `drop` is how much lower top-1 is than the reference's, in points, and `drop_margin` the half width of its 95%
        confidence interval. Both classifiers see the same images, so it comes from the differences image by image.
        """

        def percent(count: int | None) -> float | None:
            return None if count is None else 100 * count / self.images

        drop, margin = self.drop()
        even = self.head.agrees == "threshold"
        return {
            "measure": self.head.name,
            "images": self.images,
            "top1": percent(self.top1),
            "top5": percent(self.top5),
            "drop": drop,
            "drop_margin": margin,
            "agreement": percent(self.agreeing),
            "ties": self.ties,
            "largest_error": self.largest_error,
            "mean_error": self.deviation.mean_error,
            "relative_error": 100 * self.deviation.relative_error(pooled=self.head.pooled, even=even, step=self.step),
            "correlation": self.deviation.correlation,
            "spread": float(self.deviation.spread.min()),
            "error_decides": self.error_decides,
        }

    def drop(self) -> tuple[float | None, float | None]:
        """Top-1 below the reference's, in points, and half the width of the 95% confidence interval."""
        if self.hits is None or self.expected_hits is None:
            return None, None
        differences = self.expected_hits.astype(float) - self.hits
        return 100 * float(differences.mean()), 196 * float(differences.std()) / len(differences) ** 0.5

    def by_class(self) -> list[dict[str, float | int]]:
        """For each label: images, the reference's top-1 and this one's in percent; the largest drop first."""
        if self.labels is None or self.hits is None or self.expected_hits is None:
            return []
        rows = []
        for label in np.unique(self.labels):
            chosen = self.labels == label
            reference, own = (100 * float(hits[chosen].mean()) for hits in (self.expected_hits, self.hits))
            rows.append({"label": int(label), "images": int(chosen.sum()), "reference": reference, "top1": own})
        return sorted(rows, key=lambda row: row["top1"] - row["reference"])


def _ranked(scores: np.ndarray) -> np.ndarray:
    """The first five classes of each image; one score stands for the classes 0 and 1."""
    if scores.shape[1] == 1:
        return (scores >= THRESHOLD).astype("int64")
    return imagenet.top_classes(scores, 5)


def _joined(before: np.ndarray | None, more: np.ndarray) -> np.ndarray:
    return more if before is None else np.concatenate([before, more])


def compare(
    reference: Classifier,
    candidates: Sequence[Classifier],
    batches: Iterator[tuple[np.ndarray, np.ndarray | None]],
    head: Head = HEADS["classes"],
    steps: Sequence[float] = (),
) -> list[Comparison]:
    """Runs every batch of (images, labels) through all classifiers.

    Args:
        reference: What the candidates are compared with.
        candidates: Classifiers to compare.
        batches: Images and labels.
        head: What the outputs are.
        steps: For each candidate, see `Comparison.step`; default 0.

    Returns:
        A comparison for the reference itself, then one for each candidate.
    """
    results = [Comparison(head, step=step) for step in (0.0, *(steps or [0.0] * len(candidates)))]
    for images, labels in batches:
        expected = reference(images)
        for result, scores in zip(results, [expected, *(run(images) for run in candidates)], strict=True):
            result.update(scores, expected, labels)
    return results


def failures(records: Sequence[dict], max_drop: float, min_agreement: float, max_error: float) -> list[str]:
    """What is wrong with the files (all records but the first) by these limits."""
    found = []
    for record in records[1:]:
        name, error, agreement = record["file"], record["relative_error"], record["agreement"]
        if not math.isfinite(record["largest_error"]):
            found.append(f"{name}: its outputs are not all finite numbers")
            continue
        if record["drop"] is not None and record["drop"] > max_drop:
            found.append(f"{name}: top-1 dropped {record['drop']:.2f} points (limit {max_drop})")
        if agreement is not None and agreement < min_agreement:
            found.append(f"{name}: agrees on {agreement:.2f}% of images (limit {min_agreement}%)")
        if record["error_decides"] and error > max_error:
            found.append(
                f"{name}: the error of its outputs is {error:.3g}% of the reference's deviation of "
                f"{record['spread']:.2g} on these images (limit {max_error}%); if that deviation is small, verify on "
                "more varied images"
            )
    return found
