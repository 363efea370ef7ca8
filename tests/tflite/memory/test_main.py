"""Tests the program `fd-keras memory`."""

import json
import os

import pytest

from fd_keras import zoo
from fd_keras.tflite.memory import grid

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
def test_file_and_grid_exclude_each_other(run_program, flags):
    run_program(MEMORY, *flags).assert_refused("--grid")


def test_missing_file_is_named(run_program):
    run_program(MEMORY, "gone.tflite").assert_refused("gone.tflite: No such file")


def test_grid_as_data(run_program):
    flags = ("--model=fd_mobilenet", "--alphas=0.25,0.5", "--sizes=96,128", "--classes=5")
    run = run_program(MEMORY, "--grid", "--json", *flags, "--ram=180KiB", "--flash=300KiB")
    run.assert_done()
    device = grid.DeviceLimits(180 << 10, 300 << 10)
    cells = list(grid.grid([zoo.get_arch("fd_mobilenet")], [0.25, 0.5], [96, 128], 5, device))
    assert json.loads(run.stdout) == json.loads(json.dumps(grid.records(cells, device)))


def test_a_board_limits_file_and_grid(run_program, tiny_int8):
    run = run_program(MEMORY, tiny_int8, "--board=nano-33-ble", "--json", "--reserve=100KiB")
    run.assert_done()
    found = json.loads(run.stdout)["board"]
    assert (found["sram"], found["reserve"], found["place"]) == (256 << 10, 100 << 10, "SRAM")
    flags = ("--model=fd_mobilenet", "--alphas=0.25", "--sizes=96", "--board=pico")
    run = run_program(MEMORY, "--grid", *flags)
    run.assert_done()
    assert "200.0 KiB of RAM and 1920.0 KiB of flash, with CMSIS-NN:" in run.stdout


@pytest.mark.parametrize(
    ("flag", "word"),
    [
        ("--ram=256KB/s", "--ram=256KB/s"),
        ("--groups=5", "groups=5"),
        ("--model=fd_mobilenet,vgg", "--model=vgg: unknown network (there are fd_mobilenet"),
        ("--board=nano", "--board=nano: unknown board"),
        ("--reserve=1", "--reserve=1: unit missing"),
        ("--alphas=0.5,a", "--alphas=0.5,a"),
        ("--sizes=96.5", "--sizes=96.5"),
        ("--sizes=96,-1", "--sizes=-1: must be between 32 and 8192"),
        ("--alphas=nan", "--alphas=nan: must be between"),
        ("--flash=512", "--flash=512: unit missing"),
        ("--sizes=", "--sizes"),
        ("--classes=0", "classes"),
    ],
)
def test_impossible_flags_are_named(run_program, flag, word):
    run_program(MEMORY, "--grid", flag).assert_refused(word)


def test_flags_that_exclude_each_other_are_named(run_program):
    run_program(MEMORY, "--grid", "--board=pico", "--ram=1KiB").assert_refused("--ram=1KiB: --board=pico sets it")
    run_program(MEMORY, "--grid", "--model=mobilenet", "--groups=3").assert_refused("--groups=3: only ShuffleNets")
