"""Average precision as COCO defines it, over ten overlaps, beside VOC's (`metric`).

The rules are those of pycocotools' COCOeval for boxes of any area, whose figures papers quote:

- A detection hits the object of its class that it overlaps most, of those that no better-scored detection hit, if the
  overlap (IoU) is at least the level: .5, .55, ... .95.
- Difficult objects are COCO's crowds: not counted. A detection that hits no object but lies on a crowd, by at least the
  level as a share of its own area, is ignored, however many there are.
- The 100 best detections of each class in an image count.
- Precision, made to fall with recall, is averaged over 101 recalls.
- A class without objects is left out of the means.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from fd_keras.training.voc import metric
from fd_keras.training.voc.annotation import Annotation
from fd_keras.training.voc.detections import Detections

LEVELS = np.linspace(0.5, 0.95, 10)  # of overlap
_RECALLS = np.linspace(0.0, 1.0, 101)
_MOST = 100  # detections of a class in an image


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
        """Mean over classes and levels, "AP" for short; nan without objects."""
        return self._mean(slice(None))

    @property
    def mean_ap50(self) -> float:
        """Mean over classes at an overlap of .5."""
        return self._mean(slice(0, 1))

    @property
    def mean_ap75(self) -> float:
        """Mean over classes at an overlap of .75."""
        return self._mean(slice(5, 6))

    def _mean(self, levels: slice) -> float:
        known = self.by_level[~np.isnan(self.by_level[:, 0]), levels]
        return float(known.mean()) if known.size else float("nan")


def score(classes: Sequence[str], annotations: Sequence[Annotation], found: Mapping[str, Detections]) -> CocoResult:
    """The average precision of what was found in the images of a split, given by their names."""
    by_label = [_score_class(label, annotations, found) for label in range(len(classes))]
    return CocoResult(np.stack(by_label))


def _score_class(label: int, annotations: Sequence[Annotation], found: Mapping[str, Detections]) -> np.ndarray:
    """Average precision of one class at each level, (10,)."""
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
    """Decides of each detection of a class in an image whether it hits, at each level.

    Args:
        objects: Boxes of the objects, (n, 4).
        crowds: Whether each is not counted, bool (n,).
        boxes: Boxes of the detections in falling order of their scores, (k, 4).

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
    """In each row of `allowed`, the object of the greatest overlap; of equals the last one, as pycocotools has it."""
    return overlaps.shape[0] - 1 - np.where(allowed, overlaps, -1.0)[:, ::-1].argmax(axis=1)


def _shares(boxes: np.ndarray, objects: np.ndarray) -> np.ndarray:
    """The share of each box (k, 4) that lies on each object (n, 4), (k, n)."""
    return metric.intersections(boxes, objects) / np.maximum(metric.area(boxes.astype("float64")), 1e-12)[:, None]


def _average_precision(outcomes: np.ndarray, objects: int) -> float:
    """Mean precision over `_RECALLS` of detections in falling order of their scores."""
    hits = outcomes[outcomes != metric.IGNORED] == metric.HIT
    found = np.cumsum(hits)
    envelope = np.maximum.accumulate((found / np.arange(1, len(hits) + 1))[::-1])[::-1]
    at = np.searchsorted(found / objects, _RECALLS, side="left")
    return float(np.append(envelope, 0.0)[at].mean())
