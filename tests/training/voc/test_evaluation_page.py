import math

import numpy as np

from fd_keras.training.voc import dataset, evaluation_page, metric
from fd_keras.training.voc import evaluation as voc_evaluation
from fd_keras.training.voc.annotation import Annotation
from fd_keras.training.voc.detections import Detections
from tests.page_probe import ParsedPage, check_stands_alone
from tests.training.voc.found import EVALUATED, detections_of


def test_the_page_is_self_contained(evaluation):
    html = evaluation_page.html(evaluation)
    assert check_stands_alone(html).loads
    assert "hard &lt;hat&gt;" in html
    assert "<hat>" not in html


def test_images_are_ranked_from_best_to_worst(evaluation):
    score = evaluation.result.best_score
    seen = evaluation_page.ranked(
        [evaluation_page.look(image, evaluation.found[image.id], score) for image in evaluation.annotations]
    )
    assert [image.annotation.id for image in seen] == ["right", "tall", "half", "wrong"]
    assert [image.counts for image in seen] == [(2, 0, 0), (1, 0, 0), (1, 0, 1), (0, 0, 1)]
    alts = [image["alt"].split()[0] for image in ParsedPage(evaluation_page.html(evaluation)).images]
    assert alts == ["right", "tall", "wrong", "half"]


def test_difficult_and_hit_objects_are_not_missed():
    truth = Annotation(
        "a", "a.jpg", 100, 100, np.array([[0, 0, 9, 9], [20, 0, 29, 9], [40, 0, 49, 9]], "float32"),
        np.array([0, 0, 0]), np.array([False, True, False]),
    )  # fmt: skip
    seen = evaluation_page.look(
        truth, detections_of([[0, 0, 9, 9], [20, 0, 29, 9], [0, 0, 9, 8]], [0.9, 0.8, 0.7], [0, 0, 0]), 0.5
    )
    assert seen.outcomes.tolist() == [metric.HIT, metric.IGNORED, metric.FALSE]
    assert seen.missed.tolist() == [False, False, True]
    assert seen.f1 == 0.5
    nothing = Annotation("b", "b.jpg", 9, 9, np.zeros((0, 4), "float32"), np.zeros(0, "int64"), np.zeros(0, "bool"))
    assert math.isnan(evaluation_page.look(nothing, Detections.empty(), 0.5).f1)


def test_images_without_files_are_counted_and_not_shown(evaluation, devkit):
    devkit.image("right").unlink()
    html = evaluation_page.html(evaluation)
    assert "1 of 4 are not shown, since their files are missing" in html
    assert [image["alt"].split()[0] for image in ParsedPage(html).images] == ["tall", "wrong"]


def test_the_papers_table_is_above_this_detector(evaluation):
    whole = voc_evaluation.evaluate("mine<", "V", "val", dataset.CLASSES, evaluation.annotations, evaluation.found)
    html = evaluation_page.html(whole)
    assert check_stands_alone(html).loads
    row = html[html.index("FD-MobileNet 0.5x") :]
    assert row[: row.index("</tr>")].count("<td>") == 21
    assert "<td>45.1</td><td>46.4</td>" in row
    assert "mine&lt;" in row
    assert "these on val of 5 images" in html


def test_a_page_without_detections_is_valid(evaluation):
    found = {image.id: Detections.empty() for image in evaluation.annotations}
    empty = voc_evaluation.evaluate("none", "VOC", "val", EVALUATED, evaluation.annotations, found)
    assert empty.result.map11 == 0
    assert "0 hits, 0 false, 2 missed" in evaluation_page.html(empty)
