"""Tests the program `fd-keras convert`. Most runs are forks of a process that has already imported TensorFlow."""

import json
import os
import random
import re
import shlex
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest

from fd_keras.io import sha256_of
from fd_keras.litert import Runner
from fd_keras.tflite.format.flatbuffer import read
from fd_keras.tflite.memory.arrangement import is_for_phones
from fd_keras.tflite.recipes import RECIPES

ROOT = Path(__file__).parents[2]
CONVERT = "fd_keras.tflite.convert"
ZOO = ["--model=fd_mobilenet", "--alpha=0.25", "--size=32", "--recipes=float32"]


def test_a_user_model_is_converted_under_its_name(flowers):
    flowers.run.assert_done()
    assert sorted(path.name for path in flowers.out.iterdir()) == [
        "my.flowers.md",
        "my.flowers_float32.json",
        "my.flowers_float32.tflite",
        "my.flowers_int8.json",
        "my.flowers_int8.tflite",
    ]


def test_convert_prints_a_line_for_each_file_and_the_next_command(flowers):
    *lines, card, last = flowers.run.stdout.splitlines()
    assert (len(lines), card) == (2, "out/my.flowers.md")
    assert re.fullmatch("next: .+ bench --models=out --target=host", last)
    for line, recipe in zip(lines, ("float32", "int8"), strict=True):
        path, size = re.fullmatch(r"(\S+)  ([\d,]+) kB", line).groups()
        assert path == f"out/my.flowers_{recipe}.tflite"
        assert abs(int(size.replace(",", "")) - os.path.getsize(flowers.folder / path) / 1e3) <= 0.5


def test_sidecar_of_a_user_model(flowers, saved_flowers):
    facts = json.loads((flowers.out / "my.flowers_int8.json").read_text())
    assert (facts["name"], facts["classes"], facts["arch"]) == ("my.flowers", 5, None)
    assert (facts["keras_model"], facts["weights_sha256"]) == (str(saved_flowers), sha256_of(str(saved_flowers)))
    assert facts["calibration"]["ids"] == [f"{int(i * 2.5):03}.png" for i in range(16)]


def test_files_of_a_user_model_have_its_scores(flowers, saved_flowers, images):
    expected = keras.saving.load_model(saved_flowers).predict_on_batch(images)
    runner = Runner(flowers.out / "my.flowers_float32.tflite")
    np.testing.assert_allclose(runner(images), expected, rtol=0, atol=1e-5)
    assert Runner(flowers.out / "my.flowers_int8.tflite").input["dtype"] is np.uint8


def test_class_names_and_an_array_are_written_on_request(run_program, saved_flowers, tmp_path):
    (tmp_path / "names.txt").write_text("\n".join("abcde"))
    flags = (
        f"--keras_model={saved_flowers}",
        "--recipes=float32",
        "--output_dir=out",
        "--embed_labels=names.txt",
        "--c_array",
    )
    run = run_program(CONVERT, *flags)
    run.assert_done()
    names = [f"out/my.flowers_float32.{suffix}" for suffix in ("tflite", "h", "cc")]
    assert [line.split()[0] for line in run.stdout.splitlines()] == [*names, "out/my.flowers.md", "next:"]
    with zipfile.ZipFile(tmp_path / names[0]) as archive:
        assert archive.read("labels.txt").decode().split("\n") == list("abcde")
    data = (tmp_path / names[0]).read_bytes()
    written = (tmp_path / names[2]).read_text().split("{\n")[-1].split("};")[0]
    assert bytes(map(int, written.replace(",", " ").split())) == data


@pytest.mark.parametrize(
    ("flags", "word"),
    [
        (["--c_array", "--recipes=dynamic"], "--recipes=dynamic"),
        (["--embed_labels=gone.txt"], "gone.txt"),
        (["--embed_labels=two.txt"], "2 names"),
        (["--embed_labels=imagenet", "--strip"], "--strip"),
    ],
)
def test_invalid_names_and_arrays_are_rejected_before_conversion(run_program, tmp_path, flags, word):
    (tmp_path / "two.txt").write_text("a\nb")
    run_program(CONVERT, *ZOO, "--weights=none", "--output_dir=out", *flags).assert_refused(word)
    assert not (tmp_path / "out").exists()


def test_random_weights_are_converted_on_request(run_program, tmp_path):
    run = run_program(CONVERT, *ZOO, "--weights=none", "--output_dir=out")
    run.assert_done()
    path = run.stdout.split()[0]
    assert path == "out/fd_mobilenet_0.25_32_float32.tflite"
    facts = json.loads((tmp_path / path).with_suffix(".json").read_text())
    expected = {"arch": "fd_mobilenet", "alpha": 0.25, "size": [32, 32], "weights": None, "weights_sha256": None}
    assert expected.items() <= facts.items()
    assert facts["classes"] == 1000


def test_a_file_is_arranged_for_xnnpack_unless_it_is_for_a_microcontroller(
    run_program, flowers, saved_flowers, photos, tmp_path
):
    flags = [f"--keras_model={saved_flowers}", f"--calibration_dir={photos}", "--calibration_count=16"]
    run_program(CONVERT, *flags, "--recipes=int8", "--output_dir=out", "--strip").assert_done()
    facts = json.loads((tmp_path / "out/my.flowers_int8.json").read_text())
    assert facts["size_bytes"] < 0.9 * facts["stripped"]["size_bytes_before"]
    found = []
    for folder in (flowers.folder, tmp_path):
        network = read(str(folder / "out/my.flowers_int8.tflite")).network
        convolution = next(op for op in network.ops if op.kind == "CONV_2D")
        found.append((network.ops[0].kind, network.tensors[convolution.inputs[1]].shape))
    assert found == [("DEQUANTIZE", (16, 3, 2, 12)), ("QUANTIZE", (8, 3, 3, 3))]


def _next(output: str) -> list[str]:
    """The words of the closing command, as a shell splits them."""
    return shlex.split(output.splitlines()[-1].removeprefix("next: "))


def test_an_int4_file_is_for_microcontrollers_unless_it_does_not_take_bytes(
    run_program, saved_flowers, photos, tmp_path
):
    """It is not arranged for phones, beside an int8 file that is, and the closing command takes it as it is."""
    flags = [f"--keras_model={saved_flowers}", f"--calibration_dir={photos}", "--calibration_count=8"]
    run = run_program(CONVERT, *flags, "--recipes=int4,int8", "--output_dir=out")
    run.assert_done()
    _, *arguments = _next(run.stdout)[_next(run.stdout).index("export-mcu") :]
    assert arguments == ["--output_dir=out/microcontroller", "out/my.flowers_int4.tflite"]
    for kind in ("int8", "int4"):
        assert is_for_phones(read(str(tmp_path / f"out/my.flowers_{kind}.tflite")).network) == (kind == "int8")
    run_program("fd_keras.tflite.mcu.__main__", *arguments).assert_done()
    assert (tmp_path / "out/microcontroller/README.md").exists()

    run = run_program(CONVERT, *flags, "--recipes=int4", "--io=float32", "--output_dir=float")
    assert _next(run.stdout)[-3:] == ["bench", "--models=float", "--target=host"]


def test_a_file_is_split_into_strips_that_fit_the_ram(run_program, flowers, saved_flowers, photos, tmp_path, images):
    """The trade-off is printed and recorded, and outputs do not change; if nothing fits, the minimum RAM is named."""
    out = "my out"
    flags = [
        f"--keras_model={saved_flowers}",
        f"--calibration_dir={photos}",
        "--calibration_count=16",
        f"--output_dir={out}",
    ]
    run = run_program(CONVERT, *flags, "--recipes=int8", "--max_ram=56KiB", "--c_array", "--strip")
    run.assert_done()
    assert "<- chosen" in run.stdout
    path = f"{out}/my.flowers_int8.tflite"
    assert _next(run.stdout)[-3:] == ["export-mcu", f"--output_dir={out}/microcontroller", path]
    facts = json.loads((tmp_path / path).with_suffix(".json").read_text())["strips"]
    assert facts["activations"] + facts["tflm"] <= 56 * 1024 < facts["whole"]["activations"] + facts["whole"]["tflm"]
    assert f"kActivationBytes = {facts['activations']};" in (tmp_path / path).with_suffix(".h").read_text()
    expected = Runner(flowers.out / "my.flowers_int8.tflite")(images[:6])
    np.testing.assert_array_equal(Runner(tmp_path / path)(images[:6]), expected)

    run = run_program(CONVERT, *flags, "--recipes=int8", "--max_ram=20KiB")
    run.assert_refused("--max_ram=20KiB", "at least", "KiB")
    run = run_program(CONVERT, *flags, "--recipes=float32,int8", "--max_ram=56KiB")
    run.assert_refused("remove float32 from --recipes")


def test_steps_of_the_recipe_can_be_changed_and_are_reported(run_program, tiny, photos, tmp_path):
    """The report has a row for each step, and the last row is the whole recipe."""
    tiny.save(tmp_path / "tiny.keras")
    flags = ["--keras_model=tiny.keras", f"--calibration_dir={photos}", "--calibration_count=8", "--output_dir=out"]
    run = run_program(
        CONVERT, *flags, "--recipes=int8", "--noint8_bias", "--int8_fit=0", f"--report={photos}", "--report_plot=s.svg"
    )
    run.assert_done()
    settings = json.loads((tmp_path / "out/tiny_int8.json").read_text())["recipe_steps"]["settings"]
    assert (settings["bias"], settings["fit"], settings["clip"]) == (False, 0, True)
    for step in ("converter alone", "channels equalized", "logits clipped"):
        assert step in run.stdout
        assert step in (tmp_path / "s.svg").read_text()
    assert "of 40 images" in run.stdout


@pytest.mark.parametrize(
    ("flag", "word"),
    [
        ("--no_such_flag=1", "no_such_flag"),
        ("--int8_bais", "--int8_bias"),
        ("--int8_power=2", "int8_power"),
        ("stray", "'stray'"),
        ("--report_plot=a.tiff2", "a.tiff2"),
    ],
)
def test_invalid_flags_are_named(run_program, flag, word):
    run_program(CONVERT, "--output_dir=out", flag).assert_refused(word)


def test_flags_of_the_zoo_contradict_a_saved_model(run_program, saved_flowers):
    flags = [f"--keras_model={saved_flowers}", "--recipes=float32", "--output_dir=out"]
    run = run_program(CONVERT, *flags, "--alpha=0.25")
    run.assert_refused("--alpha has no effect with --keras_model")


def test_output_folder_is_required(run_program):
    run_program(CONVERT).assert_refused("--output_dir")


def test_unknown_recipe_is_named_with_those_that_exist(run_program):
    run = run_program(CONVERT, "--weights=none", "--recipes=float32,int2", "--output_dir=out")
    run.assert_refused("int2", *RECIPES)


@pytest.mark.parametrize("recipe", [name for name, recipe in RECIPES.items() if recipe.calibrated])
def test_calibrated_recipe_requires_images(run_program, tmp_path, recipe):
    run = run_program(CONVERT, *ZOO, "--weights=none", f"--recipes={recipe}", "--output_dir=out")
    run.assert_refused(recipe, "--calibration_dir")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--calibration_dir=no_such_folder"], ["no_such_folder"]),
        (["--calibration_dir=.", "--calibration_count=8"], ["no image"]),
        (["--calibration_dir=.", "--calibration_ids=no_such_list"], ["--calibration_ids=no_such_list: cannot be read"]),
    ],
)
def test_missing_calibration_is_named(run_program, flags, words):
    run = run_program(CONVERT, *ZOO[:3], "--weights=none", "--recipes=int8", "--output_dir=out", *flags)
    run.assert_refused(*words)


@pytest.mark.parametrize("path", ["a_file", "a_file/below"])
def test_folder_that_cannot_be_written_is_named(run_program, tmp_path, path):
    """Not even root can create a folder inside a regular file."""
    (tmp_path / "a_file").write_text("here first")
    run_program(CONVERT, *ZOO, "--weights=none", f"--output_dir={path}").assert_refused(path)
    assert (tmp_path / "a_file").read_text() == "here first"


PROGRAM = """
import atexit, importlib, sys
atexit.register(lambda: print("loaded" if {"keras", "tensorflow"} & set(sys.modules) else "not loaded"))
importlib.import_module(sys.argv[1]).PROGRAM.run(sys.argv[2:], "it")
"""


@pytest.mark.parametrize(
    ("program", "flags", "word"),
    [
        ("convert", ["--keras_model=gone.keras", "--recipes=float32"], "--keras_model=gone.keras: no such file"),
        ("convert", ["--weights=gone.h5", "--recipes=float32"], "gone.h5"),
        ("convert", ["--calibration_dir=gone"], "gone: no such file or folder"),
        ("convert", ["--recipes=float32", "--output_dir=file/below"], "file/below: cannot be written to"),
        ("convert_detector", ["--run_dir=.", "--output_dir=file"], "file: cannot be written to"),
        ("qat.__main__", ["--train_dir=gone"], "gone: no such file or folder"),
    ],
)
def test_missing_files_are_named_before_tensorflow_is_loaded(tmp_path, program, flags, word):
    (tmp_path / "file").touch()
    command = [sys.executable, "-c", PROGRAM, f"fd_keras.tflite.{program}", "--output_dir=out", *flags]
    done = subprocess.run(
        command, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (1, "not loaded\n")
    assert word in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("content", [None, b"", b"text", b"PK\3\4 cut", b"\x89HDF\r\n\x1a\n"])
def test_keras_model_that_cannot_be_loaded_is_named(run_program, tmp_path, content):
    if content is not None:
        (tmp_path / "mine.keras").write_bytes(content)
    run = run_program(CONVERT, "--keras_model=mine.keras", "--recipes=float32", "--output_dir=out")
    run.assert_refused("mine.keras")


def test_keras_model_damaged_in_the_middle_is_named(run_program, tmp_path, saved_flowers):
    content = bytearray(saved_flowers.read_bytes())
    content[len(content) // 2] ^= 255
    (tmp_path / "mine.keras").write_bytes(content)
    run = run_program(CONVERT, "--keras_model=mine.keras", "--recipes=float32", "--output_dir=out")
    run.assert_refused("mine.keras")


@pytest.mark.parametrize(
    ("flag", "word"),
    [("--alpha=-1", "alpha"), ("--size=20", "32"), ("--groups=3", "groups"), ("--weights=no_such", "no_such")],
)
def test_impossible_network_is_explained(run_program, flag, word):
    run_program(CONVERT, *ZOO, "--weights=none", flag, "--output_dir=out").assert_refused(word)


def test_running_again_after_a_kill_completes_all_files(run_program, saved_flowers, tmp_path, reliability_seconds):
    moments, attempt, kills, end = random.Random(0), 0, 0, time.monotonic() + reliability_seconds
    flags = (f"--keras_model={saved_flowers}", "--recipes=float32,float16")
    run_program(CONVERT, *flags, "--output_dir=whole").assert_done()
    while attempt == 0 or time.monotonic() < end:
        out, attempt = tmp_path / str(attempt), attempt + 1
        killed = (CONVERT, str(moments.randrange(2, 20)), str(out), *flags, f"--output_dir={out}")
        kills += run_program("tests.killed_program", *killed).returncode == -signal.SIGKILL
        for path in out.glob("*.json"):  # never that of another file
            assert json.loads(path.read_text())["sha256"] == sha256_of(path.with_suffix(".tflite"))
        run_program(CONVERT, *flags, f"--output_dir={out}").assert_done()
        files = {path.name: path.read_bytes() for path in (tmp_path / "whole").iterdir()}
        assert {path.name: path.read_bytes() for path in out.iterdir()} == files
    assert kills


# --- channels ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("include_preprocessing", [True, False])
def test_gray_network_is_converted_and_verified_on_photos(run_program, photos, tmp_path, include_preprocessing):
    """Gray is a common input on microcontrollers; the photos are in color."""
    keras.utils.set_random_seed(0)
    image = keras.Input((48, 48, 1))
    x = keras.layers.Rescaling(1 / 64, -2)(image) if include_preprocessing else image
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(8, 3, 2, "same", activation="relu")(x))
    keras.Model(image, keras.layers.Dense(3)(x)).save(tmp_path / "gray.keras")
    flags = ["--keras_model=gray.keras", "--recipes=int8,int8_plain,float32", "--output_dir=out", "--c_array"]
    flags += ["--noc_array"] if include_preprocessing else ["--noinclude_preprocessing"]
    run_program(CONVERT, *flags, f"--calibration_dir={photos}").assert_done()
    facts = json.loads((tmp_path / "out/gray_int8.json").read_text())
    assert facts["input"]["shape"] == [1, 48, 48, 1]
    files = ",".join(f"out/gray_{recipe}.tflite" for recipe in ("float32", "int8"))
    verify = run_program("fd_keras.tflite.verify", f"--tflite={files}", f"--images={photos}", "--json", "--check")
    verify.assert_done()
    records = json.loads(verify.stdout)
    assert records[1]["largest_error"] < 1e-4
    assert records[2]["relative_error"] < 20


@pytest.mark.parametrize("channels", [2, 4])
def test_other_channels_are_converted_without_photos_and_refused_with_them(run_program, photos, tmp_path, channels):
    image = keras.Input((16, 16, channels))
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(4, 3)(image))
    keras.Model(image, keras.layers.Dense(3)(x)).save(tmp_path / "many.keras")
    flags = ["--keras_model=many.keras", "--output_dir=out", f"--calibration_dir={photos}"]
    run_program(CONVERT, *flags, "--recipes=int8").assert_refused(f"images of {channels} channels", "--recipes=float32")
    assert not (tmp_path / "out").exists()
    run_program(CONVERT, *flags, "--recipes=float32").assert_done()
    verify = run_program("fd_keras.tflite.verify", "--tflite=out/many_float32.tflite", f"--images={photos}")
    verify.assert_refused(f"images of {channels} channels")


@pytest.mark.filterwarnings("ignore:Layer .* does not have a `quantize` method")
def test_model_that_keras_has_quantized_is_rejected_with_the_fix(run_program, tmp_path):
    image = keras.Input((16, 16, 3))
    model = keras.Model(image, keras.layers.Dense(3)(keras.layers.GlobalAveragePooling2D()(image)))
    model.quantize("int8")
    model.save(tmp_path / "quantized.keras")
    run = run_program(CONVERT, "--keras_model=quantized.keras", "--recipes=float32", "--output_dir=out")
    run.assert_refused("quantized.keras", "was quantized by Keras (int8)", "convert the float model")
