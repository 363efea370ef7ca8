"""Fixtures: networks with realistic weights, their files by recipe (each converted once), and programs."""

import contextlib
import dataclasses
import functools
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from tensorflow.lite.python import schema_py_generated as schema

from fd_keras.applications import build_by_name
from fd_keras.litert import Runner
from fd_keras.tflite import export
from fd_keras.tflite.format.sidecar import sidecar_path
from fd_keras.tflite.recipes import RECIPES, Calibration, ConversionRecipe
from fd_keras.training.voc.detector import Detector
from tests.random_detector import random_detector

ROOT = Path(__file__).parents[2]
SIZE = (64, 96)  # not square, so that height and width cannot be swapped unnoticed
CLASSES = 10
SOURCE = {"arch": None, "keras_model": "some.keras", "weights_sha256": "0" * 64}


def pytest_itemcollected(item):
    item.add_marker(pytest.mark.tensorflow_only(reason="the converter reads TensorFlow graphs"))


# --- images and models -------------------------------------------------------------------------------------


def smooth_images(count: int, size: tuple[int, int] = SIZE, seed: int = 0) -> np.ndarray:
    """Raw uint8 RGB images of soft blobs, with low frequencies like photos, each in a different color."""
    rng = np.random.default_rng(seed)
    blobs, colors = rng.integers(0, 256, (count, 4, 6, 3)), rng.integers(0, 256, (count, 1, 1, 3))
    coarse = ((blobs + 2 * colors) // 3).astype("uint8")
    return np.stack([Image.fromarray(image).resize(size[::-1], Image.Resampling.BICUBIC) for image in coarse])


def give_statistics(model: keras.Model, images: np.ndarray) -> None:
    """Gives the layers statistics like those of trained ones.

    All four weights of each batch normalization get values that affect the output. Depthwise kernels become blurs,
    since kernels with random signs would cancel soft images, and rounding errors would dominate.
    """
    rng = np.random.default_rng(1)
    norms = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    for layer in norms:
        layer.gamma.assign(rng.uniform(0.4, 0.8, layer.gamma.shape))
        layer.beta.assign(rng.uniform(0, 1, layer.beta.shape))
        layer.momentum = 0.0  # one pass then replaces the moving averages with the statistics of these images
    for layer in model.layers:
        if isinstance(layer, keras.layers.DepthwiseConv2D):
            layer.kernel.assign(np.abs(layer.kernel))
    model(images, training=True)
    for layer in norms:
        layer.momentum = 0.9


def balance_head(model: keras.Model, images: np.ndarray) -> None:
    """Normalizes the logits on these images, so that predicted classes vary and the softmax does not saturate."""
    head = model.layers[-1]
    features = keras.Model(model.input, head.input).predict_on_batch(images)
    kernel = head.get_weights()[0]
    kernel /= (features @ kernel).std(axis=0)
    head.set_weights([kernel, -(features @ kernel).mean(axis=0)])


def prepared(model: keras.Model, include_preprocessing: bool = True) -> keras.Model:
    images = smooth_images(64, model.input_shape[1:3], seed=2).astype("float32")
    images = images if include_preprocessing else images / 64 - 2
    give_statistics(model, images)
    balance_head(model, images)
    return model


@pytest.fixture(scope="session")
def build():
    """Builds a narrow network by name, with random weights that have the statistics of trained ones."""

    def build(name: str, **arguments) -> keras.Model:
        keras.utils.set_random_seed(0)
        defaults = {"alpha": 0.25, "classes": CLASSES, "weights": None, "input_shape": (*SIZE, 3)}
        model = build_by_name(name, **{**defaults, **arguments})
        return prepared(model, arguments.get("include_preprocessing", True))

    return build


@pytest.fixture(scope="session")
def network(build):
    """Returns the network of `build`, built once for each name; do not modify it."""
    return functools.cache(build)


def tiny_classifier(include_preprocessing: bool) -> keras.Model:
    keras.utils.set_random_seed(0)
    image = keras.Input((*SIZE, 3))
    x = keras.layers.Rescaling(1 / 64, -2)(image) if include_preprocessing else image
    x = keras.layers.Conv2D(8, 3, 2, "same", activation="relu")(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    return prepared(keras.Model(image, keras.layers.Dense(4, "softmax")(x)), include_preprocessing)


@pytest.fixture(scope="session")
def tiny() -> keras.Model:
    """A classifier of four classes that takes raw pixels and converts in a second; do not modify it."""
    return tiny_classifier(True)


@pytest.fixture(scope="session")
def tiny_normalized() -> keras.Model:
    """The tiny classifier for images that `preprocess_input` has normalized."""
    return tiny_classifier(False)


@pytest.fixture(scope="session")
def calibration() -> Calibration:
    return Calibration(tuple(f"{i}.png" for i in range(32)), smooth_images(32, seed=3))


@pytest.fixture(scope="session")
def images() -> np.ndarray:
    """Raw images that are not used for calibration."""
    return smooth_images(50, seed=4).astype("float32")


@pytest.fixture
def save_images():
    """Writes images as PNG files, named so that sorting keeps their order."""

    def save(folder: Path, images: np.ndarray) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        for index, image in enumerate(images):
            Image.fromarray(image.astype("uint8")).save(folder / f"{index:03}.png")
        return folder

    return save


# --- .tflite files -----------------------------------------------------------------------------------------

_OPS = {code: name for name, code in vars(schema.BuiltinOperator).items() if isinstance(code, int)}
_TYPES = {code: name for name, code in vars(schema.TensorType).items() if isinstance(code, int)}


@dataclasses.dataclass(frozen=True)
class ParsedTensor:
    """A tensor of a file: the schema's name of its type, and its number of scales."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    scales: int
    constant: bool


@dataclasses.dataclass(frozen=True)
class ParsedOp:
    """An operation of a file."""

    name: str
    inputs: tuple[ParsedTensor, ...]
    outputs: tuple[ParsedTensor, ...]

    @property
    def tensors(self) -> tuple[ParsedTensor, ...]:
        return self.inputs + self.outputs


def read_ops(data: bytes) -> list[ParsedOp]:
    """The operations of a .tflite file, parsed without an interpreter, which would add delegates."""
    model = schema.ModelT.InitFromPackedBuf(data, 0)
    (graph,) = model.subgraphs

    def tensor(index: int) -> ParsedTensor:
        t = graph.tensors[index]
        shape = tuple(int(side) for side in ([] if t.shape is None else t.shape))
        scales = t.quantization.scale if t.quantization else None
        constant = model.buffers[t.buffer].data is not None
        return ParsedTensor(t.name.decode(), _TYPES[t.type], shape, 0 if scales is None else len(scales), constant)

    def tensors(indices) -> tuple[ParsedTensor, ...]:
        return tuple(tensor(index) for index in indices if index >= 0)

    codes = [_OPS[max(c.builtinCode, c.deprecatedBuiltinCode)] for c in model.operatorCodes]
    return [ParsedOp(codes[op.opcodeIndex], tensors(op.inputs), tensors(op.outputs)) for op in graph.operators]


@dataclasses.dataclass(frozen=True)
class Converted:
    """A network, its file, and the outputs of both for `images`."""

    model: keras.Model
    recipe: ConversionRecipe
    path: str
    expected: np.ndarray
    images: np.ndarray

    @functools.cached_property
    def runner(self) -> Runner:
        return Runner(self.path)

    @functools.cached_property
    def scores(self) -> np.ndarray:
        return self.runner(self.images)

    @functools.cached_property
    def ops(self) -> list[ParsedOp]:
        return read_ops(Path(self.path).read_bytes())

    @property
    def facts(self) -> dict:
        return json.loads(Path(sidecar_path(self.path)).read_text())


@contextlib.contextmanager
def saving_once(folder: Path):
    """Lets conversions of one model share its SavedModel, since saving takes half of the time."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("save_model", "_save_folded"):
            patch.setattr(export, name, _once(getattr(export, name), folder / name))
        yield


def _once(save, folder: Path):
    """Wraps a function whose last argument is the output folder; later calls copy the files of the first call."""

    def saved(*arguments):
        *others, target = arguments
        if not folder.exists():
            save(*others, str(folder))
        shutil.copytree(folder, target, dirs_exist_ok=True)

    return saved


@pytest.fixture(scope="session")
def converted(network, calibration, images, tmp_path_factory):
    """Converts a network with a recipe, both by name; each pair is converted once."""
    folder = tmp_path_factory.mktemp("converted")

    @functools.cache
    def convert(name: str, recipe_name: str) -> Converted:
        model, recipe = network(name), RECIPES[recipe_name]
        with saving_once(folder / name):
            (path,) = export.write(model, name, SOURCE, [recipe], str(folder), calibration=calibration)
        return Converted(model, recipe, path, model.predict_on_batch(images), images)

    return convert


@pytest.fixture(scope="session")
def convert_tiny(tiny, tiny_normalized, calibration, tmp_path_factory):
    """Converts the tiny classifier with a recipe and other arguments, once each; returns the path."""

    @functools.cache
    def convert(recipe_name: str, include_preprocessing: bool = True, io: str = "uint8") -> str:
        (path,) = export.write(
            tiny if include_preprocessing else tiny_normalized,
            "tiny",
            SOURCE,
            [RECIPES[recipe_name]],
            str(tmp_path_factory.mktemp("tiny")),
            calibration=calibration,
            include_preprocessing=include_preprocessing,
            io=io,
        )
        return path

    return convert


@pytest.fixture(scope="session")
def op_names():
    """Returns a function that lists the names of the operations in a file."""
    return lambda path: {op.name for op in read_ops(Path(path).read_bytes())}


# --- detectors ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def detector_photo() -> np.ndarray:
    """An image of soft blobs in 4:3, like VOC's photos."""
    blots = np.random.default_rng(0).uniform(0, 255, (15, 20, 3))
    return tf.image.resize(blots, (375, 500), "bicubic").numpy().clip(0, 255).astype("uint8")


@pytest.fixture(scope="session")
def detector(detector_photo) -> Detector:
    return random_detector(detector_photo)


# --- programs ----------------------------------------------------------------------------------------------


class ProgramRun(subprocess.CompletedProcess):
    """A finished program, with assertions about how it ended."""

    def assert_done(self) -> None:
        assert self.returncode == 0, self.stderr

    def assert_refused(self, *words: str) -> None:
        """Checks that the program failed with a single line that contains the words, and no other output."""
        assert self.returncode in (1, 2)
        assert "Traceback" not in self.stderr
        assert self.stdout == ""
        lines = [line for line in self.stderr.splitlines() if line.startswith("error: ")]
        assert len(lines) == 1, self.stderr
        for word in words:
            assert word in lines[0]


@pytest.fixture(scope="session")
def run_in_shell():
    """Runs a program from the clone as a separate process in a folder; returns a `ProgramRun`."""

    def run(folder: Path, module: str, *flags: str) -> ProgramRun:
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-m", module, *flags]
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
        return ProgramRun(command, done.returncode, done.stdout, done.stderr)

    return run


@pytest.fixture(scope="session")
def forked_programs(start_programs):
    modules = ("fd_keras.tflite.verification.ablation", "fd_keras.tflite.detector", "matplotlib.backends.backend_svg")
    return start_programs(*modules)


@pytest.fixture
def run_program(forked_programs, tmp_path):
    """Runs `python -m MODULE FLAGS...` in `tmp_path`; returns a `ProgramRun`."""

    def run(module: str, *flags: str, **environment: str) -> ProgramRun:
        done = forked_programs.run(module, flags, tmp_path, environment)
        return ProgramRun(done.args, done.returncode, done.stdout, done.stderr)

    return run


@pytest.fixture(scope="session")
def photos(tmp_path_factory, images) -> Path:
    """Forty image files that are not used for calibration."""
    folder = tmp_path_factory.mktemp("photos")
    for index, image in enumerate(images[:40].astype("uint8")):
        Image.fromarray(image).save(folder / f"{index:03}.png")
    return folder


@pytest.fixture(scope="session")
def saved_flowers(tmp_path_factory, build) -> Path:
    """A saved Keras model with five classes."""
    path = tmp_path_factory.mktemp("saved") / "my.flowers.keras"
    build("fd_mobilenet", classes=5).save(path)
    return path


@dataclasses.dataclass(frozen=True)
class Flowers:
    """A run of `convert` on the saved model, and its working folder; the files are in `out` there."""

    run: ProgramRun
    folder: Path

    @property
    def out(self) -> Path:
        return self.folder / "out"


@pytest.fixture(scope="session")
def flowers(tmp_path_factory, saved_flowers, photos, run_in_shell) -> Flowers:
    folder = tmp_path_factory.mktemp("flowers")
    flags = ["--recipes=float32,int8", f"--calibration_dir={photos}", "--calibration_count=16", "--output_dir=out"]
    return Flowers(run_in_shell(folder, "tflite.convert", f"--keras_model={saved_flowers}", *flags), folder)
