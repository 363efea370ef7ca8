"""`fd-keras memory` as a user runs it."""

import json
import os

import pytest

from fd_keras import zoo
from fd_keras.tflite.memory import estimate

MEMORY = "fd_keras.tflite.memory"


@pytest.fixture(scope="module")
def tiny_int8(convert_tiny) -> str:
    return convert_tiny("int8")


def test_a_file_as_data(run_program, tiny_int8):
    run = run_program(MEMORY, tiny_int8, "--json")
    run.assert_done()
    facts = json.loads(run.stdout)
    assert facts["file"] == tiny_int8
    assert facts["flash"]["bytes"] == os.path.getsize(tiny_int8)


def test_a_file_as_text_and_picture(run_program, tiny_int8, tmp_path):
    run = run_program(MEMORY, tiny_int8, "--plot=arena.png", "--ram=1KiB")
    run.assert_done()
    assert "CONV_2D" in run.stdout
    assert "more RAM" in run.stdout.splitlines()[-1]
    assert (tmp_path / "arena.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("name", "word"), [("arena.tiff2", "arena.tiff2"), ("no_such_folder/arena.png", "no_such_folder")]
)
def test_picture_that_cannot_be_written_is_named(run_program, tiny_int8, name, word):
    run_program(MEMORY, tiny_int8, f"--plot={name}").assert_refused(word)


@pytest.mark.parametrize("flags", [[], ["a.tflite", "--grid"], ["--grid", "--plot=a.png"], ["a.tflite", "b.tflite"]])
def test_file_and_grid_are_not_both_asked_for(run_program, flags):
    run_program(MEMORY, *flags).assert_refused("--grid")


def test_missing_file_is_named(run_program):
    run_program(MEMORY, "gone.tflite").assert_refused("gone.tflite: No such file")


def test_grid_as_data(run_program):
    flags = ("--alphas=0.25,0.5", "--sizes=96,128", "--classes=5", "--ram=150KiB", "--flash=600KiB")
    run = run_program(MEMORY, "--grid", "--json", *flags)
    run.assert_done()
    rows, cells = json.loads(run.stdout), estimate.cells(zoo.get_arch("fd_mobilenet"), [0.25, 0.5], [96, 128], 5)
    assert [[row[key] for key in ("macs", "flash", "activations")] for row in rows] == [
        [cell.macs, cell.flash, cell.activations] for cell in cells
    ]
    assert [row["fits"] for row in rows] == [True, True, True, False]
    assert [row["best"] for row in rows] == [False, False, True, False]


@pytest.mark.parametrize(
    ("flag", "word"),
    [
        ("--ram=256KB/s", "--ram=256KB/s"),
        ("--groups=3", "groups"),
        ("--alphas=0.5,a", "--alphas=0.5,a"),
        ("--sizes=96.5", "--sizes=96.5"),
        ("--sizes=96,-1", "--sizes=-1: must be between 32 and 8192"),
        ("--alphas=nan", "--alphas=nan: must be between"),
        ("--flash=512", "--flash=512: in which unit"),
        ("--sizes=", "--sizes"),
        ("--classes=0", "classes"),
    ],
)
def test_impossible_flags_are_named(run_program, flag, word):
    run_program(MEMORY, "--grid", flag).assert_refused(word)
