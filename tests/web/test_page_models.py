"""Descriptions of .tflite files for the page."""

import dataclasses
import json
import pathlib
import shutil

import numpy as np
import pytest

from fd_keras import imagenet
from fd_keras.android_bench.models import read_model
from fd_keras.errors import ProgramError
from fd_keras.web import page_models
from tests.web.conftest import NAMES, SIZE


def test_a_classifier_is_described(models):
    facts = [model.facts for model in models]
    assert [fact["kind"] for fact in facts] == ["classifier"] * 2
    assert [fact["input"]["dtype"] for fact in facts] == ["float32", "uint8"]
    assert facts[1]["input"] == {"shape": [1, *SIZE, 3], "dtype": "uint8", "scale": 1.0, "zero_point": 0}
    assert facts[0]["resize"] == list(imagenet.resize_target(SIZE))
    assert facts[0]["classes"] == NAMES
    assert facts[0]["rescaling"] is None
    json.dumps([model.described() for model in models])


def copy(source, place: pathlib.Path, **facts):
    """Copies a file and changes keys of its description."""
    shutil.copy(source.path, place / "m.tflite")
    sidecar = json.loads(source.path.with_suffix(".json").read_text())
    (place / "m.json").write_text(json.dumps(sidecar | facts))
    return read_model(place / "m.tflite")


def test_a_file_with_normalized_inputs_is_described_with_its_rescaling(sources, tmp_path):
    changed = copy(sources[0], tmp_path, include_preprocessing=False)
    assert page_models.describe(changed).facts["rescaling"] == imagenet.rescaling()


def test_class_names_come_from_a_list_or_are_numbers(sources, tmp_path):
    changed = copy(sources[0], tmp_path, class_names=None)
    assert page_models.describe(changed).facts["classes"] == [f"class {i}" for i in range(4)]
    (tmp_path / "names.txt").write_text("a\nb\nc\nd\n")
    assert page_models.describe(changed, str(tmp_path / "names.txt")).facts["classes"] == list("abcd")


def test_types_that_litert_js_does_not_support_are_rejected():
    with pytest.raises(ProgramError, match=r"m.tflite: its input is int8, .*--io=uint8"):
        page_models._check_types("m.tflite", np.int8, np.float32)
    with pytest.raises(ProgramError, match="its output is int16"):
        page_models._check_types("m.tflite", np.float32, np.int16)


def test_a_damaged_file_is_named(sources, tmp_path):
    (tmp_path / "cut.tflite").write_bytes(sources[0].path.read_bytes()[:500])
    damaged = dataclasses.replace(sources[0], path=tmp_path / "cut.tflite")
    with pytest.raises(ValueError, match="cut.tflite: damaged"):
        page_models.describe(damaged)


def test_labels_of_a_detector_must_fit_its_classes(tmp_path):
    (tmp_path / "m.json").write_text(json.dumps({"classes": ["a", "b"]}))
    (tmp_path / "names.txt").write_text("c\nd\n")
    path, names = str(tmp_path / "m.tflite"), str(tmp_path / "names.txt")
    assert page_models._detector_names(path, names) == ("c", "d")
    (tmp_path / "names.txt").write_text("c\n")
    with pytest.raises(ProgramError, match=r"names.txt: has 1 names, but .*m.tflite has 2 classes"):
        page_models._detector_names(path, names)
