import dataclasses
import hashlib
import importlib.metadata
import json
import math
import os
from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

import fd_keras
from fd_keras import zoo
from fd_keras.cost import profile_ops
from fd_keras.spec import lower
from fd_keras.tflite.format import sidecar
from fd_keras.tflite.recipes import RECIPES, Int8Settings

KEYS = {
    "name",
    "arch",
    "keras_model",
    "weights_sha256",
    "recipe",
    "recipe_steps",
    "include_preprocessing",
    "input",
    "output",
    "classes",
    "macs",
    "parameters",
    "calibration",
    "sha256",
    "size_bytes",
    "versions",
}


# Every network, and every recipe: what the sidecar says of one has nothing to do with the other.
FILES = dict.fromkeys([(name, "float32") for name in zoo.ARCHS] + [("fd_mobilenet", recipe) for recipe in RECIPES])
every_file = pytest.mark.parametrize(("name", "recipe"), list(FILES))


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


# --- what the sidecar says -------------------------------------------------------------------------------


@every_file
def test_sidecar_describes_the_file(converted, name, recipe):
    file = converted(name, recipe)
    facts, data = file.facts, Path(file.path).read_bytes()
    assert facts.keys() == KEYS
    assert os.path.basename(file.path) == f"{name}_{recipe}.tflite"
    assert (facts["name"], facts["recipe"]) == (name, recipe)
    assert (facts["sha256"], facts["size_bytes"]) == (sha256(data), len(data))
    assert facts["classes"] == file.model.output_shape[1]
    assert facts["include_preprocessing"] is True


@every_file
def test_sidecar_describes_the_conversion(converted, name, recipe):
    steps = converted(name, recipe).facts["recipe_steps"]
    settings = steps.pop("settings")
    assert steps == {key: getattr(RECIPES[recipe], key) for key in ("name", "weights", "activations", "summary")}
    assert (settings and Int8Settings(**settings)) == RECIPES[recipe].settings


@every_file
def test_sidecar_s_tensor_facts_are_the_interpreter_s(converted, name, recipe):
    file = converted(name, recipe)
    interpreter = Interpreter(file.path)
    for key, (details,) in {
        "input": interpreter.get_input_details(),
        "output": interpreter.get_output_details(),
    }.items():
        scale, zero_point = details["quantization"]
        assert file.facts[key] == {
            "name": details["name"],
            "shape": details["shape"].tolist(),
            "dtype": np.dtype(details["dtype"]).name,
            "scale": scale if scale else None,
            "zero_point": zero_point if scale else None,
        }


@pytest.mark.parametrize("name", zoo.ARCHS)
def test_sidecar_s_cost_is_the_table_s(converted, name):
    file = converted(name, "float32")
    classes, size = file.model.output_shape[1], file.model.input_shape[1:3]
    cost = profile_ops(lower(zoo.get_arch(name), 0.25, size, classes=classes))
    assert (file.facts["macs"], file.facts["parameters"]) == (cost.macs, cost.parameters)
    assert file.facts["parameters"] == sum(math.prod(weight.shape) for weight in file.model.trainable_weights)


@every_file
def test_sidecar_names_the_calibration_images(converted, calibration, name, recipe):
    facts = converted(name, recipe).facts["calibration"]
    if not RECIPES[recipe].calibrated:
        assert facts is None
        return
    assert facts == {
        "count": len(calibration.ids),
        "ids": list(calibration.ids),
        "sha256": sha256(calibration.images.tobytes()),
    }


def test_calibration_hash_changes_with_one_pixel(calibration):
    changed = calibration.images.copy()
    changed[-1, -1, -1, -1] ^= 1
    other = dataclasses.replace(calibration, images=changed)
    assert sidecar.calibration_facts(other)["sha256"] != sidecar.calibration_facts(calibration)["sha256"]


def test_sidecar_has_the_versions_that_made_the_file(converted):
    versions = converted("fd_mobilenet", "float32").facts["versions"]
    assert versions.pop("fd_keras") == fd_keras.__version__
    assert versions.keys() >= {"tensorflow", "keras", "ai-edge-litert", "numpy"}
    assert versions == {package: importlib.metadata.version(package) for package in versions}


def test_every_sidecar_is_strict_json(converted):
    file = converted("fd_mobilenet", "float32")
    text = Path(file.path).with_suffix(".json").read_text()
    json.loads(text, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))


def test_saved_source_is_path_and_hash(tmp_path):
    (tmp_path / "a.keras").write_bytes(b"model")
    path = str(tmp_path / "a.keras")
    assert sidecar.saved_source(path) == {"arch": None, "keras_model": path, "weights_sha256": sha256(b"model")}


# --- reading and changing it -----------------------------------------------------------------------------


def test_read_sidecar_returns_what_was_written(converted):
    file = converted("fd_mobilenet", "float32")
    assert sidecar.read_sidecar(file.path) == file.facts


def test_file_without_sidecar_has_none(tmp_path):
    assert sidecar.read_sidecar(str(tmp_path / "a.tflite")) is None


@pytest.mark.parametrize("content", [b"", b"{", b'{"a": 1', b"[1]", b'"text"', b"null", b"\xff\xfe", b"<html>"])
def test_damaged_sidecar_is_named(tmp_path, content):
    (tmp_path / "a_int8.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"a_int8\.json: not .*JSON.*convert the model again"):
        sidecar.read_sidecar(str(tmp_path / "a_int8.tflite"))


def test_sidecar_is_beside_files_with_dots_in_the_name():
    assert sidecar.sidecar_path("out/fd_mobilenet_0.25_64_int8.tflite") == "out/fd_mobilenet_0.25_64_int8.json"


@pytest.fixture
def pair(tmp_path) -> Path:
    """A file and its description."""
    (tmp_path / "a.tflite").write_bytes(b"network")
    (tmp_path / "a.json").write_text(json.dumps({"sha256": sha256(b"network"), "name": "a"}))
    return tmp_path / "a.tflite"


def test_facts_are_added_to_a_sidecar(pair):
    sidecar.record(str(pair), accuracy={"top1": 50})
    assert sidecar.read_sidecar(str(pair)) == {"sha256": sha256(b"network"), "name": "a", "accuracy": {"top1": 50}}


def test_facts_are_not_added_to_the_sidecar_of_another_file(pair):
    before = pair.with_suffix(".json").read_text()
    pair.write_bytes(b"another network")
    with pytest.raises(ValueError, match=r"a\.json: does not describe .*a\.tflite"):
        sidecar.record(str(pair), accuracy={})
    assert pair.with_suffix(".json").read_text() == before
