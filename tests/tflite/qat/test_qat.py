"""Quantization-aware training. What needs its packages runs in processes of its own, as the program does."""

import ast
import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image

from fd_keras.applications import FDMobileNet
from fd_keras.io import sha256_of
from fd_keras.litert import Runner
from fd_keras.tflite import export
from fd_keras.tflite.int8 import gptq
from fd_keras.tflite.int8.equalize import equalize, fold_input
from fd_keras.tflite.int8.fold import fold
from fd_keras.tflite.int8.graph import WEIGHTED, Live, activate, apply, run
from fd_keras.tflite.int8.pipeline import ranges
from fd_keras.tflite.qat import keras_twin, training_job, training_process
from fd_keras.tflite.recipes import RECIPES, Int8Settings, load_calibration

ROOT, QAT = Path(__file__).parents[3], "tflite.qat"
NETWORKS = (
    "fd_mobilenet",
    "fd_shufflenet",
)  # plain and grouped convolutions, sums, joins, shuffles: all kinds of nodes
every_network = pytest.mark.parametrize("name", NETWORKS)


@pytest.fixture(scope="session")
def packages():
    """Tests that ask for it skip where the packages are not installed."""
    try:
        training_process.check_installed()
    except ValueError as error:
        pytest.skip(str(error))


# --- twins -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def batch(images) -> np.ndarray:
    return images[:4]


@pytest.fixture(scope="module")
def equalized(network, calibration):
    """Every network's equalized graph and the ranges of its outputs, by name."""
    few = calibration.images[:8].astype("float32")
    graphs = {name: equalize(fold_input(fold(network(name))), few) for name in NETWORKS}
    return {name: (graph, ranges(graph, few, rounding=True)) for name, graph in graphs.items()}


@pytest.fixture(scope="module")
def twins(packages, equalized, batch, tmp_path_factory) -> dict:
    """The answers of qat_twins.py to these."""
    folder = tmp_path_factory.mktemp("twins")
    training_job.save(str(folder / "asked"), {name: (*found, batch) for name, found in equalized.items()})
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("qat_twins.py")), str(folder / "asked"), str(folder / "answer")],
        env={**os.environ, "TF_USE_LEGACY_KERAS": "1", "PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return training_job.load(str(folder / "answer"))


@every_network
def test_twin_in_keras_3_computes_the_same(network, batch, name):
    graph = fold(network(name))
    model = keras_twin.build(graph, keras)
    np.testing.assert_allclose(model.predict_on_batch(batch), run(graph, batch).numpy(), rtol=0, atol=1e-5)


@every_network
def test_twin_in_tf_keras_computes_the_same(twins, equalized, batch, name):
    expected = run(equalized[name][0], batch).numpy()
    np.testing.assert_allclose(twins["networks"][name]["plain"], expected, rtol=0, atol=1e-5)


@every_network
def test_every_kernel_has_a_quantizer(twins, equalized, name):
    answer, weighted = twins["networks"][name], [node.name for node in equalized[name][0] if node.kind in WEIGHTED]
    assert answer["unquantized"] == []
    assert answer["unquantized in float"] == weighted
    assert list(answer["kernels"]) == weighted


@every_network
def test_kernels_are_rounded_as_the_converter_rounds_them(twins, equalized, name):
    for node, rounded in zip(
        (node for node in equalized[name][0] if node.kind in WEIGHTED),
        twins["networks"][name]["kernels"].values(),
        strict=True,
    ):
        exact, rounded = (kernel.reshape(-1, node.channels) for kernel in (node.kernel, rounded))
        scale = np.abs(exact).max(axis=0) / 127
        steps = rounded / scale
        np.testing.assert_allclose(steps, np.round(steps), atol=1e-3, err_msg=node.name)
        assert np.abs(rounded - exact).max() <= 0.501 * scale.max() and np.any(rounded != exact), node.name


@every_network
def test_outputs_are_rounded_as_in_the_integer_network(twins, equalized, batch, name):
    """Numbers on the border of two integers may fall to either side, hence the comparison with the error itself."""
    graph, live = equalized[name][0], Live(equalized[name][0])
    for node in graph:
        if node.kind in WEIGHTED:
            flat = gptq.nearest(node.kernel.reshape(-1, node.channels).astype("float64"))
            node = node.replace(kernel=flat.reshape(node.kernel.shape).astype("float32"))
        values = batch if node.kind == "input" else activate(node, apply(node, live.inputs(node)))
        if node.name in equalized[name][1]:
            low, high = equalized[name][1][node.name]
            step = (high - low) / 255
            values = np.clip(np.round(values / step), round(low / step), round(high / step)).astype("float32") * step
        live.keep(node, values)
    float_scores, rounded = run(graph, batch).numpy(), twins["networks"][name]["rounded"]
    assert np.abs(rounded - values).mean() < 0.3 * np.abs(float_scores - values).mean()


@every_network
def test_weights_come_back_by_name(twins, equalized, name):
    weighted = [node for node in equalized[name][0] if node.kind in WEIGHTED]
    assert list(twins["networks"][name]["again"]) == [node.name for node in weighted]
    for node, again in zip(weighted, twins["networks"][name]["again"].values(), strict=True):
        for array, other in ((node.kernel, again.kernel), (node.bias, again.bias)):
            np.testing.assert_allclose(other, array, rtol=1e-5, atol=1e-7, err_msg=node.name)


def test_the_process_that_trains_knows_tf_keras_alone(twins):
    assert twins["keras"] == "tf_keras"
    assert twins["imported"] == []


def test_one_module_imports_tensorflow_model_optimization():
    found = set()
    for path in (ROOT / "tflite").rglob("*.py"):
        imports = [node for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.Import)]
        if any(alias.name.startswith("tensorflow_model_opt") for node in imports for alias in node.names):
            found.add(path.name)
    assert found == {"aware.py"}


# --- the program -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def photos(tmp_path_factory, calibration) -> Path:
    """As many images as it takes at least, as files: those of calibration upside down and in other colours."""
    folder, upright = tmp_path_factory.mktemp("photos"), calibration.images
    variants = np.concatenate([upright, upright[:, ::-1], upright[..., ::-1], upright[:, ::-1, :, ::-1]])
    assert len(variants) == training_process.MIN_IMAGES
    for index, image in enumerate(variants):
        Image.fromarray(image).save(folder / f"{index:03}.png")
    return folder


@pytest.fixture(scope="module")
def saved(tmp_path_factory, tiny) -> Path:
    path = tmp_path_factory.mktemp("saved") / "mine.keras"
    tiny.save(path)
    return path


# Plain rounding leaves much for the training to mend.
HARSH = ("--noint8_bias", "--noint8_compensate", "--int8_fit=0")


@pytest.fixture(scope="module")
def made(packages, tmp_path_factory, saved, photos) -> subprocess.CompletedProcess:
    """`python -m tflite.qat` of that model, from the shell; it ran in `.cwd`, with the output in `out`."""
    folder = tmp_path_factory.mktemp("made")
    done = subprocess.run(
        [sys.executable, "-m", QAT, f"--keras_model={saved}", f"--train_dir={photos}", "--calibration_count=32",
         "--epochs=4", "--batch_size=16", "--learning_rate=0.02", "--output_dir=out", *HARSH],
        cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    done.cwd = folder
    return done


def test_it_writes_a_file_and_its_sidecar_and_nothing_else(made):
    assert sorted(path.name for path in (made.cwd / "out").iterdir()) == ["mine_qat.json", "mine_qat.tflite"]
    assert made.stdout.splitlines()[-1].startswith("out/mine_qat.tflite  ")


def test_its_file_is_all_integer(made, converted):
    file = dataclasses.replace(converted("fd_mobilenet", "int8"), path=str(made.cwd / "out/mine_qat.tflite"))
    first, *inner, last = file.ops
    assert {tensor.dtype for op in inner for tensor in op.tensors} == {"INT8", "INT32"}
    assert (first.inputs[0].dtype, last.outputs[0].dtype) == ("UINT8", "UINT8")
    assert file.runner.input["quantization"] == (1.0, 0)


def test_sidecar_tells_how_it_was_trained(made, saved):
    facts = json.loads((made.cwd / "out/mine_qat.json").read_text())
    assert (facts["name"], facts["recipe"], facts["keras_model"]) == ("mine", "qat", str(saved))
    assert facts["sha256"] == sha256_of(str(made.cwd / "out/mine_qat.tflite"))
    told = facts["qat"]
    assert (told["images"], told["epochs"], told["batch_size"]) == (training_process.MIN_IMAGES, 4, 16)
    assert facts["recipe_steps"]["settings"]["bias"] is False


def test_training_mends_what_rounding_does(made, tiny, photos, images, tmp_path):
    """On images that the training has not seen, beside the same steps without it."""
    losses = json.loads((made.cwd / "out/mine_qat.json").read_text())["qat"]["held_out_loss"]
    assert 0 < losses["after"] < 0.9 * losses["before"]
    calibration = load_calibration(str(photos), tiny.input_shape[1:3], 32)
    harsh = dataclasses.replace(RECIPES["int8"], settings=Int8Settings(bias=False, compensate=False, fit=0.0))
    (tmp_path / "harsh.tflite").write_bytes(export.export(tiny, harsh, calibration=calibration))
    expected = tiny.predict_on_batch(images)
    trained, untrained = (
        np.abs(Runner(str(path))(images) - expected).mean()
        for path in (made.cwd / "out/mine_qat.tflite", tmp_path / "harsh.tflite")
    )
    assert trained < untrained


def test_trained_weights_of_a_real_network_answer_better_than_the_converter_alone(
    packages, run_program, data, tmp_path
):
    """The authors' network at 128x128 pixels: the converter alone agrees on two photos of three."""
    weights, photos = data / "weights/0.25x-FDMobileNet-224.pth.tar", data / "imagenette128"
    done = run_program(
        QAT, "--alpha=0.25", "--size=128", f"--weights={weights}", f"--train_dir={photos}/train", "--train_count=128",
        "--calibration_count=64", "--epochs=1", "--output_dir=out",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
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


def test_verify_finds_the_float_network(made, run_program, photos):
    path = made.cwd / "out/mine_qat.tflite"
    done = run_program("tflite.verify", f"--tflite={path}", f"--images={photos}", "--noresize", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)[1]["agreement"] > 80  # of four classes


def refused(run: subprocess.CompletedProcess, *words: str) -> None:
    (line,) = (line for line in run.stderr.splitlines() if line.startswith("error: "))
    assert run.returncode != 0
    assert run.stdout == ""
    assert "Traceback" not in run.stderr
    assert all(word in line for word in words), line


def test_too_few_images_are_refused(packages, run_program, saved, photos, tmp_path):
    count = training_process.MIN_IMAGES - 1
    flags = [f"--keras_model={saved}", f"--train_dir={photos}", f"--train_count={count}", "--output_dir=out"]
    refused(run_program(QAT, *flags), str(photos), str(count), str(training_process.MIN_IMAGES))
    assert not (tmp_path / "out").exists()


def test_unknown_layer_is_named(packages, run_program, photos, tmp_path):
    image = keras.Input((32, 32, 3))
    x = keras.layers.PReLU(name="strange")(keras.layers.Conv2D(2, 3)(image))
    keras.Model(image, keras.layers.Dense(2)(keras.layers.GlobalAveragePooling2D()(x))).save(tmp_path / "odd.keras")
    refused(run_program(QAT, "--keras_model=odd.keras", f"--train_dir={photos}", "--output_dir=out"), "strange")
    assert list((tmp_path / "out").iterdir()) == []


def test_missing_packages_name_the_extra(monkeypatch):
    monkeypatch.setattr(training_process, "PACKAGES", ("keras", "no_such_package"))
    with pytest.raises(ValueError, match=r"no_such_package.*\.\[qat\]") as error:
        training_process.check_installed()
    assert "keras and" not in str(error.value)


@pytest.mark.parametrize("flag", ["--epochs=0", "--batch_size=0", "--train_count=0", "--learning_rate=-1", "--io=int4"])
def test_impossible_flag_is_named(run_program, photos, flag):
    done = run_program(QAT, f"--train_dir={photos}", "--output_dir=out", flag)
    assert done.returncode != 0
    assert flag[2:].split("=")[0] in done.stderr
    assert "Traceback" not in done.stderr


def test_training_that_fails_tells_its_last_words(tmp_path):
    """Any module that ends badly will do."""
    with pytest.raises(ValueError, match=r"status 1: .*no_such_module"):
        list(training_process._said_by("no_such_module", scratch=str(tmp_path)))
