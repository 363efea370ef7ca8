import os
import sys
from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

from fd_keras.head import tflite_head
from fd_keras.litert import LiteRTError, Runner, dequantize, quantize, quiet
from fd_keras.tflite.recipes import IO_TYPES


def details(dtype, scale: float, zero_point: int) -> dict:
    return {"dtype": dtype, "quantization": (scale, zero_point)}


# --- numbers -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dtype", "scale", "zero_point", "real", "stored"),
    [
        (np.uint8, 1.0, 0, [0, 1, 127.4, 254.6, 255], [0, 1, 127, 255, 255]),
        (np.int8, 1.0, -128, [0, 1, 128, 255], [-128, -127, 0, 127]),
        (np.int8, 0.5, 10, [0, 1, -1, 58.5, -69], [10, 12, 8, 127, -128]),
        (np.uint8, 1.0, 0, [-1, -1000, 256, 1e9], [0, 0, 255, 255]),
        (np.int8, 0.25, -128, [-5, 0, 63.75, 64, 1e9], [-128, -128, 127, 127, 127]),
        (np.float32, 0.0, 0, [0.25, -3, 1e9], [0.25, -3, 1e9]),
        (np.uint8, 0.0, 0, [3, 200], [3, 200]),
    ],
)
def test_quantize_matches_manual_values(dtype, scale, zero_point, real, stored):
    result = quantize(np.array(real, "float32"), details(dtype, scale, zero_point))
    assert result.dtype == dtype
    assert result.tolist() == stored


@pytest.mark.parametrize(
    ("dtype", "scale", "zero_point", "stored", "real"),
    [
        (np.uint8, 1 / 256, 0, [0, 1, 128, 255], [0, 0.00390625, 0.5, 0.99609375]),
        (np.int8, 1 / 256, -128, [-128, -127, 0, 127], [0, 0.00390625, 0.5, 0.99609375]),
        (np.int8, 0.5, 10, [10, 12, -128, 127], [0, 1, -69, 58.5]),
        (np.float32, 0.0, 0, [0.25, -3], [0.25, -3]),
    ],
)
def test_dequantize_matches_manual_values(dtype, scale, zero_point, stored, real):
    result = dequantize(np.array(stored, dtype), details(dtype, scale, zero_point))
    assert result.dtype == np.float32
    assert result.tolist() == real


def test_all_integers_survive_a_round_trip():
    for dtype, zero_point in ((np.uint8, 3), (np.int8, -77)):
        limits = np.iinfo(dtype)
        stored = np.arange(limits.min, limits.max + 1, dtype=dtype)
        tensor = details(dtype, 0.0371, zero_point)
        np.testing.assert_array_equal(quantize(dequantize(stored, tensor), tensor), stored)


# --- heads -------------------------------------------------------------------------------------------------


def test_head_before_the_quantization_of_scores(convert_tiny):
    assert {tflite_head(convert_tiny(name)).name for name in ("float32", "int8")} == {"classes"}


# --- running -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("io", IO_TYPES)
def test_runner_equals_the_interpreter(convert_tiny, images, io):
    """The test sets and reads raw bytes itself: the pixels for uint8, and the pixels minus 128 for int8."""
    path = convert_tiny("int8_plain", io=io)
    interpreter = Interpreter(path)
    interpreter.allocate_tensors()
    (into,), (out,) = interpreter.get_input_details(), interpreter.get_output_details()
    shift, scale = {"uint8": (0, 256), "int8": (128, 256), "float32": (0, 1)}[io]
    expected = []
    for image in images[:5].round():
        interpreter.set_tensor(into["index"], (image[None] - shift).astype(io))
        interpreter.invoke()
        expected.append((interpreter.get_tensor(out["index"])[0].astype("float32") + shift) / scale)
    np.testing.assert_array_equal(Runner(path)(images[:5].round()), expected)


def test_runner_has_shape_and_classes(convert_tiny, tiny):
    runner = Runner(Path(convert_tiny("float32")))
    assert runner.input_shape == tiny.input_shape[1:]
    assert runner.classes == tiny.output_shape[1]
    assert all(type(side) is int for side in (*runner.input_shape, runner.classes))


@pytest.mark.parametrize("recipe", ["float32", "dynamic", "int8"])
def test_an_image_s_scores_do_not_depend_on_the_others(convert_tiny, images, recipe):
    runner = Runner(convert_tiny(recipe))
    together = runner(images[:6])
    assert together.shape == (6, runner.classes)
    assert together.dtype == np.float32
    np.testing.assert_array_equal(runner(images[5::-1]), together[::-1])
    np.testing.assert_array_equal(runner(images[3:4]), together[3:4])


def test_bytes_and_floats_of_an_image_have_the_same_scores(convert_tiny, images):
    for recipe in ("float32", "int8"):
        runner = Runner(convert_tiny(recipe))
        np.testing.assert_array_equal(runner(images[:3].astype("uint8")), runner(images[:3].round()))


def test_threads_do_not_change_the_scores(convert_tiny, images):
    path = convert_tiny("int8_plain")
    np.testing.assert_array_equal(Runner(path, threads=2)(images[:5]), Runner(path)(images[:5]))


def test_image_of_another_size_is_refused(convert_tiny):
    with pytest.raises(ValueError, match="[Dd]imension"):
        Runner(convert_tiny("float32"))(np.zeros((1, 40, 40, 3), "float32"))


# --- invalid files -----------------------------------------------------------------------------------------


def test_missing_file_is_named(tmp_path):
    with pytest.raises(LiteRTError, match=r"gone\.tflite: No such file"):
        Runner(tmp_path / "gone.tflite")


def test_folder_is_refused(tmp_path):
    with pytest.raises(LiteRTError, match="directory"):
        Runner(tmp_path)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"TFL3",
        b"\0\0\0\0TFL",
        b"hello, this is text",
        b"<!DOCTYPE html><html></html>",
        b"PK\3\4" + bytes(100),
        b"version https://git-lfs.github.com/spec/v1\n",
    ],
)
def test_invalid_file_is_named(tmp_path, content):
    (tmp_path / "a.tflite").write_bytes(content)
    with pytest.raises(LiteRTError, match=r"a\.tflite: not a \.tflite file"):
        Runner(tmp_path / "a.tflite")


@pytest.mark.parametrize("part", [0.001, 0.1, 0.5, 0.9, 0.99, 0.9999])
def test_truncated_file_is_named(convert_tiny, tmp_path, part):
    whole = Path(convert_tiny("int8")).read_bytes()
    (tmp_path / "cut.tflite").write_bytes(whole[: max(8, int(len(whole) * part))])
    with pytest.raises(LiteRTError, match=r"cut\.tflite: damaged"):
        Runner(tmp_path / "cut.tflite")


def test_garbage_with_a_valid_identifier_is_named(tmp_path):
    garbage = np.random.default_rng(0).integers(0, 256, 5000, dtype="uint8").tobytes()
    (tmp_path / "a.tflite").write_bytes(garbage[:4] + b"TFL3" + garbage)
    with pytest.raises(LiteRTError, match=r"a\.tflite: damaged"):
        Runner(tmp_path / "a.tflite")


@pytest.fixture(scope="module")
def other_networks(tmp_path_factory) -> dict[str, Path]:
    """Files of networks with other inputs or outputs than a classifier's."""
    import keras
    import tensorflow as tf

    image, vector = keras.Input((8, 8, 3), batch_size=1), keras.Input((5,), batch_size=1)
    features = keras.layers.Conv2D(2, 3)(image)
    pooled = keras.layers.GlobalAveragePooling2D()(features)
    both = keras.layers.Concatenate()([pooled, vector])
    networks = {
        "feature map out": keras.Model(image, features),
        "vector in": keras.Model(vector, keras.layers.Dense(2)(vector)),
        "two inputs": keras.Model([image, vector], both),
        "two outputs": keras.Model(image, [pooled, keras.layers.Dense(2)(pooled)]),
    }
    folder, paths = tmp_path_factory.mktemp("others"), {}
    for name, model in networks.items():
        paths[name] = folder / f"{name}.tflite"
        with quiet():
            paths[name].write_bytes(tf.lite.TFLiteConverter.from_keras_model(model).convert())
    return paths


@pytest.mark.parametrize("name", ["feature map out", "vector in", "two inputs", "two outputs"])
def test_network_that_is_not_a_classifier_is_rejected_and_named(other_networks, name):
    with pytest.raises(LiteRTError, match=f"{name}.tflite: not a classifier"):
        Runner(other_networks[name])


def test_without_litert_the_package_to_install_is_named(convert_tiny, monkeypatch):
    path = convert_tiny("float32")
    monkeypatch.setitem(sys.modules, "ai_edge_litert.interpreter", None)
    with pytest.raises(ImportError, match="pip install ai-edge-litert"):
        Runner(path)


# --- quiet -------------------------------------------------------------------------------------------------


def test_quiet_silences_native_code_only_in_its_block(capfd):
    os.write(2, b"before ")
    with quiet():
        os.write(2, b"meanwhile ")
    os.write(2, b"after")
    assert capfd.readouterr().err == "before after"


def test_quiet_ends_after_an_exception_without_leaks(capfd):
    opened = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else None
    for _ in range(3):
        with pytest.raises(KeyError), quiet():
            raise KeyError
    os.write(2, b"after")
    assert capfd.readouterr().err == "after"
    assert opened is None or len(os.listdir("/proc/self/fd")) == opened
