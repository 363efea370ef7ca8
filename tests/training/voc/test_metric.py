import json
import math
import pathlib

import numpy as np
import pytest

from fd_keras.training.voc import detections, metric
from fd_keras.training.voc.annotation import Annotation
from fd_keras.training.voc.detections import Detections

REFERENCE = json.loads((pathlib.Path(__file__).parents[1] / "fixtures" / "voc_ap" / "voc_ap.json").read_text())
CLASSES = REFERENCE["classes"]


def annotation(name: str, boxes, labels=None, difficult=None) -> Annotation:
    count = len(boxes)
    return Annotation(
        name, f"{name}.jpg", 375, 500,
        np.array(boxes, "float32").reshape(-1, 4),
        np.array([0] * count if labels is None else labels, "int64"),
        np.array([False] * count if difficult is None else difficult, "bool"),
    )  # fmt: skip


def found(boxes, scores, labels=None) -> Detections:
    labels = [0] * len(scores) if labels is None else labels
    return Detections(np.array(boxes, "float32").reshape(-1, 4), np.array(scores, "float32"), np.array(labels, "int64"))


def evaluate(*pairs, classes=("cat",)) -> metric.Result:
    evaluator = metric.VocMetric(classes)
    for truth, detected in pairs:
        evaluator.process(truth, detected)
    return evaluator.evaluate()


def reference_annotations() -> list[Annotation]:
    rows = []
    for name, objects in REFERENCE["objects"].items():
        labels = [CLASSES.index(thing[0]) for thing in objects]
        boxes = [[side - 1 for side in thing[1:5]] for thing in objects]
        rows.append(annotation(name, boxes, labels, [thing[5] for thing in objects]))
    return rows


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("files")
    for name, lines in REFERENCE["lines"].items():
        (folder / f"comp4_det_test_{name}.txt").write_text("".join(f"{line}\n" for line in lines))
    return str(folder)


@pytest.fixture(scope="module")
def scored(files) -> metric.Result:
    truth = reference_annotations()
    read = detections.read(files, "test", CLASSES, [image.id for image in truth])
    return evaluate(*((image, read[image.id]) for image in truth), classes=CLASSES)


@pytest.mark.parametrize("name", REFERENCE["results"])
def test_average_precision_equals_other_evaluators(scored, name):
    ours, theirs = scored.classes[CLASSES.index(name)], REFERENCE["results"][name]
    assert ours.ap11 == pytest.approx(theirs["ap11"], abs=1e-9)
    assert ours.ap_area == pytest.approx(theirs["ap_area"], abs=1e-9)
    assert ours.recall[-1] == pytest.approx(theirs["last_recall"], abs=1e-12)
    assert ours.precision[-1] == pytest.approx(theirs["last_precision"], abs=1e-12)


def test_equal_scores_are_ranked_by_line(files):
    truth = reference_annotations()
    read = detections.read(files, "test", CLASSES, [image.id for image in truth])
    backwards = {
        name: Detections(image.boxes, image.scores, image.labels, None if image.order is None else -image.order)
        for name, image in read.items()
    }
    result = evaluate(*((image, backwards[image.id]) for image in truth), classes=CLASSES)
    ties, plain = CLASSES.index("ties"), CLASSES.index("tenths")
    assert abs(result.classes[ties].ap11 - REFERENCE["results"]["ties"]["ap11"]) > 1e-3
    assert result.classes[plain].ap11 == pytest.approx(REFERENCE["results"]["tenths"]["ap11"], abs=1e-9)


def test_image_order_does_not_matter_if_lines_rank_equal_scores(files, scored):
    truth = reference_annotations()[::-1]
    read = detections.read(files, "test", CLASSES, [image.id for image in truth])
    result = evaluate(*((image, read[image.id]) for image in truth), classes=CLASSES)
    assert [c.ap11 for c in result.classes[:5]] == [c.ap11 for c in scored.classes[:5]]


def test_equal_scores_without_lines_are_ranked_in_order():
    image = annotation("a", [[0, 0, 9, 9]])
    hit, miss = [0, 0, 9, 9], [50, 50, 59, 59]
    assert evaluate((image, found([hit, miss], [0.5, 0.5]))).classes[0].precision.tolist() == [1, 0.5]
    assert evaluate((image, found([miss, hit], [0.5, 0.5]))).classes[0].precision.tolist() == [0, 0.5]
    other = annotation("b", [])
    assert evaluate((other, found([miss], [0.5])), (image, found([hit], [0.5]))).map_area == 0.5
    assert evaluate((image, found([hit], [0.5])), (other, found([miss], [0.5]))).map_area == 1


def test_classes_without_objects_are_excluded_from_the_mean(scored):
    absent, unfound = scored.classes[CLASSES.index("absent")], scored.classes[CLASSES.index("unfound")]
    assert absent.objects == 0
    assert math.isnan(absent.ap11)
    assert math.isnan(absent.ap_area)
    assert unfound.objects > 0
    assert unfound.ap11 == unfound.ap_area == 0
    assert scored.empty == ["absent"]
    others = [result.ap11 for result in scored.classes if result.name != "absent"]
    assert scored.map11 == pytest.approx(np.mean(others))
    assert math.isnan(evaluate((annotation("a", []), found([], []))).map11)


def test_an_overlap_of_exactly_a_half_is_not_a_hit():
    image = annotation("a", [[0, 0, 99, 99]])
    assert evaluate((image, found([[0, 0, 99, 49]], [1]))).map11 == 0
    assert evaluate((image, found([[0, 0, 99, 50]], [1]))).map11 == 1


def test_widths_include_the_last_pixel():
    assert metric.iou(np.array([[0, 0, 0, 0]]), np.array([[0, 0, 1, 0]])) == 0.5
    assert metric.iou(np.array([[0, 0, 4, 4]]), np.array([[5, 0, 9, 4]])) == 0


def test_inverted_boxes_do_not_overlap():
    backwards = np.array([[9, 9, 0, 0], [5, 5, 4, 4]])
    assert (metric.iou(np.array([[0, 0, 9, 9], [5, 5, 4, 4]]), backwards) == 0).all()


def test_outcomes_of_duplicates_and_difficult_objects():
    image = annotation("a", [[0, 0, 9, 9], [20, 20, 29, 29]], difficult=[False, True])
    detected = found(
        [[0, 0, 9, 8], [20, 20, 29, 29], [0, 0, 9, 9], [20, 20, 29, 28], [40, 0, 49, 9]], [0.5, 0.9, 0.8, 0.2, 0.1]
    )
    outcomes = metric.match(image, detected)
    assert outcomes.tolist() == [metric.FALSE, metric.IGNORED, metric.HIT, metric.IGNORED, metric.FALSE]


def test_a_detection_is_matched_with_the_most_overlapped_object_even_if_taken():
    image = annotation("a", [[0, 0, 99, 99], [0, 20, 99, 119]])
    detected = found([[0, 0, 99, 99], [0, 5, 99, 104]], [0.9, 0.8])  # the second overlaps both by more than 0.5
    assert metric.match(image, detected).tolist() == [metric.HIT, metric.FALSE]


def test_classes_are_matched_separately():
    image = annotation("a", [[0, 0, 9, 9]], labels=[1])
    result = evaluate((image, found([[0, 0, 9, 9]] * 2, [0.9, 0.8], [0, 1])), classes=("cat", "dog"))
    assert math.isnan(result.classes[0].ap11)
    assert result.classes[1].ap11 == 1


def test_recall_of_three_in_ten_does_not_reach_the_fourth_level():
    # 0.1 + 0.1 + 0.1 > 0.3 in floating point, in the evaluators and so in the figures of papers too.
    assert metric.average_precision_11(np.array([0.1, 0.2, 0.3]), np.ones(3)) == pytest.approx(3 / 11)


def test_reset_removes_all_images():
    evaluator = metric.VocMetric(("cat",))
    evaluator.process(annotation("a", [[0, 0, 9, 9]]), found([], []))
    evaluator.reset()
    with pytest.raises(ValueError, match="no image"):
        evaluator.evaluate()
    evaluator.process(annotation("a", [[0, 0, 9, 9]]), found([[0, 0, 9, 9]], [1]))
    assert evaluator.evaluate().map_area == 1


@pytest.mark.parametrize(
    ("detected", "message"),
    [
        (Detections(np.zeros((2, 4)), np.zeros(1), np.zeros(1, "int64")), r"image a: .*shapes \(2, 4\), \(1,\)"),
        (found([[0, 0, 9, math.nan]], [1]), "image a: .*not finite"),
        (found([[0, 0, 9, 9]], [math.inf]), "image a: .*not finite"),
        (found([[0, 0, 9, 9]], [1], [1]), "image a: .*out of range for 1 classes"),
        (found([[0, 9, 9, 0]], [1]), "image a: .*x1 > x2 or y1 > y2"),
    ],
)
def test_malformed_detections_are_rejected(detected, message):
    with pytest.raises(ValueError, match=message):
        evaluate((annotation("a", []), detected))


def test_processing_an_image_twice_is_an_error():
    pair = annotation("a", []), found([], [])
    with pytest.raises(ValueError, match="image a was already processed"):
        evaluate(pair, pair)
