"""Tests the program `fd-keras detect convert`."""

import json
import re
from pathlib import Path

import pytest
from PIL import Image

from fd_keras.training import run_record

CONVERT = "fd_keras.tflite.convert_detector"


@pytest.fixture
def run_dir(detector, tmp_path) -> Path:
    """The folder of a finished run."""
    facts = {"config": detector.config, "class_names": detector.classes, "name": detector.name}
    saved = Path(run_record.model_path(str(tmp_path / "run"), "last", detector.name))
    saved.parent.mkdir(parents=True)
    (tmp_path / "run" / run_record.FILE).write_text(json.dumps(facts))
    detector.model.net.save(saved)
    return tmp_path / "run"


def test_a_run_is_converted_and_compared(run_program, run_dir, detector_photo, tmp_path):
    Image.fromarray(detector_photo).save(tmp_path / "photo.png")
    flags = ["--recipes=float32", "--size=96x128", "--images=photo.png", "--output_dir=out"]
    run = run_program(CONVERT, f"--run_dir={run_dir}", *flags)
    run.assert_done()
    found = re.fullmatch(
        r"out/faster_rcnn_fd_mobilenet_0\.25_96_float32\.tflite: \d+\.\d\d MB, an image of 96x128\n"
        r"  photo\.png: (\d+) of Keras's detections above 0\.5, least overlap (?:0\.9\d+|1\.000)\n"
        r"  IoU > 0\.95 with (\d+) of Keras's (\d+) detections above 0\.5\n"
        r"next: .+ bench --models=out --target=host\n",
        run.stdout,
    )
    assert found, run.stdout
    assert int(found[1]) == int(found[2]) == int(found[3]) > 3


def test_boxes_are_not_changed_for_the_score(run_program, run_dir, detector_photo, tmp_path):
    """A box that reaches outside its image is neither clipped nor mentioned."""
    Image.fromarray(detector_photo).save(tmp_path / "photo.png")
    height, width = detector_photo.shape[:2]
    classes = json.loads((run_dir / run_record.FILE).read_text())["class_names"]
    data = {
        "images": [{"id": 1, "file_name": "photo.png", "width": width, "height": height}],
        "categories": [{"id": number, "name": name} for number, name in enumerate(classes)],
        "annotations": [{"image_id": 1, "category_id": 0, "bbox": [10, 10, 2 * width, 50]}],
    }
    (tmp_path / "data.json").write_text(json.dumps(data))
    run = run_program(CONVERT, f"--run_dir={run_dir}", "--recipes=float32", "--voc_dir=data.json", "--output_dir=out")
    run.assert_done()
    assert "mAP on test: " in run.stdout
    assert "outside the image" not in run.stderr


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--recipes=float23"], "--recipes=float23: unknown recipe; did you mean float32? (there are float32, float16"),
        (["--images=none.jpg"], "none.jpg"),
        (["--run_dir=gone"], "--run_dir=gone: no such folder"),
        (["--size=300"], "HEIGHTxWIDTH"),
        (["--size=10x500"], "HEIGHTxWIDTH"),
        (["--size=300x99999"], "HEIGHTxWIDTH"),
        (["--size=300x-500"], "HEIGHTxWIDTH"),
        ([], "not a run of"),
    ],
)
def test_invalid_arguments_are_named(run_program, tmp_path, flags, words):
    run_program(CONVERT, f"--run_dir={tmp_path}", f"--output_dir={tmp_path}", *flags).assert_refused(words)
