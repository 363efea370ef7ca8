"""PASCAL VOC's average precision, computed with NumPy.

The rules are those of the devkit (VOC2007's documentation, section 3.4), as implemented by the evaluators of
py-faster-rcnn and detectron2, which papers use:

- A detection is matched with the object of its class that it overlaps most, even if another detection already hit it.
  It is a hit if the overlap is greater than 0.5. (The overlap is the IoU of boxes that include their last pixel, so
  that x2 - x1 + 1 is a width.)
- If several detections hit one object, the one with the highest score counts; the others are false.
- Difficult objects are not counted, and detections that hit one are ignored.
- Equal scores are ranked in the order of the detections (MATLAB's sort is stable): by line in a result file, otherwise
  in the order of `process` and of the arrays.
- A class without objects, not counting difficult ones, has no average precision: nan, excluded from the mean. The
  evaluators above return 0 or nan; all classes have objects in VOC's test set.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from fd_keras.training.voc.annotation import Annotation
from fd_keras.training.voc.detections import Detections

MIN_OVERLAP = 0.5  # to be exceeded
# Recall levels: multiples of 0.1 in floating point, as in all evaluators, so that a recall of exactly 3 / 10 does not
# reach the fourth.
RECALLS = np.arange(0.0, 1.1, 0.1)
FALSE, HIT, IGNORED = 0, 1, 2


@dataclasses.dataclass(frozen=True, eq=False)
class ClassResult:
    """Average precision of a class.

    Attributes:
        name: Name of the class.
        objects: Number of objects, without difficult ones.
        scores: Scores of the detections without ignored ones, descending, float64 (k,).
        hits: Whether each detection is a hit, bool (k,).
        recall: Recall of the detections up to each one, float64 (k,); nan without objects.
        precision: Precision of the detections up to each one, float64 (k,).
        ap11: Average precision over 11 recalls (VOC2007); nan without objects.
        ap_area: Average precision as the area under the curve (VOC2010 and later); nan without objects.
    """

    name: str
    objects: int
    scores: np.ndarray
    hits: np.ndarray
    recall: np.ndarray
    precision: np.ndarray
    ap11: float
    ap_area: float


@dataclasses.dataclass(frozen=True, eq=False)
class Result:
    """Average precision of all classes.

    Attributes:
        images: Number of images.
        classes: Results of the classes in label order.
    """

    images: int
    classes: tuple[ClassResult, ...]

    @property
    def empty(self) -> list[str]:
        """Names of the classes without objects, which are excluded from the means."""
        return [result.name for result in self.classes if not result.objects]

    @property
    def map11(self) -> float:
        """Mean of `ap11` over classes; nan without objects."""
        return _mean(result.ap11 for result in self.classes)

    @property
    def map_area(self) -> float:
        """Mean of `ap_area` over classes; nan without objects."""
        return _mean(result.ap_area for result in self.classes)

    @property
    def best_score(self) -> float:
        """Minimum score with the best F1 over all classes; 0.5 without detections."""
        scores = np.concatenate([result.scores for result in self.classes])
        hits = np.concatenate([result.hits for result in self.classes])
        order = np.argsort(-scores, kind="stable")
        f1 = 2 * np.cumsum(hits[order]) / (np.arange(1, len(hits) + 1) + sum(c.objects for c in self.classes))
        return float(scores[order][f1.argmax()]) if len(scores) else 0.5


def _mean(values) -> float:
    known = [value for value in values if not np.isnan(value)]
    return float(np.mean(known)) if known else float("nan")


class VocMetric:
    """Collects detections image by image, and computes their average precision.

    Args:
        classes: Class names in label order.
    """

    def __init__(self, classes: Sequence[str]):
        self._classes = tuple(classes)
        self.reset()

    def reset(self) -> None:
        """Removes all images."""
        self._objects = np.zeros(len(self._classes), "int64")
        self._rows: list[tuple[np.ndarray, ...]] = []  # scores, order, labels, outcomes
        self._names: set[str] = set()
        self._count = 0

    def process(self, annotation: Annotation, found: Detections) -> np.ndarray:
        """Adds the detections in one image.

        Returns:
            The outcome of each detection, see `match`.

        Raises:
            ValueError: If the image was already added, or the detections are malformed.
        """
        if annotation.id in self._names:
            raise ValueError(f"image {annotation.id} was already processed.")
        _check(found, len(self._classes), annotation.id)
        outcomes = match(annotation, found)
        order = self._count + np.arange(len(found)) if found.order is None else found.order
        self._names.add(annotation.id)
        self._count += len(found)
        self._rows.append((found.scores.astype("float64"), order, found.labels, outcomes))
        self._objects += np.bincount(annotation.labels[~annotation.difficult], minlength=len(self._classes))
        return outcomes

    def evaluate(self) -> Result:
        """Computes the average precision over all images so far.

        Raises:
            ValueError: If there are no images.
        """
        if not self._rows:
            raise ValueError("no image has been processed.")
        scores, order, labels, outcomes = (np.concatenate(column) for column in zip(*self._rows, strict=True))
        results = []
        for label, (name, objects) in enumerate(zip(self._classes, self._objects.tolist(), strict=True)):
            mine = labels == label
            ranked = np.lexsort((order[mine], -scores[mine]))
            results.append(_class_result(name, objects, scores[mine][ranked], outcomes[mine][ranked]))
        return Result(len(self._rows), tuple(results))


def score(classes: Sequence[str], annotations: Sequence[Annotation], found: Mapping[str, Detections]) -> Result:
    """Computes the average precision of the detections in a split.

    Args:
        classes: Class names in label order.
        annotations: Annotations of the split.
        found: Detections by image name.
    """
    metric = VocMetric(classes)
    for annotation in annotations:
        metric.process(annotation, found[annotation.id])
    return metric.evaluate()


def _check(found: Detections, classes: int, name: str) -> None:
    count = len(found.scores)
    if (found.boxes.shape, found.scores.shape, found.labels.shape) != ((count, 4), (count,), (count,)):
        shapes = f"{found.boxes.shape}, {found.scores.shape} and {found.labels.shape}"
        raise ValueError(f"image {name}: boxes, scores and labels have shapes {shapes}, not (k, 4), (k,) and (k,).")
    if not (np.isfinite(found.boxes).all() and np.isfinite(found.scores).all()):
        raise ValueError(f"image {name}: a box or score is not finite.")
    if (found.boxes[:, 2:] - found.boxes[:, :2] + 1 < 0).any():
        raise ValueError(f"image {name}: a box has x1 > x2 or y1 > y2.")
    if count and not (found.labels.min() >= 0 and found.labels.max() < classes):
        raise ValueError(f"image {name}: a label is out of range for {classes} classes.")


def match(annotation: Annotation, found: Detections) -> np.ndarray:
    """Matches the detections in an image with its objects.

    Returns:
        The outcome of each detection: `FALSE`, `HIT` or `IGNORED`, int64 (k,).
    """
    outcomes = np.zeros(len(found), "int64")
    for label in np.unique(found.labels):
        objects, mine = annotation.labels == label, np.flatnonzero(found.labels == label)
        order = mine if found.order is None else found.order[mine]
        mine = mine[np.lexsort((order, -found.scores[mine].astype("float64")))]
        outcomes[mine] = _match_ranked(annotation.boxes[objects], annotation.difficult[objects], found.boxes[mine])
    return outcomes


def _match_ranked(objects: np.ndarray, difficult: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Matches the detections of one class, sorted by descending score."""
    if not len(objects):
        return np.full(len(boxes), FALSE)
    overlaps = iou(boxes, objects)
    best = overlaps.argmax(-1)
    outcomes = np.full(len(boxes), FALSE)
    taken = set()
    for index in np.flatnonzero(overlaps.max(-1) > MIN_OVERLAP):
        target = best[index]
        if difficult[target]:
            outcomes[index] = IGNORED
        elif target not in taken:
            outcomes[index] = HIT
            taken.add(target)
    return outcomes


def iou(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Computes the overlap, float64 (k, n), of boxes (k, 4) and others (n, 4), in pixels with both ends included.

    Inverted boxes do not overlap any other.
    """
    common = intersections(boxes, others)
    union = area(boxes.astype("float64"))[:, None] + area(others.astype("float64")) - common
    return np.divide(common, union, out=np.zeros_like(common), where=union > 0)


def intersections(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Computes the number of common pixels, float64 (k, n), of boxes (k, 4) and others (n, 4)."""
    boxes, others = boxes.astype("float64")[:, None], others.astype("float64")[None]
    sides = np.minimum(boxes[..., 2:], others[..., 2:]) - np.maximum(boxes[..., :2], others[..., :2]) + 1
    return sides.clip(0).prod(-1)


def area(boxes: np.ndarray) -> np.ndarray:
    """Computes the number of pixels of boxes (..., 4); 0 for inverted boxes."""
    return (boxes[..., 2:] - boxes[..., :2] + 1).clip(0).prod(-1)


def _class_result(name: str, objects: int, scores: np.ndarray, outcomes: np.ndarray) -> ClassResult:
    """Computes the curve and average precision of a class from descending scores and outcomes."""
    scores, hits = scores[outcomes != IGNORED], outcomes[outcomes != IGNORED] == HIT
    found = np.cumsum(hits)
    precision = found / np.arange(1, len(hits) + 1)
    if not objects:
        nan = float("nan")
        return ClassResult(name, 0, scores, hits, np.full(len(hits), nan), precision, nan, nan)
    recall = found / objects
    ap11, ap_area = average_precision_11(recall, precision), average_precision_area(recall, precision)
    return ClassResult(name, objects, scores, hits, recall, precision, ap11, ap_area)


def average_precision_11(recall: np.ndarray, precision: np.ndarray) -> float:
    """Computes the mean over `RECALLS` of the best precision at that recall or above; 0 if not reached (VOC2007)."""
    return float(np.mean([precision[recall >= level].max(initial=0.0) for level in RECALLS]))


def average_precision_area(recall: np.ndarray, precision: np.ndarray) -> float:
    """Computes the area under the monotonic precision curve (VOC2010 and later)."""
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    return float(np.sum(np.diff(recall, prepend=0.0) * envelope))
