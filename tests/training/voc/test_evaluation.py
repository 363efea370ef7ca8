import dataclasses

import pytest

from fd_keras import zoo
from fd_keras.training.voc import dataset
from fd_keras.training.voc import evaluation as voc_evaluation
from tests.training.voc.found import CONFIG, EVALUATED


def test_the_shown_score_has_the_best_f1(evaluation):
    # Scores: hit 0.95, hit 0.9, hit 0.8, hit 0.7, false 0.6, false 0.5, hit 0.1; 6 objects. F1 is 8/10 after 0.7 and
    # 10/13 after 0.1.
    assert evaluation.result.best_score == pytest.approx(0.7)


def test_the_table_has_all_classes_and_the_row_of_the_paper(evaluation):
    lines = voc_evaluation.text(evaluation).splitlines()
    rows = {line.split("  ")[0]: line.split() for line in lines if line}
    cat, dog = evaluation.result.classes[:2]
    coco = [f"{100 * ap:.1f}" for ap in evaluation.coco.classes[:2]]
    assert rows["cat"][-5:] == [f"{100 * cat.ap11:.1f}", f"{100 * cat.ap_area:.1f}", coco[0], "4", "3"]
    assert rows["dog"][-5:] == ["100.0", "100.0", coco[1], "2", "2"]
    assert rows["hard <hat>"][-4:] == ["-", "-", "-", "0"]
    assert rows["mean"][-2:] == ["6", "5"]
    assert "without objects, excluded from the mean: hard <hat>" in lines
    row = next(line for line in lines if line.startswith("FD-MobileNet 0.5x")).split()
    assert row[2:] == ["40", "45.1", f"{100 * evaluation.result.map11:.1f}"]
    assert "these on val of 5 images" in lines[-1]
    small = dataclasses.replace(evaluation, config=CONFIG | {"short_side": 300})
    assert voc_evaluation.text(small).splitlines() == lines + [
        "The paper's detector uses images with a short side of 600 pixels, this one 300."
    ]


@pytest.mark.parametrize(
    "config", [None, {"backbone": "shufflenet", "alpha": 1.0}, {"backbone": "mobilenet", "alpha": 2}]
)
def test_other_networks_are_not_in_the_papers_table(evaluation, config):
    assert voc_evaluation.paper_row(config) is None


@pytest.mark.parametrize("row", zoo.PAPER_TABLE3, ids=lambda row: f"{row.arch}-{row.alpha}")
def test_every_row_of_the_papers_table_is_found(row):
    assert voc_evaluation.paper_row({"backbone": row.arch, "alpha": row.alpha}) is row


def test_only_the_full_test_set_is_comparable(evaluation):
    whole = dataclasses.replace(
        evaluation, split="test", classes=dataset.CLASSES, annotations=[None] * voc_evaluation.TEST_IMAGES
    )
    assert whole.is_papers
    assert not dataclasses.replace(whole, classes=EVALUATED).is_papers
    assert not dataclasses.replace(whole, annotations=[None] * 200).is_papers


@pytest.fixture
def of_vocs_classes(evaluation):
    """The same detections, evaluated with the 20 classes."""
    return voc_evaluation.evaluate(
        "mine", "VOC", "val", dataset.CLASSES, evaluation.annotations, evaluation.found, CONFIG
    )


def test_the_papers_class_aps_are_beside_ours(of_vocs_classes):
    lines = voc_evaluation.text(of_vocs_classes).splitlines()
    assert lines[2].split() == ["AP,", "%", "11-point", "paper", "area", "COCO", "objects", "found"]
    cells = {line.split()[0]: line.split()[1:] for line in lines if line}
    assert cells["aeroplane"][1] == "46.4"
    assert cells["tvmonitor"][1] == "38.0"
    assert cells["mean"][1] == "45.1"
    content = voc_evaluation.content(of_vocs_classes)
    assert [each["paper_ap11"] for each in content["classes"]][::19] == [0.464, 0.38]


def test_result_files_are_below_the_papers_networks(of_vocs_classes):
    lines = voc_evaluation.text(dataclasses.replace(of_vocs_classes, config=None)).splitlines()
    assert "paper" not in lines[2]
    mine = f"{100 * of_vocs_classes.result.map11:.1f}"
    assert ["this", "detector", mine] in [line.split() for line in lines]
    assert [line.split()[-1] for line in lines if "MobileNet" in line] == [
        "55.4",
        "53.8",
        "45.1",
        "42.3",
        "32.7",
        "29.1",
    ]
