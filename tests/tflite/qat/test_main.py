"""Tests the program `fd-keras qat`."""

import dataclasses
import json
from pathlib import Path

import keras
import numpy as np
import pytest

from fd_keras.applications import FDMobileNet
from fd_keras.io import sha256_of
from fd_keras.litert import Runner
from fd_keras.tflite import export
from fd_keras.tflite.qat import training_process
from fd_keras.tflite.recipes import RECIPES, Int8Settings, load_calibration

QAT = "fd_keras.tflite.qat"
# With plain rounding, there are errors for the training to correct.
HARSH = ("--noint8_bias", "--noint8_compensate", "--int8_fit=0")


@pytest.fixture(scope="module")
def saved(tmp_path_factory, tiny) -> Path:
    path = tmp_path_factory.mktemp("saved") / "mine.keras"
    tiny.save(path)
    return path


@dataclasses.dataclass(frozen=True)
class Made:
    """The output of `fd-keras qat` on the tiny model, and the folder of its files."""

    stdout: str
    out: Path


@pytest.fixture(scope="module")
def made(packages, tmp_path_factory, saved, many_photos, run_in_shell) -> Made:
    folder = tmp_path_factory.mktemp("made")
    flags = ["--calibration_count=32", "--epochs=4", "--batch_size=16", "--learning_rate=0.02", "--output_dir=out"]
    done = run_in_shell(folder, "tflite.qat", f"--keras_model={saved}", f"--train_dir={many_photos}", *flags, *HARSH)
    done.assert_done()
    return Made(done.stdout, folder / "out")


def test_only_the_file_and_its_sidecar_are_written(made):
    assert sorted(path.name for path in made.out.iterdir()) == ["mine_qat.json", "mine_qat.tflite"]
    assert made.stdout.splitlines()[-2].startswith("out/mine_qat.tflite  ")


def test_file_is_all_integer(made, converted):
    file = dataclasses.replace(converted("fd_mobilenet", "int8"), path=str(made.out / "mine_qat.tflite"))
    first, *inner, last = file.ops
    assert {tensor.dtype for op in inner for tensor in op.tensors} == {"INT8", "INT32"}
    assert (first.inputs[0].dtype, last.outputs[0].dtype) == ("UINT8", "UINT8")
    assert file.runner.input["quantization"] == (1.0, 0)


def test_sidecar_describes_the_training(made, saved):
    facts = json.loads((made.out / "mine_qat.json").read_text())
    assert (facts["name"], facts["recipe"], facts["keras_model"]) == ("mine", "qat", str(saved))
    assert facts["sha256"] == sha256_of(str(made.out / "mine_qat.tflite"))
    told = facts["qat"]
    assert (told["images"], told["epochs"], told["batch_size"]) == (training_process.MIN_IMAGES, 4, 16)
    assert facts["recipe_steps"]["settings"]["bias"] is False


def test_training_corrects_rounding_errors(made, tiny, many_photos, images, tmp_path):
    """Compares with the same steps without training, on images that were not used for training."""
    losses = json.loads((made.out / "mine_qat.json").read_text())["qat"]["held_out_loss"]
    assert 0 < losses["after"] < 0.9 * losses["before"]
    calibration = load_calibration(str(many_photos), tiny.input_shape[1:3], 32)
    harsh = dataclasses.replace(RECIPES["int8"], settings=Int8Settings(bias=False, compensate=False, fit=0.0))
    (tmp_path / "harsh.tflite").write_bytes(export.export(tiny, harsh, calibration=calibration))
    expected = tiny.predict_on_batch(images)
    trained, untrained = (
        np.abs(Runner(str(path))(images) - expected).mean()
        for path in (made.out / "mine_qat.tflite", tmp_path / "harsh.tflite")
    )
    assert trained < untrained


def test_training_a_real_network_beats_the_converter_alone(packages, run_program, data, tmp_path):
    """Uses the authors' network at 128x128 pixels, where the converter alone agrees on two of three photos."""
    weights, photos = data / "weights/0.25x-FDMobileNet-224.pth.tar", data / "imagenette128"
    done = run_program(
        QAT,
        "--alpha=0.25",
        "--size=128",
        f"--weights={weights}",
        f"--train_dir={photos}/train",
        "--train_count=128",
        "--calibration_count=64",
        "--epochs=1",
        "--output_dir=out",
    )
    done.assert_done()
    model = FDMobileNet((128, 128, 3), 0.25, weights=str(weights))
    calibration = load_calibration(str(photos / "train"), (128, 128), 64)
    (tmp_path / "plain.tflite").write_bytes(export.export(model, RECIPES["int8_plain"], calibration=calibration))
    unseen = load_calibration(str(photos / "val"), (128, 128), 200).images.astype("float32")
    expected = model.predict_on_batch(unseen).argmax(axis=1)
    trained, plain = (
        np.mean(Runner(str(tmp_path / path))(unseen).argmax(axis=1) == expected)
        for path in ("out/fd_mobilenet_0.25_128_qat.tflite", "plain.tflite")
    )
    assert trained > max(0.8, plain + 0.05)


def test_verify_finds_the_float_network(made, run_program, many_photos):
    path = made.out / "mine_qat.tflite"
    done = run_program("fd_keras.tflite.verify", f"--tflite={path}", f"--images={many_photos}", "--noresize", "--json")
    done.assert_done()
    assert json.loads(done.stdout)[1]["agreement"] > 80  # of four classes


def test_too_few_images_are_refused(packages, run_program, saved, many_photos, tmp_path):
    count = training_process.MIN_IMAGES - 1
    flags = [f"--keras_model={saved}", f"--train_dir={many_photos}", f"--train_count={count}", "--output_dir=out"]
    run_program(QAT, *flags).assert_refused(str(many_photos), str(count), str(training_process.MIN_IMAGES))
    assert not (tmp_path / "out").exists()


def test_unknown_layer_is_named(packages, run_program, many_photos, tmp_path):
    image = keras.Input((32, 32, 3))
    x = keras.layers.PReLU(name="strange")(keras.layers.Conv2D(2, 3)(image))
    keras.Model(image, keras.layers.Dense(2)(keras.layers.GlobalAveragePooling2D()(x))).save(tmp_path / "odd.keras")
    run = run_program(QAT, "--keras_model=odd.keras", f"--train_dir={many_photos}", "--output_dir=out")
    run.assert_refused("strange")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("flag", ["--epochs=0", "--batch_size=0", "--train_count=0", "--learning_rate=-1", "--io=int4"])
def test_impossible_flag_is_named(run_program, flag):
    run_program(QAT, "--train_dir=photos", "--output_dir=out", flag).assert_refused(flag[2:].split("=")[0])
