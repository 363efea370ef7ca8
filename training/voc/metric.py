"""Average precision by the rules of PASCAL VOC, on arrays alone.

The rules are those of the devkit (VOC2007's documentation, section 3.4) as py-faster-rcnn's and detectron2's
evaluators apply them, whose figures papers quote:

- A detection answers to the object of its class that it overlaps most, taken or not. It hits if the overlap (IoU of
  boxes whose last pixel belongs to them, so that x2 - x1 + 1 is a width) is greater than .5, not if it is .5.
- Of several that hit one object, the best-scored counts; the others are false.
- Difficult objects are not counted, and what hits one is ignored.
- Equal scores are ranked as the detections come (MATLAB's sort is stable): in a result file by line, else in the order
  of `process` and, within an image, of the arrays.
- A class without (non-difficult) objects has no average precision: nan, and left out of the mean. The evaluators named
  give it 0 or nan there; the devkit's own test set has objects of each.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from fd_keras.training.voc.annotation import Annotation
from fd_keras.training.voc.detections import Detections

MIN_OVERLAP = 0.5  # to be exceeded
# What recall is compared with; sums of .1 and not their nearest fractions, as in all the evaluators: a recall of
# exactly 3 in 10 does not reach the fourth.
RECALLS = np.arange(0.0, 1.1, 0.1)
FALSE, HIT, IGNORED = 0, 1, 2


@dataclasses.dataclass(frozen=True, eq=False)
class ClassResult:
    """How well a class is found.

    Attributes:
        name: Name of the class.
        objects: Number of objects to find.
        scores: Scores of the detections that count (all but the ignored), falling, float64 (k,).
        hits: Whether each of these hits, bool (k,).
        recall: Share of the objects that the first so many detections hit, float64 (k,); nan without objects.
        precision: Share of the first so many detections that hit, float64 (k,).
        ap11: Average precision over 11 recalls (VOC2007's); nan without objects.
        ap_area: Average precision as the area under the curve (VOC2010's and later).
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
        """The classes that have no objects; the means leave them out."""
        return [result.name for result in self.classes if not result.objects]

    @property
    def map11(self) -> float:
        """Mean of `ap11`; nan if there is no object of any class."""
        return _mean(result.ap11 for result in self.classes)

    @property
    def map_area(self) -> float:
        """Mean of `ap_area`."""
        return _mean(result.ap_area for result in self.classes)

    @property
    def best_score(self) -> float:
        """The score from which on, taking all classes together, precision and recall balance best (F1)."""
        scores = np.concatenate([result.scores for result in self.classes])
        hits = np.concatenate([result.hits for result in self.classes])
        order = np.argsort(-scores, kind="stable")
        f1 = 2 * np.cumsum(hits[order]) / (np.arange(1, len(hits) + 1) + sum(c.objects for c in self.classes))
        return float(scores[order][f1.argmax()]) if len(scores) else 0.5


def _mean(values) -> float:
    known = [value for value in values if not np.isnan(value)]
    return float(np.mean(known)) if known else float("nan")


class VocMetric:
    """Gathers detections image by image, and computes their average precision.

    Args:
        classes: Class names in label order.
    """

    def __init__(self, classes: Sequence[str]):
        self._classes = tuple(classes)
        self.reset()

    def reset(self) -> None:
        """Forgets all images."""
        self._objects = np.zeros(len(self._classes), "int64")
        self._rows: list[tuple[np.ndarray, ...]] = []  # scores, order, labels, outcomes
        self._names: set[str] = set()
        self._count = 0

    def process(self, annotation: Annotation, found: Detections) -> np.ndarray:
        """Scores one image and adds it.

        Returns:
            `match`'s outcomes.

        Raises:
            ValueError: If the image was processed before, or the detections are malformed.
        """
        if annotation.id in self._names:
            raise ValueError(f"image {annotation.id} is processed twice.")
        _check(found, len(self._classes), annotation.id)
        outcomes = match(annotation, found)
        order = self._count + np.arange(len(found)) if found.order is None else found.order
        self._names.add(annotation.id)
        self._count += len(found)
        self._rows.append((found.scores.astype("float64"), order, found.labels, outcomes))
        self._objects += np.bincount(annotation.labels[~annotation.difficult], minlength=len(self._classes))
        return outcomes

    def evaluate(self) -> Result:
        """The average precision over all images so far.

        Raises:
            ValueError: If there were none.
        """
        if not self._rows:
            raise ValueError("No image has been processed.")
        scores, order, labels, outcomes = (np.concatenate(column) for column in zip(*self._rows, strict=True))
        results = []
        for label, (name, objects) in enumerate(zip(self._classes, self._objects.tolist(), strict=True)):
            mine = labels == label
            ranked = np.lexsort((order[mine], -scores[mine]))
            results.append(_class_result(name, objects, scores[mine][ranked], outcomes[mine][ranked]))
        return Result(len(self._rows), tuple(results))


def score(classes: Sequence[str], annotations: Sequence[Annotation], found: Mapping[str, Detections]) -> Result:
    """The average precision of what was found in the images of a split, given by their names."""
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
        raise ValueError(f"image {name}: a detection's box or score is not finite.")
    if (found.boxes[:, 2:] - found.boxes[:, :2] + 1 < 0).any():
        raise ValueError(f"image {name}: a detection's box ends before it begins.")
    if count and not (found.labels.min() >= 0 and found.labels.max() < classes):
        raise ValueError(f"image {name}: a detection's label is not among the {classes} classes.")


def match(annotation: Annotation, found: Detections) -> np.ndarray:
    """Decides of each detection in an image whether it hits.

    Returns:
        int64 (k,) of `FALSE`, `HIT` and `IGNORED`.
    """
    outcomes = np.zeros(len(found), "int64")
    for label in np.unique(found.labels):
        objects, mine = annotation.labels == label, np.flatnonzero(found.labels == label)
        order = mine if found.order is None else found.order[mine]
        mine = mine[np.lexsort((order, -found.scores[mine].astype("float64")))]
        outcomes[mine] = _match_ranked(annotation.boxes[objects], annotation.difficult[objects], found.boxes[mine])
    return outcomes


def _match_ranked(objects: np.ndarray, difficult: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """`match` for one class, with the boxes in falling order of their scores."""
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
    """Overlap of boxes (k, 4) with others (n, 4), in pixels with both ends included: float64 (k, n).

    A box that ends before it begins overlaps nothing.
    """
    common = intersections(boxes, others)
    union = area(boxes.astype("float64"))[:, None] + area(others.astype("float64")) - common
    return np.divide(common, union, out=np.zeros_like(common), where=union > 0)


def intersections(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Pixels that boxes (k, 4) and others (n, 4) share: float64 (k, n)."""
    boxes, others = boxes.astype("float64")[:, None], others.astype("float64")[None]
    sides = np.minimum(boxes[..., 2:], others[..., 2:]) - np.maximum(boxes[..., :2], others[..., :2]) + 1
    return sides.clip(0).prod(-1)


def area(boxes: np.ndarray) -> np.ndarray:
    """Pixels of boxes (..., 4); 0 for one that ends before it begins."""
    return (boxes[..., 2:] - boxes[..., :2] + 1).clip(0).prod(-1)


def _class_result(name: str, objects: int, scores: np.ndarray, outcomes: np.ndarray) -> ClassResult:
    """The curve of a class; scores fall."""
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
    """Mean over `RECALLS` of the best precision at that recall or more, 0 where it is never reached (VOC2007)."""
    return float(np.mean([precision[recall >= level].max(initial=0.0) for level in RECALLS]))


def average_precision_area(recall: np.ndarray, precision: np.ndarray) -> float:
    """Area under the precision, made to fall with recall (VOC2010 and later)."""
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    return float(np.sum(np.diff(recall, prepend=0.0) * envelope))
