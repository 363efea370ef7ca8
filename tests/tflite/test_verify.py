"""Tests the program `fd-keras verify`. Most runs are forks of a process that has already imported TensorFlow."""

import dataclasses
import json
import os
import re
import shutil
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import accuracy_score, top_k_accuracy_score

from fd_keras.applications import FDMobileNet
from fd_keras.io import sha256_of
from fd_keras.litert import Runner
from fd_keras.tflite.export import export, write
from fd_keras.tflite.format.sidecar import saved_source
from fd_keras.tflite.recipes import RECIPES, Int8Settings, load_calibration
from fd_keras.training.finetune.split import Split

CONVERT, VERIFY = "fd_keras.tflite.convert", "fd_keras.tflite.verify"
ZOO = ["--model=fd_mobilenet", "--alpha=0.25", "--size=32", "--recipes=float32"]


@pytest.fixture
def out(flowers, tmp_path) -> Path:
    """A copy of the converted flowers, for one test to damage."""
    return Path(shutil.copytree(flowers.out, tmp_path / "out"))


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    """Weights of the zoo's FD-MobileNet 0.25x with 1000 classes."""
    keras.utils.set_random_seed(3)
    path = tmp_path_factory.mktemp("home") / "mine.weights.h5"
    FDMobileNet((32, 32, 3), 0.25, weights=None).save_weights(path)
    return path


def verified(run_program, out: Path, photos: Path, *flags: str, recipes=("float32", "int8")) -> list[dict]:
    paths = ",".join(str(out / f"my.flowers_{recipe}.tflite") for recipe in recipes)
    run = run_program(VERIFY, f"--tflite={paths}", f"--images={photos}", "--noresize", "--json", *flags)
    run.assert_done()
    return json.loads(run.stdout)


def test_verify_equals_scikit_learn(run_program, flowers, saved_flowers, photos, images, tmp_path):
    images = images[:40].astype("uint8").astype("float32")
    expected = keras.saving.load_model(saved_flowers).predict_on_batch(images)
    labels = np.where(np.arange(40) % 2, expected.argmax(axis=1), 0)
    (tmp_path / "labels.txt").write_text("".join(f"{i:03}.png {label}\n" for i, label in enumerate(labels)))
    records = verified(run_program, flowers.out, photos, "--labels=labels.txt")
    assert [record["file"] for record in records] == ["Keras", "my.flowers_float32.tflite", "my.flowers_int8.tflite"]
    runners = [Runner(flowers.out / record["file"]) for record in records[1:]]
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
    path = flowers.out / "my.flowers_int8.tflite"
    run = run_program(VERIFY, f"--tflite={path}", f"--images={photos}", "--noresize")
    run.assert_done()
    head, keras_row, row, foot, compared, last = run.stdout.splitlines()
    assert re.fullmatch(f"next: .+ bench --models={flowers.out} --target=host", last)
    assert compared == "compared: the first class"
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
    run_program(VERIFY, f"--tflite={path}", f"--images={photos}", "--record").assert_refused("--record", "--labels")


NAMES = ("dog", "ant", "cat", "bee")  # not in alphabetical order


@pytest.fixture(scope="module")
def class_folders(images, tmp_path_factory) -> Path:
    """Thirty images in three of the four folders in `NAMES`; each image is in the folder of its number."""
    root = tmp_path_factory.mktemp("folders")
    for index, image in enumerate(images[:30].astype("uint8")):
        (root / NAMES[index % 3]).mkdir(exist_ok=True)
        Image.fromarray(image).save(root / NAMES[index % 3] / f"{index:03}.png")
    return root


@pytest.fixture
def named(tiny, class_folders, tmp_path) -> Path:
    """A file with the class names `NAMES` in a run folder, beside its source .keras file."""
    (tmp_path / "run").mkdir()
    tiny.save(tmp_path / "run" / "tiny.keras")
    source = saved_source(str(tmp_path / "run" / "tiny.keras"))
    list(write(tiny, "tiny", source, [RECIPES["float32"]], str(tmp_path / "run"), class_names=NAMES))
    paths = sorted(class_folders.glob("*/*.png"))
    Split(NAMES, (), tuple((str(path), NAMES.index(path.parent.name)) for path in paths)).write(str(tmp_path / "run"))
    return tmp_path / "run" / "tiny_float32.tflite"


def test_class_folders_and_runs_have_labels(run_program, named, class_folders, images, tiny):
    expected = tiny.predict_on_batch(images[:30].astype("uint8").astype("float32")).argmax(axis=1)
    top1 = pytest.approx(100 * np.mean(expected == np.arange(30) % 3))
    for flag, photos in ((f"--images={class_folders}", class_folders), (f"--run_dir={named.parent}", named.parent)):
        run = run_program(VERIFY, f"--tflite={named}", flag, "--noresize", "--json", "--record")
        run.assert_done()
        assert [(record["images"], record["top1"]) for record in json.loads(run.stdout)] == [(30, top1)] * 2
        recorded = json.loads(named.with_suffix(".json").read_text())["accuracy"]
        assert (recorded["images"], recorded["top1"]) == (30, top1)
        assert recorded["photos"].startswith(str(photos))


def test_photos_in_folders_that_cannot_be_decoded_are_skipped_and_named(run_program, named, class_folders, tmp_path):
    shutil.copytree(class_folders, tmp_path / "photos")
    (tmp_path / "photos" / "cat" / "002.png").write_bytes(b"no image")
    run = run_program(VERIFY, f"--tflite={named}", "--images=photos", "--noresize", "--json")
    run.assert_done()
    assert json.loads(run.stdout)[0]["images"] == 29
    assert "skipped photos that cannot be decoded: 1 (photos/cat/002.png" in run.stderr


def test_folders_of_other_names_have_no_labels(run_program, named, photos, tmp_path):
    shutil.copytree(photos, tmp_path / "photos" / "holiday")
    run = run_program(VERIFY, f"--tflite={named}", "--images=photos", "--json")
    run.assert_done()
    assert json.loads(run.stdout)[1]["top1"] is None
    assert "photos: its folders (holiday) are not the model's classes" in run.stderr
    run_program(VERIFY, f"--tflite={named}", "--images=photos", "--record").assert_refused("--record needs labels")
    shutil.copytree(photos, tmp_path / "photos" / "cat")
    run_program(VERIFY, f"--tflite={named}", "--images=photos").assert_refused("'holiday'", "not a class of the model")
    run_program(VERIFY, f"--tflite={named}", "--run_dir=photos").assert_refused("--run_dir=photos: not a run")


@pytest.mark.parametrize(("flag", "code"), [("--min_agreement=0", 0), ("--min_agreement=100.5", 1)])
def test_check_exits_with_a_status(run_program, flowers, photos, flag, code):
    path = flowers.out / "my.flowers_int8.tflite"
    run = run_program(VERIFY, f"--tflite={path}", f"--images={photos}", "--noresize", "--check", flag)
    assert run.returncode == code
    assert ("error: my.flowers_int8.tflite: agrees on" in run.stderr) == bool(code)
    assert "agreement" in run.stdout


def test_check_names_a_file_that_lost_accuracy(run_program, convert_tiny, photos, images, tmp_path):
    """Compares a file for normalized images with one for raw images that is right for all labels."""
    reference, path = convert_tiny("float32"), convert_tiny("float32", include_preprocessing=False)
    labels = Runner(reference)(images[:40].astype("uint8").astype("float32")).argmax(axis=1)
    (tmp_path / "labels.txt").write_text("".join(f"{i:03}.png {label}\n" for i, label in enumerate(labels)))
    flags = [f"--tflite={path}", f"--reference={reference}", f"--images={photos}", "--noresize", "--labels=labels.txt"]
    run = run_program(VERIFY, *flags, "--check", "--min_agreement=0", "--per_class=1")
    assert run.returncode == 1
    assert "error: tiny_float32.tflite: top-1 dropped" in run.stderr
    assert "(limit 1.0)" in run.stderr
    assert len(re.findall(r"^  class +\d+ .* 100\.0 ->", run.stdout, re.M)) == 1


def yes_or_no(images: np.ndarray) -> keras.Model:
    """A network with a single score, which is above 0.5 for all of these images."""
    keras.utils.set_random_seed(0)
    image = keras.Input((*images.shape[1:3], 3))
    x = keras.layers.Rescaling(1 / 64, -2)(image)
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(8, 3, 2, activation="relu")(x))
    logits = keras.Model(image, keras.layers.Dense(1)(x))
    values = logits.predict_on_batch(images)
    kernel, bias = logits.layers[-1].get_weights()
    logits.layers[-1].set_weights([kernel / values.std(), (bias - values.min()) / values.std() + 0.1])
    return keras.Model(image, keras.layers.Activation("sigmoid")(logits.output))


def test_check_of_one_score_rejects_files_with_other_outputs(run_program, photos, images, tmp_path):
    model = yes_or_no(images[:40].astype("uint8").astype("float32"))
    model.save(tmp_path / "model.keras")
    ends = {"right": lambda x: x, "inverted": lambda x: 1 - x, "constant": lambda x: 0 * x + 0.8}
    for name, end in ends.items():
        (tmp_path / f"{name}.tflite").write_bytes(
            export(keras.Model(model.input, end(model.output)), RECIPES["float32"])
        )
    files = f"--tflite={','.join(f'{name}.tflite' for name in ends)}"
    run = run_program(VERIFY, files, "--reference=model.keras", f"--images={photos}", "--noresize", "--check")
    assert run.returncode == 1
    assert "compared: each score against 0.5" in run.stdout
    assert "inverted.tflite: agrees on 0.00%" in run.stderr
    assert "constant.tflite: output error" in run.stderr
    assert "constant.tflite: agrees" not in run.stderr  # so the error decides
    assert "right.tflite" not in run.stderr


@dataclasses.dataclass(frozen=True)
class Normalized:
    """A saved model that takes normalized images, and its .tflite file."""

    saved: Path
    file: str


@pytest.fixture(scope="module")
def normalized(tmp_path_factory) -> Normalized:
    keras.utils.set_random_seed(5)
    folder = tmp_path_factory.mktemp("normalized")
    model = FDMobileNet((64, 96, 3), 0.25, weights=None, classes=6, include_preprocessing=False)
    model.save(folder / "plain.keras")
    source = saved_source(str(folder / "plain.keras"))
    (file,) = write(model, "plain", source, [RECIPES["float32"]], str(folder), include_preprocessing=False)
    return Normalized(folder / "plain.keras", file)


def test_the_reference_may_be_a_keras_file(run_program, flowers, saved_flowers, photos):
    records = verified(run_program, flowers.out, photos, f"--reference={saved_flowers}", recipes=["float32"])
    assert records[0]["file"] == str(saved_flowers)
    assert records[1]["agreement"] == 100
    assert records[1]["largest_error"] < 1e-5


def test_the_reference_may_be_another_tflite_file(run_program, flowers, photos):
    reference = flowers.out / "my.flowers_float32.tflite"
    records = verified(run_program, flowers.out, photos, f"--reference={reference}", recipes=["float32"])
    assert records[1]["agreement"] == 100
    assert records[1]["largest_error"] == 0


@pytest.mark.parametrize("passed", [False, True], ids=["from the sidecar", "passed"])
def test_a_reference_without_preprocessing_gets_normalized_images(run_program, normalized, photos, passed):
    reference = [f"--reference={normalized.saved}"] if passed else []
    run = run_program(VERIFY, f"--tflite={normalized.file}", f"--images={photos}", "--json", *reference)
    run.assert_done()
    record = json.loads(run.stdout)[1]
    assert record["largest_error"] < 1e-5
    assert record["agreement"] == 100


def test_weights_in_the_home_folder_are_found(run_program, checkpoint, photos):
    home = {"HOME": str(checkpoint.parent)}
    run_program(CONVERT, *ZOO, "--weights=~/mine.weights.h5", "--output_dir=out", **home).assert_done()
    path = "out/fd_mobilenet_0.25_32_float32.tflite"
    run = run_program(VERIFY, f"--tflite={path}", f"--images={photos}", "--json", **home)
    run.assert_done()
    record = json.loads(run.stdout)[1]
    assert record["largest_error"] < 1e-5
    assert record["agreement"] == 100


def test_file_without_sidecar_requires_the_reference(run_program, out, photos):
    (out / "my.flowers_float32.json").unlink()
    run = run_program(VERIFY, f"--tflite={out}/my.flowers_float32.tflite", f"--images={photos}")
    run.assert_refused("my.flowers_float32.json", "--reference")


@pytest.mark.parametrize("content", ["{}", '{"arch": "fd_mobilenet", "weights_sha256": "00"}', "[", "[]"])
def test_sidecar_without_an_origin_is_named(run_program, out, photos, content):
    (out / "my.flowers_float32.json").write_text(content)
    run = run_program(VERIFY, f"--tflite={out}/my.flowers_float32.tflite", f"--images={photos}")
    run.assert_refused("my.flowers_float32.json")


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
def test_invalid_files_are_named(run_program, flowers, photos, tmp_path, flags, word):
    (tmp_path / "few.txt").write_text("000.png 1\n")
    (tmp_path / "bad.txt").write_text("000.png 1\n001.png one\n")
    given = {"tflite": flowers.out / "my.flowers_float32.tflite", "images": photos, **flags}
    run_program(VERIFY, *(f"--{name}={value}" for name, value in given.items())).assert_refused(word)


def test_an_image_that_cannot_be_read_is_skipped_and_named(run_program, flowers, tmp_path, save_images, images):
    folder = save_images(tmp_path / "photos", images[:3])
    (folder / "001.png").write_bytes(b"no image")
    run = run_program(VERIFY, f"--tflite={flowers.out}/my.flowers_float32.tflite", f"--images={folder}")
    run.assert_done()
    assert "skipped" in run.stderr
    assert "001.png" in run.stderr


def test_file_of_other_classes_than_the_reference_is_refused(run_program, flowers, photos, convert_tiny):
    flags = [f"--tflite={flowers.out}/my.flowers_float32.tflite", f"--reference={convert_tiny('float32')}"]
    run_program(VERIFY, *flags, f"--images={photos}").assert_refused("5", "4")


# --- sensitivity -----------------------------------------------------------------------------------------


@pytest.fixture
def program(converted, run_program, network, tmp_path, save_images, images, calibration):
    """`verify --sensitivity` on a file whose sidecar names a saved model and calibration images."""
    save_images(tmp_path / "training", calibration.images[:8])
    save_images(tmp_path / "photos", images[:8])
    network("fd_mobilenet").save(tmp_path / "mine.keras")
    loaded = load_calibration(str(tmp_path / "training"), images.shape[1:3], 8)
    source = saved_source(str(tmp_path / "mine.keras"))
    # One step is enough to check that the sidecar's settings are used.
    recipe = dataclasses.replace(RECIPES["int8"], settings=Int8Settings(fit=0.0, compensate=False))
    list(write(network("fd_mobilenet"), "mine", source, [recipe], str(tmp_path), calibration=loaded))

    def run(*flags: str):
        return run_program(VERIFY, "--tflite=mine_int8.tflite", "--images=photos", "--noresize", *flags)

    return run


def test_verify_ranks_layers_and_refuses_other_images(program, tmp_path):
    done = program("--sensitivity=alone", "--calibration_dir=training", "--json", "--plot=layers.png")
    done.assert_done()
    records = json.loads(done.stdout)
    assert [row["layer"] for row in records[:2]] == ["float", "int8"]
    assert records[0]["agreement"] == 100
    assert {"conv", "conv_dw_1"} & {row["layer"] for row in records[2:]}
    assert (tmp_path / "layers.png").stat().st_size > 1000
    program("--sensitivity=alone").assert_refused("--calibration_dir")
    program("--sensitivity=alone", "--calibration_dir=photos").assert_refused("these are not the images")


# --- flags -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flag", "word"),
    [
        ("--no_such_flag=1", "no_such_flag"),
        ("stray", "'stray'"),
        ("--run_dir=c", "--images"),
        ("--threads=0", "threads"),
    ],
)
def test_invalid_flags_are_named(run_program, flag, word):
    run_program(VERIFY, "--tflite=a", "--images=b", flag).assert_refused(word)


@pytest.mark.parametrize("flag", ["tflite", "images"])
def test_missing_required_flag_is_named(run_program, flag):
    (other,) = {"tflite", "images"} - {flag}
    run_program(VERIFY, f"--{other}=a").assert_refused(f"--{flag}")
