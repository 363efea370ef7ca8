"""Tests the program `fd-keras finetune` on realistic photo folders."""

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image

from fd_keras.applications import build_by_name
from fd_keras.saved import load_model
from fd_keras.training.finetune import split
from tests.tflite.conftest import ROOT, ProgramRun
from tests.training.conftest import write_photos

MODULE = "fd_keras.tflite.finetune"
NAME = "fd_mobilenet_0.25_32"
CLASSES = ("blå <b>", "c & 'y'", "ámber")  # in the order of sorted()
QUICK = ("--image_size=32", "--threads=1", "--views=2", "--batch_size=16", "--epochs=2")


@dataclasses.dataclass(frozen=True)
class Made:
    """A finished run of the program, and its output."""

    run: ProgramRun
    folder: Path
    flags: tuple[str, ...]

    @property
    def record(self) -> dict:
        return json.loads((self.folder / "run.json").read_text())


@pytest.fixture(scope="module")
def run(start_programs, tmp_path_factory):
    """Runs the program in a folder that contains a folder of photos; returns a `ProgramRun`."""
    programs = start_programs("fd_keras.tflite.finetune_files", "fd_keras.training.finetune.finetuning")

    def run(folder: Path, *flags: str, module: str = MODULE, **environment: str) -> ProgramRun:
        done = programs.run(module, flags, folder, {"PYTHONPATH": str(ROOT), **environment})
        return ProgramRun(done.args, done.returncode, done.stdout, done.stderr)

    return run


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A folder with `my photos`, which have unusual names, `photos` with simple names, and random weights."""
    folder = tmp_path_factory.mktemp("home")
    write_photos(folder / "photos", 8, seed=1)
    for old, new in zip(("blue", "cyan", "amber"), CLASSES, strict=True):
        shutil.copytree(folder / "photos" / old, folder / "my photos" / new)
    blue = folder / "my photos" / CLASSES[0]
    (blue / "broken.jpg").write_bytes(b"\xff\xd8\xff not a photo")
    (blue / "notes.txt").write_text("not a photo")
    for number, name in enumerate(sorted(os.listdir(blue))[:4]):
        if name.endswith("0.jpg") or number == 1:
            os.rename(blue / name, os.fsencode(str(blue / f"caf\udce9 {number}.jpg")))
    Image.effect_noise((9, 7), 90).save(blue / "tiny.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.effect_noise((80, 60), 90).save(blue / "lying.jpg", exif=exif)
    keras.utils.set_random_seed(0)
    build_by_name("fd_mobilenet", alpha=0.25, weights=None, classes=1000).save(folder / "weights.keras")
    return folder


@pytest.fixture(scope="module")
def made(run, folder) -> Made:
    """A run that trains the linear head on random weights, with photos that have unusual names."""
    flags = ("my photos", "--output_dir=my model", "--init_weights=weights.keras", "--method=head", *QUICK)
    done = run(folder, *flags)
    done.assert_done()
    return Made(done, folder / "my model", flags)


# Output of a run.


def test_everything_is_written(made):
    left = {path.name for path in made.folder.iterdir()}
    files = {f"{NAME}_{recipe}.{suffix}" for recipe in ("float32", "int8") for suffix in ("tflite", "json")}
    assert left >= {f"{NAME}.keras", "classes.txt", "split.json", "run.json", "report.html", *files}
    assert not [path for path in made.folder.rglob("*") if path.suffix == ".part"]
    assert (made.folder / "classes.txt").read_text("utf-8").splitlines() == list(CLASSES)


def test_class_names_are_inside_the_files(made):
    for recipe in ("float32", "int8"):
        with zipfile.ZipFile(made.folder / f"{NAME}_{recipe}.tflite") as archive:
            assert archive.read("labels.txt").decode("utf-8").splitlines() == list(CLASSES)


def test_the_split_has_every_usable_photo_once(made):
    drawn = split.read(str(made.folder))
    everything = [path for path, _ in (*drawn.train, *drawn.held_out)]
    assert drawn.classes == CLASSES
    assert drawn.refit
    assert len(everything) == len(set(everything)) == 26
    assert all(os.path.isfile(path) for path in everything)
    assert not any(path.endswith(("broken.jpg", "notes.txt")) for path in everything)
    assert {label for _, label in drawn.held_out} == {0, 1, 2}
    (copy,) = (path for path in everything if path.startswith(str(made.folder)))
    with Image.open(copy) as image:
        assert image.size == (60, 80)


def test_the_record_has_flags_result_and_notes(made):
    record = made.record
    assert record["config"]["method"] == "head"
    assert record["config"]["epochs"] == 2
    result = record["result"]
    assert result["kept"] == "linear head"
    assert result["photos"] == 26  # cross-validated
    assert "in cross-validation" in result["how_measured"]
    assert "(weights.keras)" in result["initial weights"]
    assert any("broken.jpg" in note for note in record["notes"])
    assert any("notes.txt" in note for note in record["notes"])
    assert sum(data["photos"] for data in record["data"].values()) == 26


def test_only_notes_are_printed_not_library_logs(made):
    out = made.run.stdout
    assert "note: Skipped photos that cannot be decoded: 1 (" in out
    assert "note: Photos stored rotated or mirrored: 1 (" in out
    assert "files that are not photos: 1" in out
    for word in ("retracing", "XNNPACK", "Traceback", "Downloading"):
        assert word not in made.run.stderr + out


def test_files_contain_the_saved_network(made):
    model = load_model(str(made.folder / f"{NAME}.keras"))
    assert model.input_shape == (None, 32, 32, 3)
    assert model.output_shape == (None, 3)
    for fact in made.record["result"]["files"]:
        facts = json.loads((made.folder.parent / fact["path"]).with_suffix(".json").read_text())
        assert facts["class_names"] == list(CLASSES)
        assert facts["accuracy"]["images"] == len(split.read(str(made.folder)).held_out)
        assert facts["accuracy"]["trained_on_these"]
        assert facts["accuracy"]["top1"] is None
        assert facts["accuracy"]["agreement"] == fact["agreement"] >= 60
        assert fact["milliseconds"] > 0
        assert fact["size_bytes"] == (made.folder / os.path.basename(fact["path"])).stat().st_size


def test_the_page_escapes_names(made):
    page = (made.folder / "report.html").read_text("utf-8")
    assert "blå &lt;b&gt;" in page
    assert "blå <b>" not in page
    assert "\udce9" not in page


def test_the_last_line_is_a_command_that_works(made, folder):
    lines = made.run.stdout.splitlines()
    assert lines[-1].startswith("next: ")
    command = lines[-1].removeprefix("next: ")
    done = subprocess.run(["sh", "-c", command], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert any(name in done.stdout for name in CLASSES)


def test_the_same_command_again_reports_a_finished_run(made, run, folder):
    before = {path: path.stat().st_mtime_ns for path in made.folder.glob("*.*") if path.name != ".lock"}
    again = run(folder, *made.flags)
    again.assert_done()
    assert again.stdout.startswith("my model is finished: linear head, top-1 ")  # without an inspection
    assert again.stdout.splitlines()[-1] == made.run.stdout.splitlines()[-1]
    after = {path: path.stat().st_mtime_ns for path in made.folder.glob("*.*") if path.name != ".lock"}
    assert after == before


def test_photos_that_changed_after_the_end_are_noticed(made, run, folder):
    """A photo of the same name and size counts as changed; one that training skipped may be removed."""
    (photo,) = (folder / "my photos" / CLASSES[2]).glob("*_007.jpg")
    before = photo.read_bytes()
    photo.write_bytes(before[:15] + b"\x02" + before[16:])  # its density, which changes no pixel
    try:
        again = run(folder, *made.flags)
    finally:
        photo.write_bytes(before)
    assert again.returncode == 1
    assert "have the same names, but different content" in again.stderr
    broken = folder / "my photos" / CLASSES[0] / "broken.jpg"
    broken.rename(folder / "aside")
    try:
        again = run(folder, *made.flags)
    finally:
        (folder / "aside").rename(broken)
    again.assert_done()
    assert "inspecting 26 photos" in again.stdout
    assert "my model is finished: " in again.stdout


@pytest.mark.parametrize(
    ("flag", "words"), [("--seed=3", "--seed was 0, now 3"), ("--flip=0.3", "--flip was None, now 0.3")]
)
def test_other_flags_are_refused_by_name(made, run, folder, flag, words):
    again = run(folder, *made.flags, flag)
    assert again.returncode == 1
    assert words in again.stderr
    assert "or another --output_dir." in again.stderr


def test_other_photos_are_refused(made, run, folder):
    extra = folder / "my photos" / CLASSES[1] / "extra.png"
    Image.effect_noise((64, 64), 90).resize((70, 70)).save(extra)
    try:
        again = run(folder, *made.flags)
    finally:
        extra.unlink()
    assert again.returncode == 1
    assert "photos, now " in again.stderr


# Interrupted runs.


@pytest.fixture(scope="module")
def scratch(run, folder) -> Made:
    """A run that trains from random weights."""
    flags = ("photos", "--init_weights=none", "--refit=no", *QUICK)
    done = run(folder, *flags, "--output_dir=scratch")
    done.assert_done()
    return Made(done, folder / "scratch", flags)


def test_random_weights_are_compared_with_a_classifier_of_pixels(scratch):
    result = scratch.record["result"]
    assert result["kept"] == "trained from scratch"
    assert list(result["candidates"]) == ["linear head on the pixels", "trained from scratch"]
    assert "The result was measured on only 6 photos" in scratch.run.stdout
    assert not split.read(str(scratch.folder)).refit
    (_, int8) = result["files"]
    assert int8["top1"] is not None


def test_a_killed_run_resumes_to_the_same_weights(scratch, run, folder):
    """The run is killed while it writes its second checkpoint."""
    flags = (*scratch.flags, "--output_dir=killed")
    killed = run(folder, MODULE, "2", str(int(signal.SIGKILL)), *flags, module="tests.training.interrupted")
    assert killed.returncode == -signal.SIGKILL
    assert not (folder / "killed" / f"{NAME}.keras").exists()
    assert "result" not in json.loads((folder / "killed" / "run.json").read_text())
    resumed = run(folder, *flags)
    resumed.assert_done()
    assert "resumed at step " in resumed.stdout
    whole, broken = (load_model(str(folder / name / f"{NAME}.keras")) for name in ("scratch", "killed"))
    for one, other in zip(whole.get_weights(), broken.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_an_interrupt_before_training_leaves_no_partial_files(folder):
    command = [sys.executable, "-m", MODULE, "photos", "--init_weights=weights.keras", "--output_dir=stopped", *QUICK]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=folder, env=environment, **pipes) as program:
        assert program.stdout is not None
        for line in program.stdout:
            if line.startswith("linear head: features"):
                program.send_signal(signal.SIGINT)
        assert program.stderr is not None
        errors = program.stderr.read()
    assert program.returncode == 128 + signal.SIGINT, errors
    assert "Traceback" not in errors
    assert errors.splitlines()[-1] == "stopped; the same command resumes from here."
    assert {path.name for path in (folder / "stopped").rglob("*") if path.is_file()} <= {
        "run.json",
        "split.json",
        ".lock",
    }
    assert "result" not in json.loads((folder / "stopped" / "run.json").read_text())


# Invalid flags and photos.


@pytest.fixture
def bad(tmp_path, folder):
    """A copy of the photos for a test to damage."""
    shutil.copytree(folder / "photos", tmp_path / "photos")
    shutil.copy(folder / "weights.keras", tmp_path)
    return tmp_path


def remove_class(bad: Path) -> None:
    for name in ("blue", "cyan"):
        shutil.rmtree(bad / "photos" / name)


def give_sides(bad: Path) -> None:
    shutil.copytree(bad / "photos", bad / "both" / "train")
    shutil.copytree(bad / "photos", bad / "both" / "val")
    shutil.rmtree(bad / "photos")
    (bad / "both").rename(bad / "photos")


@pytest.mark.parametrize(
    ("spoil", "flags", "words"),
    [
        (lambda bad: shutil.rmtree(bad / "photos"), (), ("photos: no such folder", "one subfolder of photos")),
        (remove_class, (), ("need at least 2 class folders, found 1 (amber)",)),
        (lambda bad: (bad / "photos" / "dark").mkdir(), (), ("dark: no photos in this class folder",)),
        (give_sides, ("--val_fraction=0.3",), ("already has a folder of held-out photos; remove --val_fraction",)),
        (lambda bad: None, ("--method=head",), ("--method=head needs trained weights, but --init_weights=none",)),
        (lambda bad: None, ("--reparam", "--init_weights=imagenet"), ("pass --init_weights=none, or leave out --rep",)),
        (lambda bad: None, ("--teacher=gone.keras",), ("--teacher=gone.keras: no such file",)),
        (lambda bad: None, ("--init_weights=gone.keras",), ("gone.keras': no such file", "./weights.keras")),
        (lambda bad: None, ("--teacher=weights.keras",), ("weights.keras", "1000 classes", "Train a teacher")),
        (lambda bad: None, ("more",), ("expected one folder of photos, got 2",)),
        (lambda bad: None, ("--output_dir=photos/mine",), ("--output_dir=photos/mine: is inside the photos",)),
        (lambda bad: None, ("--output_dir=photos",), ("--output_dir=photos: is inside the photos",)),
    ],
)  # fmt: skip
def test_invalid_arguments_are_rejected_before_anything_is_written(run, bad, spoil, flags, words):
    spoil(bad)
    weights = () if any("init_weights" in flag for flag in flags) else ("--init_weights=none",)
    run(bad, "photos", "--output_dir=mine", *weights, *flags).assert_refused(*words)
    assert not (bad / "mine").exists()


def test_without_internet_the_file_to_download_is_named(run, bad):
    (bad / "weights").mkdir()
    offline = {
        "https_proxy": "http://127.0.0.1:9",
        "KERAS_HOME": str(bad),
        "FD_KERAS_WEIGHTS_DIR": str(bad / "weights"),
    }
    done = run(bad, "photos", "--output_dir=mine", **offline)
    done.assert_refused("put fdmobilenet_wd4-3062-36aa16df.tf2.h5 into a folder", "FD_KERAS_WEIGHTS_DIR")
    done.assert_refused("--init_weights=none")


def test_weights_that_replace_others_are_named_with_their_license(run, bad, data):
    """So nobody publishes a network under the license of weights that it does not come from."""
    offline = {
        "https_proxy": "http://127.0.0.1:9",
        "KERAS_HOME": str(bad),
        "FD_KERAS_WEIGHTS_DIR": str(data / "weights"),
    }
    done = run(bad, "photos", "--output_dir=mine", "--method=head", *QUICK, **offline)
    done.assert_done()
    assert "0.25x-FDMobileNet-224.pth.tar (license: none stated" in done.stderr
    result = json.loads((bad / "mine" / "run.json").read_text())["result"]
    assert "0.25x-FDMobileNet-224.pth.tar, whose license is: none stated" in result["initial weights"]
