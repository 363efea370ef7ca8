import json
import pathlib

import pytest

from fd_keras import sidecar
from fd_keras.io import write_json
from fd_keras.tflite import export, model_card
from fd_keras.tflite.recipes import RECIPES
from tests.tflite.conftest import SOURCE

NAMES = ["<b>ant</b>", "bee | wasp", "moth_1", "*fly*"]


@pytest.fixture
def files(tiny, calibration, tmp_path) -> list[str]:
    recipes = [RECIPES["float32"], RECIPES["int8"]]
    paths = export.write(tiny, "insects", SOURCE, recipes, str(tmp_path), calibration=calibration, class_names=NAMES)
    return list(paths)


def card_of(files: list[str], **given) -> str:
    return pathlib.Path(model_card.write(files, **given)).read_text()


def facts_of(path: str) -> dict:
    return json.loads(pathlib.Path(sidecar.sidecar_path(path)).read_text())


def test_a_card_is_beside_its_files_and_names_them(files, tmp_path):
    assert model_card.write(files) == str(tmp_path / "insects.md")
    text = (tmp_path / "insects.md").read_text()
    front_matter, _, body = text.removeprefix("---\n").partition("\n---\n")
    assert "pipeline_tag: image-classification" in front_matter.splitlines()
    rows = [line for line in body.splitlines() if line.startswith("| insects")]
    assert ["float32" in rows[0], "int8" in rows[1]] == [True, True]
    assert rows[0].split(" | ")[3] == ""  # RAM is only known for integer files
    assert rows[1].split(" | ")[3].endswith("KiB")
    assert f"{facts_of(files[0])['parameters']:,} parameters" in body
    assert "takes uint8 1 x 64 x 96 x 3, raw RGB, 0 to 255; returns uint8" in body
    assert "covers 73 x 109 pixels" in body


def test_class_names_are_escaped(files):
    body = card_of(files)
    assert r"\<b\>ant\</b\>, bee \| wasp, moth\_1, \*fly\*." in body


def test_only_measured_figures_are_listed(files):
    assert "accuracy has not been measured" in card_of(files)
    accuracy = {"images": 40, "top1": 87.5, "top5": None, "agreement": 97.5, "trained_on_these": True}
    write_json(sidecar.sidecar_path(files[1]), facts_of(files[1]) | {"accuracy": accuracy})
    body = card_of(files, training="On 9 photos.", license_text="MIT (here)")
    (row,) = [line for line in body.splitlines() if line.startswith("| insects\\_int8")]
    assert row.endswith("| 87.5% |  | 97.5% |")
    assert "Measured on 40 photos, which were finally used for training too." in body
    assert "On 9 photos." in body
    assert "license: mit" in body


def test_the_license_of_published_weights_is_named(files):
    source = {"arch": "fd_mobilenet", "alpha": 0.25, "weights": "imagenet"}
    body = model_card.text([facts_of(files[0]) | source | {"file": "a.tflite", "bytes": 1, "ram": None}])
    assert "license: mit" in body
    assert "MIT (https://" in body
    assert "FD-MobileNet 0.25x for images of 64 x 96 pixels" in body


def test_a_file_without_its_json_is_rejected(files, tmp_path):
    (tmp_path / "insects_int8.json").unlink()
    with pytest.raises(ValueError, match=r"insects_int8\.tflite: its \.json is missing; convert the model again"):
        model_card.write(files)
    assert not (tmp_path / "insects.md").exists()
