"""Compares COCO's average precision with pycocotools."""

import contextlib
import io

import numpy as np
import pytest
from pycocotools import mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from fd_keras.training.voc import coco_metric, metric
from fd_keras.training.voc.annotation import Annotation
from fd_keras.training.voc.detections import Detections

CLASSES = ("cat", "dog", "absent", "unfound")


def random_split(seed: int) -> tuple[list[Annotation], dict[str, Detections]]:
    """Objects with detections near them, crowds, equal scores, and more than 100 detections of a class in one image."""
    rng = np.random.default_rng(seed)
    annotations, found = [], {}
    for number in range(40):
        name, count = f"{number:02}", rng.integers(0, 6)
        corner = rng.integers(0, 60, (count, 2)) + rng.choice([0.0, 0.25], (count, 2))
        boxes = np.concatenate([corner, corner + rng.integers(4, 50, (count, 2))], axis=-1)
        labels = rng.choice([0, 1, 3], count)
        annotations.append(Annotation(name, "", 99, 99, boxes, labels, rng.random(count) < 0.2))
        copies = rng.integers(0, count, 300 if number == 7 else 12) if count else np.zeros(0, "int64")
        low, high = np.split(boxes[copies] + rng.normal(0, 3, (len(copies), 4)).round(1), 2, axis=1)
        scores = rng.integers(1, 50, len(copies)) / 50
        found[name] = Detections(np.hstack([low, np.maximum(low, high)]), scores, np.minimum(labels[copies], 1))
    return annotations, found


def pycocotools(annotations: list[Annotation], found: dict[str, Detections]) -> np.ndarray:
    """Precision by pycocotools: (levels, recalls, classes)."""
    truth, results = COCO(), []
    rows = [
        {"image_id": image.id, "category_id": int(label), "bbox": xywh(box), "iscrowd": int(crowd), "area": 1.0}
        for image in annotations
        for box, label, crowd in zip(image.boxes, image.labels, image.difficult, strict=True)
    ]
    truth.dataset = {
        "images": [{"id": image.id, "width": 99, "height": 99} for image in annotations],
        "categories": [{"id": number, "name": name} for number, name in enumerate(CLASSES)],
        "annotations": [row | {"id": number} for number, row in enumerate(rows, 1)],
    }
    for name, image in found.items():
        results += [
            {"image_id": name, "category_id": int(label), "bbox": xywh(box), "score": float(score)}
            for box, score, label in zip(image.boxes, image.scores, image.labels, strict=True)
        ]
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
        evaluator = COCOeval(truth, truth.loadRes(results), "bbox")
        evaluator.evaluate()
        evaluator.accumulate()
    return evaluator.eval["precision"][:, :, :, 0, 2]


def xywh(box: np.ndarray) -> list[float]:
    x1, y1, x2, y2 = box.astype("float64").tolist()
    return [x1, y1, x2 - x1 + 1, y2 - y1 + 1]


@pytest.mark.parametrize("seed", range(3))
def test_average_precision_equals_pycocotools(seed):
    annotations, found = random_split(seed)
    assert max(np.bincount(image.labels).max(initial=0) for image in found.values()) > 100
    ours, theirs = coco_metric.score(CLASSES, annotations, found), pycocotools(annotations, found).mean(axis=1).T
    np.testing.assert_allclose(ours.by_level, np.where(theirs < 0, np.nan, theirs), rtol=0, atol=1e-9)
    assert 0.02 < ours.mean_ap < 0.9
    assert ours.mean_ap == pytest.approx(theirs[theirs >= 0].mean())
    assert ours.mean_ap50 == pytest.approx(theirs[theirs[:, 0] >= 0, 0].mean())
    assert ours.mean_ap75 == pytest.approx(theirs[theirs[:, 5] >= 0, 5].mean())
    assert np.isnan(ours.classes[2])
    assert ours.classes[3] == 0


def test_overlaps_equal_pycocotools():
    annotations, found = random_split(0)
    objects, boxes = annotations[7].boxes, found["07"].boxes
    crowds = np.arange(len(objects)) % 2 == 1
    theirs = mask.iou(np.array([*map(xywh, boxes)]), np.array([*map(xywh, objects)]), crowds.astype(int).tolist())
    ours = np.where(crowds, coco_metric._shares(boxes, objects), metric.iou(boxes, objects))
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-12)
    assert (ours > 0.5).any()


def test_without_objects_the_mean_is_nan():
    annotations, found = random_split(0)
    empty = [Annotation(a.id, "", 9, 9, np.zeros((0, 4)), np.zeros(0, "int64"), np.zeros(0, bool)) for a in annotations]
    assert np.isnan(coco_metric.score(CLASSES, empty, found).mean_ap)
