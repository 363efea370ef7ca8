"""Tests the program `fd-keras classify` with user models."""

import json
from pathlib import Path

import keras
import numpy as np
import pytest

from fd_keras import classify, image_classifier, imagenet
from fd_keras.tflite.export import write
from fd_keras.tflite.recipes import RECIPES
from tests.tflite.conftest import SOURCE

NAMES = ("ant", "bee", "cat", "dog")


@pytest.fixture(scope="module")
def files(tiny, calibration, tmp_path_factory) -> Path:
    """A folder with a .keras file, and float and integer .tflite files with embedded names."""
    folder = tmp_path_factory.mktemp("files")
    tiny.save(folder / "tiny.keras")
    for io in ("uint8", "int8"):
        (path,) = write(
            tiny, io, SOURCE, [RECIPES["int8"]], str(folder), calibration=calibration, io=io, class_names=NAMES
        )
    (path,) = write(tiny, "float", SOURCE, [RECIPES["float32"]], str(folder), class_names=NAMES)
    return folder


def classified(capsys, *arguments) -> list[dict]:
    assert classify.main([*map(str, arguments), "--json"]) == 0
    return [result["predictions"] for result in json.loads(capsys.readouterr().out)]


@pytest.mark.parametrize("name", ["float_float32", "uint8_int8", "int8_int8"])
def test_files_of_any_type_have_class_names(files, photos, capsys, tiny, name):
    found = classified(capsys, f"--model={files / name}.tflite", photos)
    assert [p.keys() for p in found[0]] == [{"label", "name", "probability"}] * 4
    assert all(p["name"] == NAMES[p["label"]] for row in found for p in row)
    loaded = [imagenet.load_image(photos / f"{i:03}.png", (64, 96)) for i in range(40)]
    expected = tiny.predict_on_batch(np.stack(loaded).astype("float32"))
    scores = np.array([[p["probability"] for p in sorted(row, key=lambda p: p["label"])] for row in found])
    np.testing.assert_allclose(scores, expected, atol=1e-5 if name.startswith("float") else 0.1)


def test_classes_without_names_are_numbered_unless_labels_are_given(files, photos, capsys, tmp_path):
    model, photo = f"--model={files / 'tiny.keras'}", photos / "000.png"
    assert {p["name"] for p in classified(capsys, model, photo)[0]} == {f"class {i}" for i in range(4)}
    (tmp_path / "names.txt").write_text("w\nx\ny\n\x1b[31mz\n")
    labels = f"--labels={tmp_path / 'names.txt'}"
    assert {p["name"] for p in classified(capsys, model, labels, photo)[0]} == {"w", "x", "y", "\x1b[31mz"}
    assert classify.main([model, labels, str(photo)]) == 0
    assert "\\x1b[31mz\n" in capsys.readouterr().out


def test_a_file_that_does_not_normalize_gets_normalized_images(convert_tiny, tiny_normalized, photos):
    found = image_classifier.open_classifier(convert_tiny("float32", include_preprocessing=False))
    image = imagenet.load_image(photos / "000.png", found.size)[None]
    expected = tiny_normalized.predict_on_batch(imagenet.preprocess_input(image.astype("float32"), False))
    np.testing.assert_allclose(found(image), expected, atol=1e-5)


def test_one_score_of_a_gray_image_is_the_probability_of_the_second_class(photos, capsys, calibration, tmp_path):
    image = keras.Input((24, 24, 1))
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Rescaling(1 / 128, -1)(image))
    model = keras.Model(image, keras.layers.Dense(1, "sigmoid")(x))
    (path,) = write(model, "gray", SOURCE, [RECIPES["float32"]], str(tmp_path), class_names=["cat"])
    (found,) = classified(capsys, f"--model={path}", photos / "001.png")
    chances = {p["name"]: p["probability"] for p in found}
    gray = imagenet.load_image(photos / "001.png", (24, 24, 1))[None].astype("float32")
    assert chances["cat"] == pytest.approx(float(model.predict_on_batch(gray)[0, 0]), abs=1e-5)
    assert chances["not cat"] == pytest.approx(1 - chances["cat"])


@pytest.mark.parametrize(
    ("flags", "word"),
    [
        (["--model=gone.keras"], "gone.keras: no such file"),
        (["--model=gone.tflite"], "gone.tflite: no such file"),
        (["--model=FILE", "--alpha=0.5"], "--alpha applies only to networks by name"),
        (["--labels=names.txt"], "--labels needs a model file as --model"),
        (["--model=FILE", "--labels=gone.txt"], "--labels=gone.txt: no such file"),
        (["--model=FILE", "--labels=PHOTO"], "not valid UTF-8"),
    ],
)
def test_invalid_arguments_are_named(files, photos, flags, word):
    photo = str(photos / "000.png")
    given = [flag.replace("FILE", str(files / "tiny.keras")).replace("PHOTO", photo) for flag in flags]
    with pytest.raises((ValueError, OSError), match=word):
        classify.main([*given, photo])
