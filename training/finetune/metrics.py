"""Metrics on held-out photos: intervals, confusion, precision and recall of each class, and the photos worth a look."""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from fd_keras import imagenet
from fd_keras.training.finetune.results import ClassCount, Measured

TOP5_FROM = 11  # classes; with fewer, a top-5 is near 100% whatever the network
_Z95 = 1.959964  # of the normal distribution, two-sided


@dataclasses.dataclass(frozen=True)
class ClassMetrics:
    """How well one class is recognized.

    Attributes:
        photos: Number of photos of the class.
        precision: Share of the photos named so that are of the class; nan if none is named so.
        recall: Share of the photos of the class that are named so; nan if there is none.
        f1: Harmonic mean of both; nan if the class neither occurs nor is named.
    """

    photos: int
    precision: float
    recall: float
    f1: float


def wilson_interval(hits: int, total: int) -> tuple[float, float]:
    """The 95% interval of a share, by Wilson's score, which holds for few photos and near 0 and 1 too.

    Args:
        hits: Number of hits.
        total: Number of trials, at least 1.

    Returns:
        Lower and upper end, of 1.
    """
    share, z2 = hits / total, _Z95**2
    center = (share + z2 / (2 * total)) / (1 + z2 / total)
    half = _Z95 * math.sqrt(share * (1 - share) / total + z2 / (4 * total**2)) / (1 + z2 / total)
    return max(0.0, center - half), min(1.0, center + half)


def top1_text(measured: Measured) -> str:
    """Top-1 with its interval, as text."""
    low, high = wilson_interval(measured.hits, len(measured.labels))
    return f"top-1 {100 * measured.top1:.1f}% (95% interval {100 * low:.1f} to {100 * high:.1f})"


def confusion_matrix(measured: Measured) -> np.ndarray:
    """Number of photos by true class (rows) and named class (columns), int64 of shape (classes, classes)."""
    classes = measured.probabilities.shape[1]
    pairs = measured.labels * classes + measured.probabilities.argmax(-1)
    return np.bincount(pairs, minlength=classes**2).reshape(classes, classes)


def class_metrics(matrix: np.ndarray) -> list[ClassMetrics]:
    """Precision, recall and F1 of each class, from a confusion matrix."""
    rows = zip(matrix.diagonal().tolist(), matrix.sum(0).tolist(), matrix.sum(1).tolist(), strict=True)
    return [
        ClassMetrics(true, _share(hits, named), _share(hits, true), _share(2 * hits, named + true))
        for hits, named, true in rows
    ]


def _share(part: int, whole: int) -> float:
    return part / whole if whole else math.nan


def confused_pairs(matrix: np.ndarray, count: int) -> list[tuple[int, int, int]]:
    """The most frequent mistakes: (true class, named class, number of photos), most frequent first."""
    mistakes = matrix - np.diag(matrix.diagonal())
    order = np.argsort(-mistakes, axis=None, kind="stable")[:count]
    pairs = (divmod(index, len(matrix)) for index in order.tolist())
    return [(true, named, int(mistakes[true, named])) for true, named in pairs if mistakes[true, named]]


def confident_mistakes(measured: Measured, count: int) -> np.ndarray:
    """Indices of the photos of another class than the one that is named, those named with most confidence first."""
    wrong = np.flatnonzero(measured.probabilities.argmax(-1) != measured.labels)
    return wrong[np.argsort(-measured.probabilities.max(-1)[wrong], kind="stable")][:count]


def least_certain(measured: Measured, count: int, without: np.ndarray) -> np.ndarray:
    """Indices of the photos whose two first classes are nearest to each other, nearest first.

    Args:
        measured: Answers, of at least two classes.
        count: Maximum number of photos.
        without: Indices of photos to leave out.
    """
    ordered = np.sort(measured.probabilities, axis=-1)
    order = np.argsort(ordered[:, -1] - ordered[:, -2], kind="stable")
    return order[~np.isin(order, without)][:count]


def top5(measured: Measured) -> float | None:
    """Share of the photos whose class was among the first five, of 1; None where there are too few classes."""
    if measured.probabilities.shape[1] < TOP5_FROM:
        return None
    return float((imagenet.top_classes(measured.probabilities, 5) == measured.labels[:, None]).any(-1).mean())


def majority(measured: Measured, counts: Sequence[ClassCount]) -> tuple[int, float]:
    """The class with most photos to train on, and the top-1, of 1, of always naming it."""
    label = int(np.argmax([count.train for count in counts]))
    return label, float((measured.labels == label).mean())


def discordant(ours: Measured, other: Measured) -> tuple[int, int] | None:
    """Photos that only `ours` names right, and photos that only `other` does; None if they saw different photos."""
    if list(ours.paths) != list(other.paths):
        return None
    right, others = (measured.probabilities.argmax(-1) == measured.labels for measured in (ours, other))
    return int((right & ~others).sum()), int((others & ~right).sum())
