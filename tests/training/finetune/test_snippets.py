"""Runs the Python snippets unchanged; for the others, checks the facts that they assume."""

import dataclasses
import re
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image
from skimage import data as samples

from fd_keras.applications import FDMobileNet
from fd_keras.imagenet import load_image
from fd_keras.litert import Runner
from fd_keras.saved import load_model
from fd_keras.tflite import export
from fd_keras.tflite.recipes import Calibration, get_recipes
from fd_keras.training.finetune.results import FinetuneResults
from fd_keras.training.finetune.snippets import Snippet, snippets
from tests import needs
from tests.training.finetune.made_results import file_facts, results_of

pytestmark = pytest.mark.tensorflow_only(reason="the converter reads TensorFlow graphs")

SIZE = 64
NAMES = ['heron "grey"', "it's a $5 bill", "König\n🦩\\n"]
HOSTILE_FOLDER = "it's $HOME"  # folder of the files


def save_photos(folder: Path) -> list[str]:
    """Writes wide and tall photos, one with an EXIF rotation and one in gray; returns their names."""
    astronaut, cat, coffee = (
        Image.fromarray(image()) for image in (samples.astronaut, samples.chelsea, samples.coffee)
    )
    turned = Image.Exif()
    turned[0x0112] = 6
    astronaut.crop((0, 0, 301, 512)).save(folder / "tall.jpg")
    cat.save(folder / "wide.jpg")
    coffee.save(folder / "turned.jpg", exif=turned)
    Image.fromarray(samples.camera()).save(folder / "gray.png")
    Image.fromarray(samples.rocket()).resize((71, 97)).save(folder / "small.png")
    return ["tall.jpg", "wide.jpg", "turned.jpg", "gray.png", "small.png"]


def spread(model: keras.Model, images: np.ndarray) -> None:
    """Sets the head of a random network so that its predictions differ between photos."""
    head = model.layers[-1]
    features = keras.Model(model.input, head.input).predict_on_batch(images)
    kernel = np.random.default_rng(0).normal(size=(features.shape[-1], len(NAMES)))
    kernel *= 2 / (features @ kernel).std(axis=0)
    head.set_weights([kernel, -(features @ kernel).mean(axis=0)])


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with photos and the files of a tiny network, the photos' names, and the results."""
    folder = tmp_path_factory.mktemp("snippets")
    names = save_photos(folder)
    images = np.stack([load_image(folder / name, (SIZE, SIZE), upright=True) for name in names])
    keras.utils.set_random_seed(0)
    model = FDMobileNet((SIZE, SIZE, 3), 0.25, weights=None, classes=len(NAMES))
    spread(model, images.astype("float32"))
    (folder / HOSTILE_FOLDER).mkdir()
    model.save(folder / HOSTILE_FOLDER / "net.keras")
    paths = export.write(
        model, "fd_mobilenet_0.25_64", {"arch": None}, get_recipes(["float32", "int8"]), str(folder / HOSTILE_FOLDER),
        calibration=Calibration(tuple(names), images), class_names=["a", "b", "c"],
    )  # fmt: skip
    recipes = zip(paths, ("float32", "int8"), strict=True)
    files = [file_facts(str(Path(path).relative_to(folder)), recipe) for path, recipe in recipes]
    return folder, names, results_of(NAMES, files=files, keras_file=f"{HOSTILE_FOLDER}/net.keras")


def only(results: FinetuneResults, recipe: str) -> FinetuneResults:
    return dataclasses.replace(results, files=[file for file in results.files if file.recipe == recipe])


def called(results: FinetuneResults, title: str) -> Snippet:
    (found,) = [snippet for snippet in snippets(results) if snippet.title == title]
    return found


def run(folder: Path, code: str, names: list[str]) -> list[tuple[str, float]]:
    """Parses the first class and its percentage for each photo from a snippet's output, run from another folder."""
    done = subprocess.run(
        [sys.executable, "-c", code, *(f"{folder.name}/{name}" for name in names)],
        capture_output=True,
        text=True,
        cwd=folder / "..",
    )
    assert done.returncode == 0, done.stderr
    blocks = re.split("|".join(f"^.*/{re.escape(name)}\n" for name in names), done.stdout, flags=re.MULTILINE)[1:]
    assert len(blocks) == len(names), done.stdout
    found = [re.match(r" +([\d.]+)%  (.*?)\n  ", block, re.DOTALL) for block in blocks]
    return [(match[2], float(match[1])) for match in found if match]


@pytest.mark.parametrize("recipe", ["int8", "float32"])
def test_python_with_litert_gives_the_scores_of_load_image_and_litert(made, recipe, monkeypatch):
    folder, names, results = made
    monkeypatch.chdir(folder)
    results = only(results, recipe)
    images = [load_image(folder / name, (SIZE, SIZE), upright=True) for name in names]
    expected = Runner(folder / results.files[0].path)(np.stack(images).astype("float32"))
    assert len(set(expected.argmax(-1))) > 1
    found = run(folder, called(results, "Python with LiteRT").code, names)
    assert [name for name, _ in found] == [NAMES[label] for label in expected.argmax(-1)]
    np.testing.assert_allclose([percent for _, percent in found], 100 * expected.max(-1), atol=0.051)


def test_python_with_keras_gives_the_scores_of_the_model(made, monkeypatch):
    folder, names, results = made
    monkeypatch.chdir(folder)
    images = np.stack([load_image(folder / name, (SIZE, SIZE), upright=True) for name in names])
    expected = load_model(folder / results.keras_file).predict_on_batch(images.astype("float32"))
    found = run(folder, called(results, "Python with Keras").code, names)
    assert [name for name, _ in found] == [NAMES[label] for label in expected.argmax(-1)]
    np.testing.assert_allclose([percent for _, percent in found], 100 * expected.max(-1), atol=0.1)


def test_the_commands_for_microcontrollers_run(made):
    folder, _, results = made
    code = called(results, "Microcontroller: memory and project").code
    code = code.replace("fd-keras", f"{sys.executable} -m fd_keras.cli")
    labels = folder / HOSTILE_FOLDER / f"{Path(results.files[1].path).stem}_project" / "classifier" / "labels.cc"
    done = subprocess.run(["bash", "-ec", code], capture_output=True, text=True, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert '"a", "b", "c"' in labels.read_text()


def test_snippets_dequantize_correctly(made):
    folder, _, results = made
    runner = Runner(folder / results.files[1].path)
    assert (runner.input["dtype"], *runner.input["quantization"]) == (np.uint8, 1.0, 0)
    assert (runner.output["dtype"], *runner.output["quantization"]) == (np.uint8, 1 / 256, 0)
    kotlin = called(results, "Android: Kotlin with LiteRT").code
    assert "writeInt8(pixels(photo))" in kotlin
    assert "and 0xFF) / 256f" in kotlin
    assert "writeFloat(" in called(only(results, "float32"), "Android: Kotlin with LiteRT").code
    assert "probability /= 256;" in called(results, "C++ with LiteRT").code
    assert "probability /= 1;" in called(only(results, "float32"), "C++ with LiteRT").code


def test_class_names_are_escaped_for_each_language(made):
    *_, results = made
    kotlin, cpp = (called(results, title).code for title in ("Android: Kotlin with LiteRT", "C++ with LiteRT"))
    assert r'''"heron \"grey\"", "it's a \$5 bill", "König\u000a🦩\\n"''' in kotlin
    assert r'''"heron \"grey\"", "it's a $5 bill", "König\012🦩\\n"''' in cpp


def test_cpp_literals_compile_to_the_class_names(made, tmp_path):
    compiler = needs.program("g++")
    *_, results = made
    literals = re.search(r"kClasses = (\{.*?\n\});", called(results, "C++ with LiteRT").code, re.DOTALL)
    assert literals
    (tmp_path / "names.cc").write_text(
        f"#include <cstdio>\nconst char* const kNames[] = {literals[1]};\n"
        "int main() { for (const char* name : kNames) std::puts(name); }",
        "utf-8",
    )
    subprocess.run([compiler, "-std=c++17", "-Werror", "names.cc", "-o", "names"], cwd=tmp_path, check=True)
    printed = subprocess.run([tmp_path / "names"], capture_output=True, check=True).stdout.decode()
    assert printed == "".join(f"{name}\n" for name in NAMES)


def test_lines_with_many_classes_are_wrapped():
    for snippet in snippets(results_of([f"a class of photos {i}" for i in range(300)])):
        assert max(map(len, snippet.code.splitlines())) <= 120, snippet.title


def test_snippets_without_their_files_are_left_out(made):
    *_, results = made
    titles = [snippet.title for snippet in snippets(only(results, "float32"))]
    assert not any("Microcontroller" in title for title in titles)
    assert [snippet.title for snippet in snippets(only(results, "float16"))] == ["Python with Keras"]
