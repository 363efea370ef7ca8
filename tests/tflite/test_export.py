import hashlib
import json
import os
from pathlib import Path

import keras
import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

from fd_keras import imagenet, zoo
from fd_keras.applications import FDMobileNet
from fd_keras.io import sha256_of
from fd_keras.litert import Runner
from fd_keras.photos import list_images
from fd_keras.tflite import export as module
from fd_keras.tflite.export import export, write
from fd_keras.tflite.recipes import IO_TYPES, RECIPES, load_calibration

# Two networks, which together have all kinds of layers, with every recipe, and the others with the usual recipes.
_ALL = [(name, recipe) for name in ("fd_mobilenet", "fd_shufflenet") for recipe in RECIPES]
_USUAL = [(name, recipe) for name in zoo.ARCHS for recipe in ("float32", "int8")]
every_file = pytest.mark.parametrize(("name", "recipe"), list(dict.fromkeys(_ALL + _USUAL)))


FLOAT = [name for name, recipe in RECIPES.items() if recipe.weights == recipe.activations == "float32"]


CALIBRATED = [name for name, recipe in RECIPES.items() if recipe.calibrated]


every_integer_file = pytest.mark.parametrize(
    ("name", "recipe"), [(name, recipe) for name in zoo.ARCHS for recipe in CALIBRATED]
)


# Maximum error of scores by the types of weights and activations, relative to the mean error for a wrong image. About
# three times the measured error, since kernels differ between processors.
LIMITS = {
    ("float16", "float32"): 0.02,
    ("int8", "float32"): 0.2,
    ("int8", "int8"): 0.4,
    ("int4", "int8"): 0.5,  # large kernels have 16 levels
}


# Any of these ops means that the converter did not know a shape, or that mobile delegates cannot run the whole graph.
UNWANTED = {"SHAPE", "PACK", "SELECT", "SELECT_V2", "CAST", "GATHER", "GATHER_ND", "STRIDED_SLICE", "SPLIT", "WHILE"}


QUANTIZATION = {"QUANTIZE", "DEQUANTIZE"}


def relative_error(scores: np.ndarray, expected: np.ndarray) -> float:
    unrelated = np.abs(np.roll(expected, 1, axis=0) - expected).mean()
    return float(np.abs(scores - expected).mean() / unrelated)


# --- every network with every recipe ---------------------------------------------------------------------


@every_file
def test_the_signature_takes_one_image_called_image(converted, name, recipe):
    file = converted(name, recipe)
    interpreter = Interpreter(file.path)
    (signature,) = interpreter.get_signature_list().values()
    assert signature["inputs"] == ["image"]
    assert len(signature["outputs"]) == 1
    (details,) = interpreter.get_input_details()
    static = [1, *file.model.input_shape[1:]]
    assert details["shape"].tolist() == details["shape_signature"].tolist() == static
    (details,) = interpreter.get_output_details()
    assert details["shape"].tolist() == details["shape_signature"].tolist() == [1, file.model.output_shape[1]]


@pytest.mark.parametrize("name", zoo.ARCHS)
@pytest.mark.parametrize("recipe", FLOAT)
def test_float32_scores_are_keras_s(converted, name, recipe):
    file = converted(name, recipe)
    np.testing.assert_allclose(file.scores, file.expected, rtol=0, atol=1e-5)


@every_file
def test_scores_stay_close_to_keras_s(converted, name, recipe):
    file = converted(name, recipe)
    limit = LIMITS.get((file.recipe.weights, file.recipe.activations), 1e-4)
    assert relative_error(file.scores, file.expected) < limit


@every_file
def test_scores_are_probabilities(converted, name, recipe):
    file = converted(name, recipe)
    step = 1 / 256 if file.recipe.calibrated else 1e-6
    # Each integer score has an error of up to half a step.
    np.testing.assert_allclose(file.scores.sum(axis=1), 1, atol=step * file.scores.shape[1] / 2 + 1e-6)
    assert file.scores.min() >= 0


@every_file
def test_only_builtin_ops_on_tensors_of_at_most_four_dimensions(converted, name, recipe):
    ops = converted(name, recipe).ops
    assert not {op.name for op in ops} & (UNWANTED | {"CUSTOM", "DELEGATE"})
    assert max(len(tensor.shape) for op in ops for tensor in op.tensors) <= 4


@every_file
def test_weights_are_stored_in_the_recipe_s_type(converted, name, recipe):
    file = converted(name, recipe)
    constants = [tensor for op in file.ops for tensor in op.inputs if tensor.constant]
    # The converter keeps kernels of up to 1,024 weights in float, unless all operations are integer.
    large = [tensor for tensor in constants if np.prod(tensor.shape) > 1024]
    assert large
    # Only kernels that are a large part of the network are int4, see test_int4.py.
    types = {"INT4", "INT8"} if file.recipe.weights == "int4" else {file.recipe.weights.upper()}
    assert {tensor.dtype for tensor in large} <= types


@every_integer_file
def test_every_op_computes_in_integers(converted, name, recipe):
    file = converted(name, recipe)
    types = {tensor.dtype for op in file.ops if op.name not in QUANTIZATION for tensor in op.tensors}
    assert types - {"INT4"} == {"INT8", "INT32"}
    assert "INT4" not in types or file.recipe.weights == "int4"


@every_integer_file
def test_values_are_requantized_only_at_input_and_output(converted, name, recipe):
    ops = converted(name, recipe).ops
    first, *inner, last = ops
    assert (first.inputs[0].dtype, last.outputs[0].dtype) == ("UINT8", "UINT8")
    assert {op.name for op in (first, last)} == {"QUANTIZE"}
    assert not {op.name for op in inner} & QUANTIZATION


@every_integer_file
def test_kernels_have_a_scale_for_every_output_channel(converted, name, recipe):
    kernels = [op for op in converted(name, recipe).ops if op.name in ("CONV_2D", "DEPTHWISE_CONV_2D")]
    for op in kernels:
        assert op.inputs[1].scales == op.outputs[0].shape[-1], op.inputs[1].name


@every_integer_file
def test_integer_input_means_pixels(converted, name, recipe):
    runner = converted(name, recipe).runner
    assert runner.input["dtype"] is np.uint8
    assert runner.input["quantization"] == (1.0, 0)


@pytest.mark.parametrize("name", zoo.ARCHS)
@pytest.mark.parametrize("recipe", FLOAT)
def test_the_float_graph_is_one_piece_for_xnnpack(converted, name, recipe):
    """Ops that cannot be delegated would appear beside the delegate, or split it."""
    file = converted(name, recipe)
    assert [op["op_name"] for op in file.runner._interpreter._get_ops_details()].count("DELEGATE") == 1


# --- arguments -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("recipe", CALIBRATED)
@pytest.mark.parametrize("io", IO_TYPES)
def test_integer_files_have_the_requested_input_and_output_types(convert_tiny, tiny, images, recipe, io):
    runner = Runner(convert_tiny(recipe, io=io))
    assert runner.input["dtype"].__name__ == runner.output["dtype"].__name__ == io
    pixels = {"uint8": (1.0, 0), "int8": (1.0, -128), "float32": (0.0, 0)}[io]
    assert runner.input["quantization"] == pixels
    assert relative_error(runner(images), tiny.predict_on_batch(images)) < LIMITS["int8", "int8"]


@pytest.mark.parametrize("recipe", CALIBRATED)
def test_types_of_input_and_output_do_not_change_the_prediction(convert_tiny, images, recipe):
    byte, signed, real = (Runner(convert_tiny(recipe, io=io))(images) for io in ("uint8", "int8", "float32"))
    np.testing.assert_array_equal(byte, signed)
    np.testing.assert_array_equal(byte, real)


@pytest.mark.parametrize("recipe", RECIPES)
def test_without_preprocessing_the_file_takes_normalized_images(convert_tiny, tiny_normalized, images, recipe):
    normalized = imagenet.preprocess_input(images, include_preprocessing=False)
    runner = Runner(convert_tiny(recipe, include_preprocessing=False))
    limit = LIMITS.get((RECIPES[recipe].weights, RECIPES[recipe].activations), 1e-4)
    assert relative_error(runner(normalized), tiny_normalized.predict_on_batch(normalized)) < limit
    if RECIPES[recipe].calibrated:
        scale, zero_point = runner.input["quantization"]
        darkest, lightest = (np.array([0, 255]) - zero_point) * scale
        assert normalized.min() - 0.5 < darkest < lightest < normalized.max() + 0.5


@pytest.mark.parametrize("recipe", CALIBRATED)
def test_calibration_images_are_not_changed(tiny, calibration, recipe):
    before = calibration.images.copy()
    export(tiny, RECIPES[recipe], calibration=calibration)
    np.testing.assert_array_equal(calibration.images, before)


@pytest.mark.parametrize("recipe", CALIBRATED)
def test_calibrated_recipe_without_images_is_refused(tiny, recipe):
    with pytest.raises(ValueError, match=f"{recipe}.*calibration"):
        export(tiny, RECIPES[recipe])


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("shape", [(None, None, 3), (None, 96, 3), (64, None, 3)])
def test_model_of_unknown_size_is_refused(calibration, recipe, shape):
    image = keras.Input(shape)
    x = keras.layers.Conv2D(4, 3, activation="relu")(image)
    model = keras.Model(image, keras.layers.Dense(3)(keras.layers.GlobalAveragePooling2D()(x)))
    with pytest.raises(ValueError, match="fixed input_shape"):
        export(model, RECIPES[recipe], calibration=calibration)


def test_operations_that_tflite_lacks_are_named():
    image = keras.Input((8, 8, 3))
    outputs = keras.layers.GlobalAveragePooling2D(data_format="channels_last")(keras.ops.erfinv(image / 300))
    with pytest.raises(ValueError, match="TFLite does not have the operations tf.Erfinv"):
        export(keras.Model(image, outputs), RECIPES["float32"])


def test_converter_prints_nothing(tiny, capfd):
    export(tiny, RECIPES["float32"])
    assert capfd.readouterr().out == ""


def test_a_width_and_groups_other_than_the_default_convert(build, tmp_path, images):
    """Eight groups and another stem width have shapes that the tables' defaults do not have."""
    model = build("shufflenet", groups=8, stem_multiplier=1.0, alpha=0.5)
    path = tmp_path / "g8.tflite"
    path.write_bytes(export(model, RECIPES["float32"]))
    np.testing.assert_allclose(Runner(path)(images[:8]), model.predict_on_batch(images[:8]), rtol=0, atol=1e-5)


# --- writing ---------------------------------------------------------------------------------------------


SOURCE = {"arch": None, "keras_model": "mine.keras", "weights_sha256": "ab" * 32}


def listing(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()} if folder.exists() else {}


@pytest.fixture
def quick(monkeypatch, convert_tiny):
    """Makes `export` return the tiny classifier's file without a conversion."""
    data = Path(convert_tiny("float32")).read_bytes()
    monkeypatch.setattr(module, "export", lambda *_, **__: data)
    return data


def assert_described(folder: Path, name: str) -> None:
    """Checks that the .json in a folder describes the .tflite beside it."""
    runner = Runner(folder / f"{name}.tflite")
    facts = json.loads((folder / f"{name}.json").read_text())
    assert facts["sha256"] == sha256_of(runner.path)
    assert facts["classes"] == runner.classes


def test_sidecar_identifies_the_source(quick, tiny, tmp_path):
    source = {"arch": "fd_mobilenet", "alpha": 0.25, "size": [64, 96], "weights": None, "weights_sha256": None}
    (path,) = write(tiny, "m", source, [RECIPES["float32"]], str(tmp_path))
    facts = json.loads((tmp_path / "m_float32.json").read_text())
    assert path == str(tmp_path / "m_float32.tflite")
    assert source.items() <= facts.items()


def test_sidecar_says_whether_the_file_normalizes(quick, tiny, tmp_path):
    list(write(tiny, "m", SOURCE, [RECIPES["float32"]], str(tmp_path), include_preprocessing=False))
    assert json.loads((tmp_path / "m_float32.json").read_text())["include_preprocessing"] is False


def test_folder_is_created_and_paths_are_in_the_order_of_recipes(quick, tiny, tmp_path):
    folder = tmp_path / "new" / "folder"
    recipes = [RECIPES["float16"], RECIPES["float32"]]
    paths = list(write(tiny, "m", SOURCE, recipes, str(folder)))
    assert paths == [str(folder / "m_float16.tflite"), str(folder / "m_float32.tflite")]
    assert listing(folder).keys() == {"m_float16.tflite", "m_float16.json", "m_float32.tflite", "m_float32.json"}


def test_each_pair_is_complete_when_its_path_is_yielded(quick, tiny, tmp_path):
    for path in write(tiny, "m", SOURCE, [RECIPES["float16"], RECIPES["float32"]], str(tmp_path)):
        assert_described(tmp_path, Path(path).stem)


def test_failing_converter_keeps_the_old_pair_and_the_pairs_before(monkeypatch, quick, tiny, tmp_path):
    recipes = [RECIPES["float32"], RECIPES["float16"]]
    list(write(tiny, "m", SOURCE, recipes, str(tmp_path)))
    before = listing(tmp_path)

    def convert(model, recipe, **_):
        if recipe.name == "float16":
            raise RuntimeError("the converter gave up")
        return quick

    monkeypatch.setattr(module, "export", convert)
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
    """Also if the disk becomes full while an older pair is replaced."""
    contents = iter([Path(convert_tiny(recipe)).read_bytes() for recipe in ("float32", "float16")])
    monkeypatch.setattr(module, "export", lambda *_, **__: next(contents))
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
        assert json.loads(left["m_float32.json"])["sha256"] == hashlib.sha256(left["m_float32.tflite"]).hexdigest()


def test_model_that_is_not_a_classifier_leaves_no_files(tmp_path):
    image = keras.Input((32, 32, 3))
    trunk = keras.Model(image, keras.layers.Conv2D(4, 3)(image))
    with pytest.raises(ValueError, match="not a classifier"):
        list(write(trunk, "m", SOURCE, [RECIPES["float32"]], str(tmp_path)))
    assert listing(tmp_path) == {}


# --- real weights and photos: accuracy after conversion --------------------------------------------------


@pytest.fixture(scope="module")
def agreement(data, tmp_path_factory) -> dict[str, float]:
    """Percent of 100 photos on which a recipe's file has the same first class as the Keras model."""
    model = FDMobileNet(alpha=0.25, weights=str(data / "weights" / "0.25x-FDMobileNet-224.pth.tar"))
    calibration = load_calibration(str(data / "imagenet" / "sample"), (imagenet.SIZE, imagenet.SIZE), 64)
    # Every sixth of the 650, to cover all kinds of classes; stored at 227x227, so only a central crop is needed.
    paths = list_images(data / "imagenet" / "val")[::6][:100]
    photos = np.stack([imagenet.load_image(path, resize=False) for path in paths]).astype("float32")
    expected = model.predict(photos, batch_size=50, verbose=0).argmax(axis=1)
    folder, names = tmp_path_factory.mktemp("real"), ["float32", *CALIBRATED]
    files = write(model, "real", SOURCE, [RECIPES[name] for name in names], str(folder), calibration=calibration)
    scores = {name: Runner(path, threads=2)(photos) for name, path in zip(names, files, strict=True)}
    return {name: 100 * np.mean(found.argmax(axis=1) == expected) for name, found in scores.items()}


def test_float32_file_names_the_same_class_on_every_photo(agreement):
    assert agreement["float32"] == 100


@pytest.mark.parametrize("recipe", CALIBRATED)
def test_integer_file_mostly_names_the_same_class(agreement, recipe):
    """Measured on these weights: 65 to 73% with the converter alone, at least 85% with int8, 70 to 80% with int4."""
    prepared = RECIPES[recipe].settings and RECIPES[recipe].weights == "int8"
    assert agreement[recipe] > (80 if prepared else 60)


def test_int8_recipe_beats_the_converter_alone(agreement):
    assert agreement["int8"] >= agreement["int8_plain"] + 5
