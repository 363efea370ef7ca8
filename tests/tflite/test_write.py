import dataclasses
import hashlib
import importlib.metadata
import json
import math
import os
from pathlib import Path

import keras
import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

import fd_keras
from fd_keras import zoo
from fd_keras.cost import profile_ops
from fd_keras.spec import lower
from fd_keras.tflite import export
from fd_keras.tflite.export import write
from fd_keras.tflite.format import sidecar
from fd_keras.tflite.recipes import RECIPES, Int8Settings

KEYS = {
    "name", "arch", "keras_model", "weights_sha256", "recipe", "recipe_steps", "include_preprocessing", "input",
    "output", "classes", "macs", "parameters", "calibration", "sha256", "size_bytes", "versions",
}  # fmt: skip
SOURCE = {"arch": None, "keras_model": "mine.keras", "weights_sha256": "ab" * 32}
every_file = pytest.mark.parametrize(("name", "recipe"), [(name, recipe) for name in zoo.ARCHS for recipe in RECIPES])


def listing(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()} if folder.exists() else {}


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture
def quick(monkeypatch, convert_tiny):
    """Makes `export` return the tiny classifier's file without converting anything."""
    data = Path(convert_tiny("float32")).read_bytes()
    monkeypatch.setattr(export, "export", lambda *_, **__: data)
    return data


# --- what the sidecar says ---------------------------------------------------------------------------------


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
def test_sidecar_says_how_the_file_was_made(converted, name, recipe):
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


def test_sidecar_has_all_that_identifies_the_source(quick, tiny, tmp_path):
    source = {"arch": "fd_mobilenet", "alpha": 0.25, "size": [64, 96], "weights": None, "weights_sha256": None}
    (path,) = write(tiny, "m", source, [RECIPES["float32"]], str(tmp_path))
    facts = json.loads((tmp_path / "m_float32.json").read_text())
    assert path == str(tmp_path / "m_float32.tflite")
    assert source.items() <= facts.items()


def test_sidecar_says_whether_the_file_normalizes(quick, tiny, tmp_path):
    list(write(tiny, "m", SOURCE, [RECIPES["float32"]], str(tmp_path), include_preprocessing=False))
    assert json.loads((tmp_path / "m_float32.json").read_text())["include_preprocessing"] is False


def test_saved_source_is_path_and_hash(tmp_path):
    (tmp_path / "a.keras").write_bytes(b"model")
    path = str(tmp_path / "a.keras")
    assert sidecar.saved_source(path) == {"arch": None, "keras_model": path, "weights_sha256": sha256(b"model")}


# --- reading it --------------------------------------------------------------------------------------------


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


def test_sidecar_is_beside_the_file_whatever_points_its_name_has():
    assert sidecar.sidecar_path("out/fd_mobilenet_0.25_64_int8.tflite") == "out/fd_mobilenet_0.25_64_int8.json"


# --- writing -----------------------------------------------------------------------------------------------


def test_folder_is_made_and_paths_come_in_the_recipes_order(quick, tiny, tmp_path):
    folder = tmp_path / "new" / "folder"
    recipes = [RECIPES["float16"], RECIPES["float32"]]
    paths = list(write(tiny, "m", SOURCE, recipes, str(folder)))
    assert paths == [str(folder / "m_float16.tflite"), str(folder / "m_float32.tflite")]
    assert listing(folder).keys() == {"m_float16.tflite", "m_float16.json", "m_float32.tflite", "m_float32.json"}


def test_each_pair_is_complete_when_its_path_is_yielded(quick, tiny, tmp_path):
    for path in write(tiny, "m", SOURCE, [RECIPES["float16"], RECIPES["float32"]], str(tmp_path)):
        assert sidecar.read_sidecar(path)["sha256"] == sha256(Path(path).read_bytes())


def test_failing_converter_keeps_the_old_pair_and_the_pairs_before(monkeypatch, quick, tiny, tmp_path):
    recipes = [RECIPES["float32"], RECIPES["float16"]]
    list(write(tiny, "m", SOURCE, recipes, str(tmp_path)))
    before = listing(tmp_path)

    def convert(model, recipe, **_):
        if recipe.name == "float16":
            raise RuntimeError("the converter gave up")
        return quick

    monkeypatch.setattr(export, "export", convert)
    with pytest.raises(RuntimeError, match="gave up"):
        list(write(tiny, "m", SOURCE, recipes, str(tmp_path)))
    assert listing(tmp_path) == before


@pytest.mark.parametrize("ending", ["tflite", "json"])
def test_full_disk_leaves_no_temporary_file(monkeypatch, quick, tiny, tmp_path, ending):
    replace = os.replace

    def fail(source, target):
        if target.endswith(ending):
            raise OSError(28, "No space left on device")
        replace(source, target)

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="No space"):
        list(write(tiny, "m", SOURCE, [RECIPES["float32"]], str(tmp_path)))
    assert listing(tmp_path).keys() <= {"m_float32.tflite"}


@pytest.mark.parametrize("ending", ["tflite", "json"])
def test_a_sidecar_never_describes_another_file(monkeypatch, convert_tiny, tiny, tmp_path, ending):
    """Also when the disk is full half way through replacing an older pair."""
    contents = iter([Path(convert_tiny(recipe)).read_bytes() for recipe in ("float32", "float16")])
    monkeypatch.setattr(export, "export", lambda *_, **__: next(contents))
    list(write(tiny, "m", SOURCE, [RECIPES["float32"]], str(tmp_path)))
    replace = os.replace

    def fail(source, target):
        if target.endswith(ending):
            raise OSError(28, "No space left on device")
        replace(source, target)

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="No space"):
        list(write(tiny, "m", SOURCE, [RECIPES["float32"]], str(tmp_path)))
    left = listing(tmp_path)
    if "m_float32.json" in left:
        assert json.loads(left["m_float32.json"])["sha256"] == sha256(left["m_float32.tflite"])


def test_model_that_is_no_classifier_leaves_nothing(tmp_path):
    image = keras.Input((32, 32, 3))
    trunk = keras.Model(image, keras.layers.Conv2D(4, 3)(image))
    with pytest.raises(ValueError, match="not a classifier"):
        list(write(trunk, "m", SOURCE, [RECIPES["float32"]], str(tmp_path)))
    assert listing(tmp_path) == {}
