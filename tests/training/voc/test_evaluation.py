import dataclasses
import io
import json
import math
import os
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from fd_keras import zoo
from fd_keras.training.voc import dataset, draw, evaluation_page, metric
from fd_keras.training.voc import evaluation as voc_evaluation
from fd_keras.training.voc.dataset import Annotation
from fd_keras.training.voc.detections import Detections

CLASSES = ("cat", "dog", "hard <hat>")
CONFIG = {"backbone": "fd_mobilenet", "alpha": 0.5}


@pytest.fixture
def evaluation(devkit, voc_object):
    cat, dog = voc_object("cat", 1, 1, 20, 20), voc_object("dog", 30, 10, 50, 40)
    devkit.add("right", cat, dog)
    devkit.add("half", cat, dog)
    devkit.add("wrong", cat)
    devkit.add("tall", cat, width=300, height=900)
    devkit.add("nothing")
    devkit.split("val", "right", "half", "wrong", "tall", "nothing")
    annotations = dataset.open_split(str(devkit), "val", CLASSES)
    cat, dog, off = [0, 0, 19, 19], [29, 9, 49, 39], [20, 20, 40, 35]
    found = {
        "right": detections([cat, dog], [0.9, 0.8], [0, 1]),
        "half": detections([cat, dog], [0.7, 0.1], [0, 1]),
        "wrong": detections([off, off], [0.6, 0.5], [0, 2]),
        "tall": detections([cat], [0.95], [0]),
        "nothing": Detections.empty(),
    }
    return voc_evaluation.evaluate("my_detector", str(devkit), "val", CLASSES, annotations, found, CONFIG)


def detections(boxes, scores, labels) -> Detections:
    return Detections(np.array(boxes, "float32"), np.array(scores, "float32"), np.array(labels, "int64"))


def test_the_score_to_show_is_where_precision_and_recall_balance(evaluation):
    # Falling scores: hit .95, hit .9, hit .8, hit .7, false .6, false .5, hit .1; 6 objects. F1 is 8/10 after .7 and
    # 10/13 after .1.
    assert evaluation.result.best_score == pytest.approx(0.7)


def test_the_table_has_all_classes_and_the_papers_row(evaluation):
    lines = voc_evaluation.text(evaluation).splitlines()
    rows = {line.split("  ")[0]: line.split() for line in lines if line}
    cat, dog = evaluation.result.classes[:2]
    assert rows["cat"][-4:] == [f"{100 * cat.ap11:.1f}", f"{100 * cat.ap_area:.1f}", "4", "3"]
    assert rows["dog"][-4:] == ["100.0", "100.0", "2", "2"]
    assert rows["hard <hat>"][-3:] == ["-", "-", "0"]
    assert rows["mean"][-2:] == ["6", "5"]
    assert "no objects, and left out of the mean: hard <hat>" in lines
    row = next(line for line in lines if line.startswith("FD-MobileNet 0.5x")).split()
    assert row[2:] == ["40", "45.1", f"{100 * evaluation.result.map11:.1f}"]
    assert "this on val of 5 images: not comparable" in lines[-1]
    small = dataclasses.replace(evaluation, config=CONFIG | {"short_side": 300})
    assert voc_evaluation.text(small).splitlines() == lines + [
        "The paper's network sees images of 600 pixels, the short side, this one of 300."
    ]


@pytest.mark.parametrize(
    "config", [None, {"backbone": "shufflenet", "alpha": 1.0}, {"backbone": "mobilenet", "alpha": 2}]
)
def test_other_networks_are_not_in_the_papers_table(evaluation, config):
    assert voc_evaluation.paper_row(config) is None


@pytest.mark.parametrize("row", zoo.PAPER_TABLE3, ids=lambda row: f"{row.arch}-{row.alpha}")
def test_every_row_of_the_papers_table_is_found(row):
    assert voc_evaluation.paper_row({"backbone": row.arch, "alpha": row.alpha}) is row


def test_only_the_whole_test_set_is_the_papers(evaluation):
    whole = dataclasses.replace(
        evaluation, split="test", classes=dataset.CLASSES, annotations=[None] * voc_evaluation.TEST_IMAGES
    )
    assert whole.is_papers
    assert not dataclasses.replace(whole, classes=CLASSES).is_papers
    assert not dataclasses.replace(whole, annotations=[None] * 200).is_papers


def test_all_is_written(evaluation, tmp_path):
    voc_evaluation.write(evaluation, str(tmp_path / "out"))
    names = {f"comp4_det_val_{name}.txt" for name in CLASSES} | set(voc_evaluation.FILES.values())
    assert set(os.listdir(tmp_path / "out")) == names
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert results["map11"] == evaluation.result.map11
    assert results["paper_map11"] == 0.451
    assert results["classes"][2] == {
        "name": "hard <hat>", "objects": 0, "found": 0, "false": 1, "ap11": None, "ap_area": None
    }  # fmt: skip
    image = Image.open(tmp_path / "out" / "curves.png")
    assert image.width > 600
    assert np.asarray(image.convert("L")).std() > 5


class Tags(HTMLParser):
    """Checks that tags are closed in their order, and gathers attributes."""

    def __init__(self, text: str):
        super().__init__()
        self.open, self.images, self.links = [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        if tag == "img":
            self.images.append(attributes)
        elif tag not in ("meta", "path"):
            self.open.append(tag)
        self.links += [value for name, value in attributes.items() if name in ("src", "href")]

    def handle_startendtag(self, tag, attributes):
        pass

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_page_stands_alone(evaluation):
    html = evaluation_page.html(evaluation)
    tags = Tags(html)
    assert not tags.open
    assert tags.links
    assert all(link.startswith("data:image/jpeg;base64,") for link in tags.links)
    assert not re.search(r"https?:|<script|@import|url\(", html)
    assert "prefers-color-scheme: dark" in html
    assert "width=device-width" in html
    assert "hard &lt;hat&gt;" in html
    assert "<hat>" not in html


def test_the_best_images_come_first_and_the_worst_last(evaluation):
    score = evaluation.result.best_score
    seen = evaluation_page.ranked(
        [evaluation_page.look(image, evaluation.found[image.id], score) for image in evaluation.annotations]
    )
    assert [image.annotation.id for image in seen] == ["right", "tall", "half", "wrong"]
    assert [image.counts for image in seen] == [(2, 0, 0), (1, 0, 0), (1, 0, 1), (0, 0, 1)]
    alts = [image["alt"].split()[0] for image in Tags(evaluation_page.html(evaluation)).images]
    assert alts == ["right", "tall", "wrong", "half"]


def test_what_is_missed_is_not_what_is_difficult_or_hit():
    truth = Annotation(
        "a", "a.jpg", 100, 100, np.array([[0, 0, 9, 9], [20, 0, 29, 9], [40, 0, 49, 9]], "float32"),
        np.array([0, 0, 0]), np.array([False, True, False]),
    )  # fmt: skip
    seen = evaluation_page.look(
        truth, detections([[0, 0, 9, 9], [20, 0, 29, 9], [0, 0, 9, 8]], [0.9, 0.8, 0.7], [0, 0, 0]), 0.5
    )
    assert seen.outcomes.tolist() == [metric.HIT, metric.IGNORED, metric.FALSE]
    assert seen.missed.tolist() == [False, False, True]
    assert seen.f1 == 0.5
    nothing = Annotation("b", "b.jpg", 9, 9, np.zeros((0, 4), "float32"), np.zeros(0, "int64"), np.zeros(0, "bool"))
    assert math.isnan(evaluation_page.look(nothing, Detections.empty(), 0.5).f1)


def test_nothing_found_makes_a_page_too(evaluation):
    found = {image.id: Detections.empty() for image in evaluation.annotations}
    empty = voc_evaluation.evaluate("none", "VOC", "val", CLASSES, evaluation.annotations, found)
    assert empty.result.map11 == 0
    assert "0 hits, 0 false, 2 missed" in evaluation_page.html(empty)
    assert voc_evaluation.curves("none", empty.result)


def test_boxes_are_drawn_where_they_are():
    pixels = np.zeros((120, 160, 3), "uint8")
    image = np.asarray(draw.draw(pixels, [draw.Mark((40, 50, 99, 89), "", "#ff0000")]))
    red = (image == (255, 0, 0)).all(-1)
    ys, xs = np.nonzero(red)
    assert (xs.min(), ys.min(), xs.max(), ys.max()) == (40, 50, 99, 89)
    assert not red[55:85, 45:95].any()
    assert not pixels.any()


@pytest.mark.parametrize("box", [(0, 0, 159, 119), (150, 0, 159, 5), (3.5, 4.5, 3.5, 4.5), (-5, -5, 500, 500)])
@pytest.mark.parametrize("dashed", [False, True])
def test_labels_stay_on_the_image(box, dashed):
    pixels = np.full((120, 160, 3), 128, "uint8")
    bare = np.asarray(draw.draw(pixels, [draw.Mark(box, "", "#00ff00", dashed)]))
    image = np.asarray(draw.draw(pixels, [draw.Mark(box, "pottedplant 0.99", "#00ff00", dashed)]))
    assert image.shape == pixels.shape
    label = (image != bare).any(-1)
    assert label.sum() > 300  # there is room for all of it
    assert {tuple(pixel) for pixel in image[label]} >= {(0, 255, 0), (0, 0, 0)}


def test_detections_are_named_and_neighbours_differ_in_colour():
    marks = draw.detection_marks(detections([[0, 0, 9, 9], [0, 0, 5, 5]], [0.2, 0.1], [1, 0]), CLASSES)
    assert [mark.text for mark in marks] == ["cat 0.10", "dog 0.20"]  # the best on top
    assert len({draw.class_colour(label) for label in range(20)}) == 20


def test_drawings_are_saved_in_their_format(tmp_path):
    image = Image.fromarray(np.zeros((9, 9, 3), "uint8"))
    for name, kind in (("a.png", "PNG"), ("a.jpg", "JPEG")):
        draw.save(image, str(tmp_path / name))
        assert Image.open(io.BytesIO((tmp_path / name).read_bytes())).format == kind
    assert sorted(os.listdir(tmp_path)) == ["a.jpg", "a.png"]
