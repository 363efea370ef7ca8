"""COCO's average precision, over ten overlap thresholds. For VOC's, see `metric`.

The rules are those of pycocotools' COCOeval for boxes of any area, as papers report it:

- A detection matches the object of its class with the greatest overlap (IoU) that no detection of a higher score
  matched, if the overlap is at least the threshold: 0.5, 0.55, ..., 0.95.
- Difficult objects are COCO's crowds, which are not counted. A detection without a match is ignored if at least the
  threshold's share of its area is inside a crowd.
- The 100 best detections of each class in an image count.
- Precision is made monotonic, and averaged over 101 recalls.
- Classes without objects are excluded from the means.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from fd_keras.training.voc import metric
from fd_keras.training.voc.annotation import Annotation
from fd_keras.training.voc.detections import Detections

LEVELS = np.linspace(0.5, 0.95, 10)  # overlap thresholds
_RECALLS = np.linspace(0.0, 1.0, 101)
_MOST = 100  # maximum number of detections of a class in an image


@dataclasses.dataclass(frozen=True, eq=False)
class CocoResult:
    """COCO's average precision.

    Attributes:
        by_level: Average precision of each class at each of `LEVELS`, float64 (classes, 10); nan without objects.
    """

    by_level: np.ndarray

    @property
    def classes(self) -> list[float]:
        """Average precision of each class over all levels."""
        return self.by_level.mean(axis=1).tolist()

    @property
    def mean_ap(self) -> float:
        """Mean over classes and levels, COCO's "AP"; nan without objects."""
        return self._mean(slice(None))

    @property
    def mean_ap50(self) -> float:
        """Mean over classes at an overlap of 0.5."""
        return self._mean(slice(0, 1))

    @property
    def mean_ap75(self) -> float:
        """Mean over classes at an overlap of 0.75."""
        return self._mean(slice(5, 6))

    def _mean(self, levels: slice) -> float:
        known = self.by_level[~np.isnan(self.by_level[:, 0]), levels]
        return float(known.mean()) if known.size else float("nan")


def score(classes: Sequence[str], annotations: Sequence[Annotation], found: Mapping[str, Detections]) -> CocoResult:
    """Computes the average precision of the detections in a split.

    Args:
        classes: Class names in label order.
        annotations: Annotations of the split.
        found: Detections by image name.
    """
    by_label = [_score_class(label, annotations, found) for label in range(len(classes))]
    return CocoResult(np.stack(by_label))


def _score_class(label: int, annotations: Sequence[Annotation], found: Mapping[str, Detections]) -> np.ndarray:
    """Computes the average precision of one class at each level, (10,)."""
    scores, outcomes, objects = [np.zeros(0)], [np.zeros((len(LEVELS), 0), "int64")], 0
    for annotation in annotations:
        mine, here = annotation.labels == label, found[annotation.id]
        here = here[here.labels == label]
        here = here[np.argsort(-here.scores.astype("float64"), kind="stable")[:_MOST]]
        objects += int((mine & ~annotation.difficult).sum())
        scores.append(here.scores.astype("float64"))
        outcomes.append(match(annotation.boxes[mine], annotation.difficult[mine], here.boxes))
    if not objects:
        return np.full(len(LEVELS), np.nan)
    order = np.argsort(-np.concatenate(scores), kind="stable")
    return np.array([_average_precision(row[order], objects) for row in np.concatenate(outcomes, axis=1)])


def match(objects: np.ndarray, crowds: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Matches the detections of a class in an image with its objects, at each level.

    Args:
        objects: Boxes of the objects, (n, 4).
        crowds: Whether each object is a crowd, bool (n,).
        boxes: Boxes of the detections, sorted by descending score, (k, 4).

    Returns:
        int64 (10, k) of `metric.FALSE`, `metric.HIT` and `metric.IGNORED`.
    """
    outcomes = np.full((len(LEVELS), len(boxes)), metric.FALSE)
    overlaps = np.where(crowds, _shares(boxes, objects), metric.iou(boxes, objects))
    untaken = np.ones((len(LEVELS), len(objects)), bool)
    for index in np.flatnonzero(overlaps.max(axis=1, initial=0.0) >= LEVELS[0]):
        reached = untaken & (overlaps[index] >= LEVELS[:, None])
        for kind, these in ((metric.HIT, reached & ~crowds), (metric.IGNORED, reached & crowds)):
            levels = np.flatnonzero(these.any(axis=1) & (outcomes[:, index] == metric.FALSE))
            outcomes[levels, index] = kind
            if kind == metric.HIT:
                untaken[levels, _last_best(overlaps[index], these[levels])] = False
    return outcomes


def _last_best(overlaps: np.ndarray, allowed: np.ndarray) -> np.ndarray:
    """Returns the allowed object with the greatest overlap in each row; the last of equals, as in pycocotools."""
    return overlaps.shape[0] - 1 - np.where(allowed, overlaps, -1.0)[:, ::-1].argmax(axis=1)


def _shares(boxes: np.ndarray, objects: np.ndarray) -> np.ndarray:
    """Computes the share (k, n) of each box (k, 4) that is inside each object (n, 4)."""
    return metric.intersections(boxes, objects) / np.maximum(metric.area(boxes.astype("float64")), 1e-12)[:, None]


def _average_precision(outcomes: np.ndarray, objects: int) -> float:
    """Computes the mean precision over `_RECALLS` of detections sorted by descending score."""
    hits = outcomes[outcomes != metric.IGNORED] == metric.HIT
    found = np.cumsum(hits)
    envelope = np.maximum.accumulate((found / np.arange(1, len(hits) + 1))[::-1])[::-1]
    at = np.searchsorted(found / objects, _RECALLS, side="left")
    return float(np.append(envelope, 0.0)[at].mean())
