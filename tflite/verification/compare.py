"""Accuracy of a classifier, and its deviation from a reference, over a stream of batches."""

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

THRESHOLD = 0.5  # a score above this is positive


def keras_classifier(model: keras.Model, include_preprocessing: bool = True) -> Classifier:
    """Wraps a Keras model as a function of raw images; `include_preprocessing`: whether it normalizes them itself."""
    classify = accuracy.keras_classifier(model)
    return lambda images: classify(np.asarray(imagenet.preprocess_input(images, include_preprocessing)))


def tflite_classifier(path: str, threads: int) -> Classifier:
    """Wraps a .tflite file as a function of raw images; its .json, if any, records whether it normalizes them.

    Raises:
        ValueError: If the file or its .json is damaged; the message names it.
    """
    read_sidecar(path)  # raises if it is damaged
    return accuracy.tflite_classifier(Runner(path, threads))


@dataclasses.dataclass
class Comparison:
    """Compares one classifier with a reference, batch by batch.

    Attributes:
        head: Kind of the outputs, which defines agreement.
        images: Number of images seen.
        agreeing: Number of images with the same first class as the reference; for scores, number of images on the
            reference's side of 0.5, for the score with the fewest.
        ties: Number of images with several classes tied for first, as integer outputs may; the lowest index counts.
        largest_error: Maximum difference between a score and the reference's.
        hits: Whether the label came first, per image; None without labels.
        expected_hits: Whether the label came first in the reference, per image; None without labels.
        hits5: Whether the label was among the first five, per image; None without labels.
        labels: Label of each image, or None.
        deviation: Errors of the outputs.
        step: Quantization step of integer outputs, which cannot show smaller differences; 0 for others.
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
    _agreeing: Any = 0  # one number, or one per score
    _named: set[int] = dataclasses.field(default_factory=set)

    @property
    def agreeing(self) -> int | None:
        """Number of images that agree, see `Head.agrees`; for several scores, the minimum over the scores."""
        return int(np.min(self._agreeing)) if self.head.agrees else None

    @property
    def error_decides(self) -> bool:
        """Whether agreement alone is not enough: always, except for classes if the reference predicts several."""
        return self.head.errs or len(self._named) < 2

    @property
    def top1(self) -> int | None:
        """Number of images whose label came first; None without labels."""
        return None if self.hits is None else int(self.hits.sum())

    @property
    def top5(self) -> int | None:
        """Number of images whose label was among the first five; None without labels."""
        return None if self.hits5 is None else int(self.hits5.sum())

    def update(self, scores: np.ndarray, reference: np.ndarray, labels: np.ndarray | None = None) -> None:
        """Adds a batch: scores and reference of shape (batch, classes), labels of shape (batch,)."""
        if scores.shape != reference.shape:
            raise ValueError(
                f"The file's outputs have shape {scores.shape[1:]}, the reference's {reference.shape[1:]}."
            )
        self.images += len(scores)
        self.deviation.update(scores, reference)
        # np.maximum, unlike max, propagates NaN.
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
        """Results in percent of the images.

        `relative_error` is the error in percent of the standard deviation of the reference's outputs over the images;
        it is 100 or more for a file whose outputs are constant. `spread` is the smallest of these deviations.
        `drop` is the decrease of top-1 from the reference's, in points, and `drop_margin` half the width of its 95%
        confidence interval, computed from paired differences, since both classifiers see the same images.
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
        """Decrease of top-1 from the reference's, in points, and half the width of its 95% confidence interval."""
        if self.hits is None or self.expected_hits is None:
            return None, None
        differences = self.expected_hits.astype(float) - self.hits
        return 100 * float(differences.mean()), 196 * float(differences.std()) / len(differences) ** 0.5

    def by_class(self) -> list[dict[str, float | int]]:
        """For each label: images, and top-1 of the reference and of this classifier in percent; largest drop first."""
        if self.labels is None or self.hits is None or self.expected_hits is None:
            return []
        rows = []
        for label in np.unique(self.labels):
            chosen = self.labels == label
            reference, own = (100 * float(hits[chosen].mean()) for hits in (self.expected_hits, self.hits))
            rows.append({"label": int(label), "images": int(chosen.sum()), "reference": reference, "top1": own})
        return sorted(rows, key=lambda row: row["top1"] - row["reference"])


def _ranked(scores: np.ndarray) -> np.ndarray:
    """The first five classes of each image; a single score means classes 0 and 1."""
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
        reference: Classifier that the candidates are compared with.
        candidates: Classifiers to compare.
        batches: Images and labels.
        head: Kind of the outputs.
        steps: `Comparison.step` of each candidate; 0 by default.

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
    """Messages about the files (all records but the first) that exceed these limits."""
    found = []
    for record in records[1:]:
        name, error, agreement = record["file"], record["relative_error"], record["agreement"]
        if not math.isfinite(record["largest_error"]):
            found.append(f"{name}: some outputs are NaN or infinite")
            continue
        if record["drop"] is not None and record["drop"] > max_drop:
            found.append(f"{name}: top-1 dropped {record['drop']:.2f} points (limit {max_drop})")
        if agreement is not None and agreement < min_agreement:
            found.append(f"{name}: agrees on {agreement:.2f}% of images (limit {min_agreement}%)")
        if record["error_decides"] and error > max_error:
            found.append(
                f"{name}: output error is {error:.3g}% of the reference's standard deviation of "
                f"{record['spread']:.2g} on these images (limit {max_error}%); if that deviation is small, verify on "
                "more varied images"
            )
    return found
