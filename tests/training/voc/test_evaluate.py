"""Runs the programs on synthetic images with a detector of known detections."""

import json

import numpy as np
import pytest

from fd_keras.training.voc import batch_detection, detections
from fd_keras.training.voc.detections import Detections
from tests.training.voc.found import detections_of


@pytest.fixture
def quarters(devkit, voc_object):
    """Two images with a cat in the upper left quarter, one of them with a dog elsewhere."""
    devkit.add("a", voc_object("cat", 1, 1, 25, 20))
    devkit.add("b", voc_object("cat", 1, 1, 25, 20), voc_object("dog", 30, 30, 50, 40))
    devkit.split("test", "a", "b")
    return devkit


def test_the_files_of_an_evaluation_agree_with_its_output(quarters, program, tmp_path):
    out = tmp_path / "out"
    result = program("evaluate", f"--voc_dir={quarters}", "--run_dir=RUN", f"--output_dir={out}")
    assert result.returncode == 0, result.stderr
    rows = {line.split()[0]: line.split()[1:] for line in result.stdout.splitlines() if line.strip()}
    assert rows["cat"] == ["100.0", "100.0", "100.0", "2", "2"]
    assert rows["dog"] == ["0.0", "0.0", "0.0", "1", "0"]
    assert rows["mean"] == ["50.0", "50.0", "50.0", "3", "2"]
    assert "FD-MobileNet 0.5x              40   45.1   50.0" in result.stdout
    assert not (out / batch_detection.PARTIAL).exists()
    assert (out / "index.html").exists()
    assert (out / "curves.png").exists()

    again = program(
        "evaluate", f"--voc_dir={quarters}", f"--detections={out}", "--classes=cat,dog", "--split=test", "--json"
    )
    assert again.returncode == 0, again.stderr
    ours, theirs = json.loads((out / "results.json").read_text()), json.loads(again.stdout)
    assert theirs["classes"] == ours["classes"]
    assert theirs["map11"] == ours["map11"] == 0.5
    assert theirs["config"] is None
    assert theirs["paper_map11"] is None


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("evaluate", ["--voc_dir=VOC"], "pass either --run_dir or --detections"),
        ("evaluate", ["--voc_dir=VOC", "--detections=."], "error: VOC: no such folder"),
        ("evaluate", ["--voc_dir=VOC", "--detections=a", "--output_dir=b/../a"], "would be overwritten"),
        ("evaluate", ["--voc_dir=VOC", "--run_dir=none"], "error: --run_dir=none: not a run"),
        ("detect", ["--run_dir=RUN", "nowhere.jpg"], "error: nowhere.jpg: no such file"),
        ("detect", ["--run_dir=RUN"], "pass photos"),
    ],
)
def test_invalid_arguments_are_rejected(program, name, arguments, message):
    result = program(name, *arguments)
    assert result.returncode != 0
    assert message in result.stderr + result.stdout


def test_result_files_are_scored_without_images_on_unchanged_boxes(devkit, voc_object, program):
    devkit.add("a", voc_object("cat", 1, 1, 100, 100))  # the image is 50 x 40
    devkit.split("test", "a")
    devkit.image("a").unlink()
    detections.write(
        str(devkit.folder / "found"), "test", ("cat",), [("a", detections_of([[0, 0, 99, 99]], [0.5], [0]))]
    )
    result = program(
        "evaluate", f"--voc_dir={devkit}", f"--detections={devkit}/found", "--classes=cat", f"--output_dir={devkit}/out"
    )
    assert result.returncode == 0, result.stderr
    results = json.loads((devkit.folder / "out" / "results.json").read_text())
    assert results["map11"] == 1  # with the clipped box, the overlap would be 0.2
    assert "1 of 1 are not shown" in (devkit.folder / "out" / "index.html").read_text()


def test_the_objects_of_real_voc_as_detections_have_a_perfect_score(data, program, tmp_path):
    from fd_keras.training.voc import dataset as voc

    folder = data / "VOCdevkit" / "VOC2007"
    truth = [
        (image.id, Detections(image.boxes, np.ones(len(image.boxes), "float32"), image.labels))
        for image in voc.open_split(str(folder), "val")
    ]
    detections.write(str(tmp_path / "truth"), "val", voc.CLASSES, truth)
    result = program("evaluate", f"--voc_dir={folder}", "--split=val", "--json", "--detections=truth")
    assert result.returncode == 0, result.stderr
    results = json.loads(result.stdout)
    assert results["map11"] == results["map_area"] == 1
    assert {c["ap11"] for c in results["classes"]} == {1}
