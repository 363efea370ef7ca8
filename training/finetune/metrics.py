"""Metrics on held-out photos: intervals, confusion matrix, precision and recall by class, and notable photos."""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from fd_keras import imagenet
from fd_keras.training.finetune.results import ClassCount, Measured

TOP5_FROM = 11  # minimum number of classes for top-5; with fewer, it is always near 100%
_Z95 = 1.959964  # two-sided 95% quantile of the normal distribution


@dataclasses.dataclass(frozen=True)
class ClassMetrics:
    """Precision and recall of a class.

    Attributes:
        photos: Number of photos of the class.
        precision: Share of correct predictions of the class; nan without predictions.
        recall: Share of the photos of the class that are recognized; nan without photos.
        f1: Harmonic mean of both; nan without predictions and photos.
    """

    photos: int
    precision: float
    recall: float
    f1: float


def wilson_interval(hits: int, total: int) -> tuple[float, float]:
    """Computes Wilson's 95% interval of a proportion, which is also valid for few photos and near 0 and 1.

    Args:
        hits: Number of hits.
        total: Number of trials, at least 1.

    Returns:
        Lower and upper end, from 0 to 1.
    """
    share, z2 = hits / total, _Z95**2
    center = (share + z2 / (2 * total)) / (1 + z2 / total)
    half = _Z95 * math.sqrt(share * (1 - share) / total + z2 / (4 * total**2)) / (1 + z2 / total)
    return max(0.0, center - half), min(1.0, center + half)


def top1_text(measured: Measured) -> str:
    """Formats top-1 with its interval."""
    low, high = wilson_interval(measured.hits, len(measured.labels))
    return f"top-1 {100 * measured.top1:.1f}% (95% interval {100 * low:.1f} to {100 * high:.1f})"


def confusion_matrix(measured: Measured) -> np.ndarray:
    """Counts photos by true class (rows) and predicted class (columns), int64 of shape (classes, classes)."""
    classes = measured.probabilities.shape[1]
    pairs = measured.labels * classes + measured.probabilities.argmax(-1)
    return np.bincount(pairs, minlength=classes**2).reshape(classes, classes)


def class_metrics(matrix: np.ndarray) -> list[ClassMetrics]:
    """Computes precision, recall and F1 of each class from a confusion matrix."""
    rows = zip(matrix.diagonal().tolist(), matrix.sum(0).tolist(), matrix.sum(1).tolist(), strict=True)
    return [
        ClassMetrics(true, _share(hits, named), _share(hits, true), _share(2 * hits, named + true))
        for hits, named, true in rows
    ]


def _share(part: int, whole: int) -> float:
    return part / whole if whole else math.nan


def confused_pairs(matrix: np.ndarray, count: int) -> list[tuple[int, int, int]]:
    """Returns the most frequent mistakes as (true class, predicted class, number of photos), most frequent first."""
    mistakes = matrix - np.diag(matrix.diagonal())
    order = np.argsort(-mistakes, axis=None, kind="stable")[:count]
    pairs = (divmod(index, len(matrix)) for index in order.tolist())
    return [(true, named, int(mistakes[true, named])) for true, named in pairs if mistakes[true, named]]


def confident_mistakes(measured: Measured, count: int) -> np.ndarray:
    """Returns the indices of misclassified photos, the most confident first."""
    wrong = np.flatnonzero(measured.probabilities.argmax(-1) != measured.labels)
    return wrong[np.argsort(-measured.probabilities.max(-1)[wrong], kind="stable")][:count]


def least_certain(measured: Measured, count: int, without: np.ndarray) -> np.ndarray:
    """Returns the indices of the photos with the smallest difference between their two best probabilities.

    Args:
        measured: Predictions, of at least two classes.
        count: Maximum number of photos.
        without: Indices of photos to leave out.
    """
    ordered = np.sort(measured.probabilities, axis=-1)
    order = np.argsort(ordered[:, -1] - ordered[:, -2], kind="stable")
    return order[~np.isin(order, without)][:count]


def top5(measured: Measured) -> float | None:
    """Computes top-5 from 0 to 1; None if there are too few classes."""
    if measured.probabilities.shape[1] < TOP5_FROM:
        return None
    return float((imagenet.top_classes(measured.probabilities, 5) == measured.labels[:, None]).any(-1).mean())


def majority(measured: Measured, counts: Sequence[ClassCount]) -> tuple[int, float]:
    """Returns the class with the most training photos, and the top-1 (from 0 to 1) of always predicting it."""
    label = int(np.argmax([count.train for count in counts]))
    return label, float((measured.labels == label).mean())


def discordant(ours: Measured, other: Measured) -> tuple[int, int] | None:
    """Counts the photos that only `ours` recognizes, and that only `other` does; None if their photos differ."""
    if list(ours.paths) != list(other.paths):
        return None
    right, others = (measured.probabilities.argmax(-1) == measured.labels for measured in (ours, other))
    return int((right & ~others).sum()), int((others & ~right).sum())
