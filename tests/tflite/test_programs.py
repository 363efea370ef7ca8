"""The programs as a user runs them. Most runs are forks of a process that has imported TensorFlow already."""

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest
from sklearn.metrics import accuracy_score, top_k_accuracy_score

from fd_keras.applications import FDMobileNet
from fd_keras.io import sha256_of
from fd_keras.litert import Runner
from fd_keras.tflite.recipes import RECIPES

CONVERT, VERIFY = "tflite.convert", "tflite.verify"
ROOT = Path(__file__).parents[2]
ZOO = ["--model=fd_mobilenet", "--alpha=0.25", "--size=32", "--recipes=float32"]


def assert_refused(run: subprocess.CompletedProcess, *words: str) -> None:
    """The program failed, and one line says why."""
    assert run.returncode != 0
    assert "Traceback" not in run.stderr
    assert run.stdout == ""
    lines = [line for line in run.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, run.stderr
    for word in words:
        assert word in lines[0]


def assert_done(run: subprocess.CompletedProcess) -> None:
    assert run.returncode == 0, run.stderr


# --- what the tests start from, each made once -------------------------------------------------------------


@pytest.fixture(scope="module")
def photos(tmp_path_factory, images):
    """Forty images as files, and among them none that `calibration_dir` has."""
    from PIL import Image

    folder = tmp_path_factory.mktemp("photos")
    for index, image in enumerate(images[:40].astype("uint8")):
        Image.fromarray(image).save(folder / f"{index:03}.png")
    return folder


@pytest.fixture(scope="module")
def saved(tmp_path_factory, build) -> Path:
    """A model of five classes, saved by its owner."""
    path = tmp_path_factory.mktemp("saved") / "my.flowers.keras"
    build("fd_mobilenet", classes=5).save(path)
    return path


@pytest.fixture(scope="module")
def flowers(tmp_path_factory, saved, photos, images) -> subprocess.CompletedProcess:
    """`python -m tflite.convert` of that model, from the shell; it ran in `.cwd`, with the output in `out`."""
    folder = tmp_path_factory.mktemp("flowers")
    run = subprocess.run(
        [sys.executable, "-m", CONVERT, f"--keras_model={saved}", "--recipes=float32,int8",
         f"--calibration_dir={photos}", "--calibration_count=16", "--output_dir=out"],
        cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    run.cwd = folder
    return run


@pytest.fixture
def out(flowers, tmp_path) -> Path:
    """A copy of its output, for one test to spoil."""
    return Path(shutil.copytree(flowers.cwd / "out", tmp_path / "out"))


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    """Weights of the zoo's FD-MobileNet .25x, with its 1000 classes."""
    keras.utils.set_random_seed(3)
    path = tmp_path_factory.mktemp("home") / "mine.weights.h5"
    FDMobileNet((32, 32, 3), 0.25, weights=None).save_weights(path)
    return path


def edit(path: Path, **changes) -> None:
    """Changes entries of a sidecar."""
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


# --- convert -----------------------------------------------------------------------------------------------


def test_a_model_of_one_s_own_is_converted_under_its_name(flowers):
    assert_done(flowers)
    assert sorted(path.name for path in (flowers.cwd / "out").iterdir()) == [
        "my.flowers_float32.json", "my.flowers_float32.tflite", "my.flowers_int8.json", "my.flowers_int8.tflite",
    ]  # fmt: skip


def test_convert_prints_a_line_for_each_file_and_nothing_else(flowers):
    lines = flowers.stdout.splitlines()
    assert len(lines) == 2
    for line, recipe in zip(lines, ("float32", "int8"), strict=True):
        path, size = re.fullmatch(r"(\S+)  ([\d,]+) kB", line).groups()
        assert path == f"out/my.flowers_{recipe}.tflite"
        assert abs(int(size.replace(",", "")) - os.path.getsize(flowers.cwd / path) / 1e3) <= 0.5


def test_sidecar_of_a_model_of_one_s_own(flowers, saved):
    facts = json.loads((flowers.cwd / "out/my.flowers_int8.json").read_text())
    assert (facts["name"], facts["classes"], facts["arch"]) == ("my.flowers", 5, None)
    assert (facts["keras_model"], facts["weights_sha256"]) == (str(saved), sha256_of(str(saved)))
    assert facts["calibration"]["ids"] == [f"{int(i * 2.5):03}.png" for i in range(16)]


def test_files_of_a_model_of_one_s_own_give_its_scores(flowers, saved, images):
    expected = keras.saving.load_model(saved).predict_on_batch(images)
    runner = Runner(flowers.cwd / "out/my.flowers_float32.tflite")
    np.testing.assert_allclose(runner(images), expected, rtol=0, atol=1e-5)
    assert Runner(flowers.cwd / "out/my.flowers_int8.tflite").input["dtype"] is np.uint8


def test_class_names_and_an_array_are_written_on_request(run_program, saved, tmp_path):
    (tmp_path / "names.txt").write_text("\n".join("abcde"))
    flags = (f"--keras_model={saved}", "--recipes=float32", "--output_dir=out", "--embed_labels=names.txt", "--c_array")
    run = run_program(CONVERT, *flags)
    assert_done(run)
    names = [f"out/my.flowers_float32.{suffix}" for suffix in ("tflite", "h", "cc")]
    assert [line.split()[0] for line in run.stdout.splitlines()] == names
    with zipfile.ZipFile(tmp_path / names[0]) as archive:
        assert archive.read("labels.txt").decode().split("\n") == list("abcde")
    data = (tmp_path / names[0]).read_bytes()
    written = (tmp_path / names[2]).read_text().split("{\n")[-1].split("};")[0]
    assert bytes(map(int, written.replace(",", " ").split())) == data


@pytest.mark.parametrize(
    ("flags", "word"),
    [
        (["--c_array", "--recipes=dynamic"], "--recipes=dynamic"), (["--embed_labels=gone.txt"], "gone.txt"),
        (["--embed_labels=two.txt"], "2 names"),
    ],
)  # fmt: skip
def test_names_and_arrays_that_cannot_be_are_refused_before_anything_is_converted(run_program, tmp_path, flags, word):
    (tmp_path / "two.txt").write_text("a\nb")
    assert_refused(run_program(CONVERT, *ZOO, "--weights=none", "--output_dir=out", *flags), word)
    assert not (tmp_path / "out").exists()


def test_random_weights_are_converted_on_request_and_cannot_be_verified_without_a_reference(run_program, photos):
    run = run_program(CONVERT, *ZOO, "--weights=none", "--output_dir=out")
    assert_done(run)
    path = run.stdout.split()[0]
    assert path == "out/fd_mobilenet_0.25_32_float32.tflite"
    facts = json.loads((Path(run.args[3]) / path).with_suffix(".json").read_text())
    expected = {"arch": "fd_mobilenet", "alpha": 0.25, "size": [32, 32], "weights": None, "weights_sha256": None}
    assert expected.items() <= facts.items()
    assert facts["classes"] == 1000
    assert_refused(run_program(VERIFY, f"--tflite={path}", f"--images={photos}"), "random weights", "--reference")
    own = run_program(VERIFY, f"--tflite={path}", f"--images={photos}", f"--reference={path}", "--json")
    assert_done(own)
    assert [record["agreement"] for record in json.loads(own.stdout)] == [100, 100]


@pytest.mark.parametrize("module", [CONVERT, VERIFY])
def test_unknown_flag_is_named(run_program, module):
    required = ["--output_dir=out"] if module == CONVERT else ["--tflite=a", "--images=b"]
    run = run_program(module, *required, "--no_such_flag=1")
    assert run.returncode != 0
    assert "Traceback" not in run.stderr
    assert "no_such_flag" in run.stderr


@pytest.mark.parametrize("module", [CONVERT, VERIFY])
def test_argument_that_is_no_flag_is_named(run_program, module):
    required = ["--output_dir=out"] if module == CONVERT else ["--tflite=a", "--images=b"]
    run = run_program(module, *required, "stray")
    assert run.returncode != 0
    assert "Traceback" not in run.stderr
    assert "'stray'" in run.stderr + run.stdout


@pytest.mark.parametrize(("module", "flag"), [(CONVERT, "output_dir"), (VERIFY, "tflite"), (VERIFY, "images")])
def test_required_flag_is_asked_for(run_program, module, flag):
    given = {"output_dir": "out", "tflite": "a.tflite", "images": "b"}
    names = ["output_dir"] if module == CONVERT else ["tflite", "images"]
    run = run_program(module, *(f"--{name}={given[name]}" for name in names if name != flag))
    assert run.returncode != 0
    assert f"--{flag}" in run.stderr
    assert "Traceback" not in run.stderr


def test_unknown_recipe_is_named_with_those_that_exist(run_program):
    run = run_program(CONVERT, "--weights=none", "--recipes=float32,int4", "--output_dir=out")
    assert_refused(run, "'int4'", *RECIPES)


@pytest.mark.parametrize("recipe", [name for name, recipe in RECIPES.items() if recipe.calibrated])
def test_calibrated_recipe_asks_for_images(run_program, tmp_path, recipe):
    run = run_program(CONVERT, *ZOO, "--weights=none", f"--recipes={recipe}", "--output_dir=out")
    assert_refused(run, recipe, "--calibration_dir")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--calibration_dir=no_such_folder"], ["no_such_folder"]),
        (["--calibration_dir=.", "--calibration_count=8"], ["no image"]),
        (["--calibration_dir=.", "--calibration_ids=no_such_list"], ["no_such_list"]),
    ],
)
def test_calibration_that_is_not_there_is_named(run_program, flags, words):
    assert_refused(
        run_program(CONVERT, *ZOO[:3], "--weights=none", "--recipes=int8", "--output_dir=out", *flags), *words
    )


@pytest.mark.parametrize("path", ["a_file", "a_file/below"])
def test_folder_that_cannot_be_written_is_named(run_program, tmp_path, path):
    """Below a regular file nobody can make a folder, not even root."""
    (tmp_path / "a_file").write_text("here first")
    assert_refused(run_program(CONVERT, *ZOO, "--weights=none", f"--output_dir={path}"), path)
    assert (tmp_path / "a_file").read_text() == "here first"


@pytest.mark.parametrize("content", [None, b"", b"text", b"PK\3\4 cut", b"\x89HDF\r\n\x1a\n"])
def test_keras_model_that_cannot_be_loaded_is_named(run_program, tmp_path, content):
    if content is not None:
        (tmp_path / "mine.keras").write_bytes(content)
    run = run_program(CONVERT, "--keras_model=mine.keras", "--recipes=float32", "--output_dir=out")
    assert_refused(run, "mine.keras")


def test_keras_model_damaged_in_the_middle_is_named(run_program, tmp_path, saved):
    content = bytearray(saved.read_bytes())
    content[len(content) // 2] ^= 255
    (tmp_path / "mine.keras").write_bytes(content)
    run = run_program(CONVERT, "--keras_model=mine.keras", "--recipes=float32", "--output_dir=out")
    assert_refused(run, "mine.keras")


@pytest.mark.parametrize(
    ("flag", "word"),
    [("--alpha=-1", "alpha"), ("--size=20", "32"), ("--groups=3", "groups"), ("--weights=no_such", "no_such")],
)
def test_impossible_network_is_explained(run_program, flag, word):
    assert_refused(run_program(CONVERT, *ZOO, "--weights=none", flag, "--output_dir=out"), word)


# --- verify ------------------------------------------------------------------------------------------------


def verified(run_program, out: Path, photos: Path, *flags: str, recipes=("float32", "int8")) -> list[dict]:
    paths = ",".join(str(out / f"my.flowers_{recipe}.tflite") for recipe in recipes)
    run = run_program(VERIFY, f"--tflite={paths}", f"--images={photos}", "--noresize", "--json", *flags)
    assert_done(run)
    return json.loads(run.stdout)


def test_verify_measures_what_scikit_learn_does(run_program, flowers, saved, photos, images, tmp_path):
    images = images[:40].astype("uint8").astype("float32")
    expected = keras.saving.load_model(saved).predict_on_batch(images)
    labels = np.where(np.arange(40) % 2, expected.argmax(axis=1), 0)
    (tmp_path / "labels.txt").write_text("".join(f"{i:03}.png {label}\n" for i, label in enumerate(labels)))
    records = verified(run_program, flowers.cwd / "out", photos, "--labels=labels.txt")
    assert [record["file"] for record in records] == ["Keras", "my.flowers_float32.tflite", "my.flowers_int8.tflite"]
    runners = [Runner(flowers.cwd / "out" / record["file"]) for record in records[1:]]
    for record, scores in zip(records, [expected, *(runner(images) for runner in runners)], strict=True):
        assert record["images"] == 40
        assert record["top1"] == pytest.approx(100 * accuracy_score(labels, scores.argmax(axis=1)))
        top5 = 100 * top_k_accuracy_score(labels, scores[:, :5], k=4, labels=range(5))
        assert top5 <= record["top5"] == 100  # of five classes
        assert record["agreement"] == pytest.approx(100 * np.mean(scores.argmax(axis=1) == expected.argmax(axis=1)))
        assert record["largest_error"] == pytest.approx(np.abs(scores - expected).max(), abs=1e-5)
    assert [record["size_bytes"] for record in records[1:]] == [os.path.getsize(runner.path) for runner in runners]
    assert records[0]["size_bytes"] is None
    assert records[1]["agreement"] == 100
    assert records[1]["largest_error"] < 1e-5 < records[2]["largest_error"]


def test_verify_prints_a_table(run_program, flowers, photos):
    path = flowers.cwd / "out/my.flowers_int8.tflite"
    run = run_program(VERIFY, f"--tflite={path}", f"--images={photos}", "--noresize")
    assert_done(run)
    head, keras_row, row, foot = run.stdout.splitlines()
    assert "top-1" in head
    assert "agreement" in head
    assert "40 images" in foot
    assert keras_row.split()[:3] == ["Keras", "-", "-"]
    assert "100.00" in keras_row
    assert row.startswith("my.flowers_int8.tflite")
    assert row.endswith(f"{os.path.getsize(path) / 1e3:.0f}")
    assert len({len(line) for line in (head, keras_row, row)}) == 1


def test_accuracy_is_recorded_beside_the_file(run_program, out, photos, tmp_path):
    (tmp_path / "labels.txt").write_text("".join(f"{i:03}.png {i % 5}\n" for i in range(40)))
    before = json.loads((out / "my.flowers_int8.json").read_text())
    records = verified(run_program, out, photos, "--labels=labels.txt", "--record")
    after = json.loads((out / "my.flowers_int8.json").read_text())
    accuracy = after.pop("accuracy")
    assert after == before
    assert accuracy["images"] == 40
    assert {key: accuracy[key] for key in ("top1", "top5", "agreement")} == {
        key: records[2][key] for key in ("top1", "top5", "agreement")
    }
    assert accuracy["labels_sha256"] == sha256_of(str(tmp_path / "labels.txt"))
    path = out / "my.flowers_int8.tflite"
    assert_refused(run_program(VERIFY, f"--tflite={path}", f"--images={photos}", "--record"), "--record", "--labels")


@pytest.mark.parametrize(("flag", "code"), [("--min_agreement=0", 0), ("--min_agreement=100.5", 1)])
def test_check_tells_by_its_exit_status(run_program, flowers, photos, flag, code):
    path = flowers.cwd / "out/my.flowers_int8.tflite"
    run = run_program(VERIFY, f"--tflite={path}", f"--images={photos}", "--noresize", "--check", flag)
    assert run.returncode == code
    assert "Traceback" not in run.stderr
    assert ("my.flowers_int8.tflite: agrees on" in run.stderr) == bool(code)
    assert "agreement" in run.stdout


def test_the_reference_may_be_a_keras_file(run_program, flowers, saved, photos):
    records = verified(run_program, flowers.cwd / "out", photos, f"--reference={saved}", recipes=["float32"])
    assert records[0]["file"] == str(saved)
    assert records[1]["agreement"] == 100
    assert records[1]["largest_error"] < 1e-5


def test_the_reference_may_be_another_tflite_file(run_program, flowers, photos):
    reference = flowers.cwd / "out/my.flowers_float32.tflite"
    records = verified(run_program, flowers.cwd / "out", photos, f"--reference={reference}", recipes=["float32"])
    assert records[1]["agreement"] == 100
    assert records[1]["largest_error"] == 0


@pytest.fixture(scope="module")
def normalized(tmp_path_factory) -> Path:
    """A saved model that takes normalized images."""
    keras.utils.set_random_seed(5)
    path = tmp_path_factory.mktemp("normalized") / "plain.keras"
    FDMobileNet((64, 96, 3), 0.25, weights=None, classes=6, include_preprocessing=False).save(path)
    return path


@pytest.mark.parametrize("passed", [False, True], ids=["from the sidecar", "passed"])
def test_a_reference_without_preprocessing_gets_normalized_images(run_program, normalized, photos, passed):
    run = run_program(
        CONVERT, f"--keras_model={normalized}", "--noinclude_preprocessing", "--recipes=float32", "--output_dir=out"
    )
    assert_done(run)
    reference = [f"--reference={normalized}"] if passed else []
    run = run_program(VERIFY, "--tflite=out/plain_float32.tflite", f"--images={photos}", "--json", *reference)
    assert_done(run)
    record = json.loads(run.stdout)[1]
    assert record["largest_error"] < 1e-5
    assert record["agreement"] == 100


def test_zoo_network_is_built_again_from_the_sidecar(run_program, checkpoint, photos):
    assert_done(run_program(CONVERT, *ZOO, f"--weights={checkpoint}", "--output_dir=out"))
    run = run_program(VERIFY, "--tflite=out/fd_mobilenet_0.25_32_float32.tflite", f"--images={photos}", "--json")
    assert_done(run)
    record = json.loads(run.stdout)[1]
    assert record["largest_error"] < 1e-5
    assert record["agreement"] == 100


def test_weights_in_the_home_folder_are_found_again(run_program, checkpoint, photos):
    home = {"HOME": str(checkpoint.parent)}
    assert_done(run_program(CONVERT, *ZOO, "--weights=~/mine.weights.h5", "--output_dir=out", **home))
    path = "out/fd_mobilenet_0.25_32_float32.tflite"
    assert_done(run_program(VERIFY, f"--tflite={path}", f"--images={photos}", "--json", **home))


def test_changed_weights_are_noticed(run_program, out, saved, photos, tmp_path):
    copy = Path(shutil.copy(saved, tmp_path / "copy.keras"))
    edit(out / "my.flowers_float32.json", keras_model=str(copy))
    verified(run_program, out, photos, recipes=["float32"])
    with open(copy, "ab") as file:
        file.write(b"\0")
    flags = [f"--tflite={out}/my.flowers_float32.tflite", f"--images={photos}"]
    assert_refused(run_program(VERIFY, *flags), "copy.keras", "no longer the weights", "--reference")
    copy.unlink()
    assert_refused(run_program(VERIFY, *flags), "copy.keras", "not there", "--reference")


def test_file_without_sidecar_asks_for_the_reference(run_program, out, photos):
    (out / "my.flowers_float32.json").unlink()
    run = run_program(VERIFY, f"--tflite={out}/my.flowers_float32.tflite", f"--images={photos}")
    assert_refused(run, "my.flowers_float32.json", "--reference")


@pytest.mark.parametrize("content", ["{}", '{"arch": "fd_mobilenet", "weights_sha256": "00"}', "[", "[]"])
def test_sidecar_that_does_not_tell_is_named(run_program, out, photos, content):
    (out / "my.flowers_float32.json").write_text(content)
    run = run_program(VERIFY, f"--tflite={out}/my.flowers_float32.tflite", f"--images={photos}")
    assert_refused(run, "my.flowers_float32.json")


@pytest.mark.parametrize(
    ("flags", "word"),
    [
        ({"tflite": "gone.tflite"}, "gone.tflite"),
        ({"images": "gone"}, "gone"),
        ({"images": "."}, "no image"),
        ({"labels": "gone.txt"}, "gone.txt"),
        ({"labels": "few.txt"}, "001.png"),
        ({"labels": "bad.txt"}, "bad.txt, line 2"),
        ({"reference": "gone.keras"}, "gone.keras"),
        ({"reference": "gone.tflite"}, "gone.tflite"),
    ],
)
def test_what_verify_cannot_use_is_named(run_program, flowers, photos, tmp_path, flags, word):
    (tmp_path / "few.txt").write_text("000.png 1\n")
    (tmp_path / "bad.txt").write_text("000.png 1\n001.png one\n")
    given = {"tflite": flowers.cwd / "out/my.flowers_float32.tflite", "images": photos, **flags}
    assert_refused(run_program(VERIFY, *(f"--{name}={value}" for name, value in given.items())), word)


def test_image_that_cannot_be_read_is_named(run_program, flowers, tmp_path, save_images, images):
    folder = save_images(tmp_path / "photos", images[:3])
    (folder / "001.png").write_bytes(b"no image")
    run = run_program(VERIFY, f"--tflite={flowers.cwd}/out/my.flowers_float32.tflite", f"--images={folder}")
    assert_refused(run, "001.png")


def test_file_of_other_classes_than_the_reference_is_refused(run_program, flowers, photos, convert_tiny):
    run = run_program(
        VERIFY, f"--tflite={flowers.cwd}/out/my.flowers_float32.tflite", f"--images={photos}",
        f"--reference={convert_tiny('float32')}",
    )  # fmt: skip
    assert_refused(run, "5", "4")
