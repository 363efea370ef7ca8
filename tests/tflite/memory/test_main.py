"""`python -m tflite.memory` as a user runs it, and what it reads and draws."""

import json
import os
import re
from pathlib import Path

import pytest
from PIL import Image

from fd_keras import zoo
from fd_keras.litert import LiteRTError
from fd_keras.tflite.format.flatbuffer import read
from fd_keras.tflite.memory import estimate
from fd_keras.tflite.memory.__main__ import parse_bytes, parse_numbers
from fd_keras.tflite.memory.arena import plan, tflm_bytes
from fd_keras.tflite.memory.report import verdict

MEMORY = "tflite.memory"


@pytest.fixture(scope="module")
def tiny_int8(convert_tiny) -> str:
    return convert_tiny("int8")


def assert_refused(run, *words: str) -> None:
    assert run.returncode != 0
    assert "Traceback" not in run.stderr
    for word in words:
        assert word in run.stderr + run.stdout


# --- a file ------------------------------------------------------------------------------------------------


def test_file_s_needs_as_data(run_program, tiny_int8):
    run = run_program(MEMORY, tiny_int8, "--json")
    assert run.returncode == 0, run.stderr
    facts, graph = json.loads(run.stdout), read(tiny_int8).graph
    assert facts["flash"]["bytes"] == os.path.getsize(tiny_int8)
    assert (
        facts["activations"]
        == plan(graph).arena
        == max(t["offset"] + -(-t["bytes"] // 16) * 16 for t in facts["arena"])
    )
    assert facts["in_place"] <= facts["fused"] <= facts["activations"]
    assert facts["tflm"] == tflm_bytes(graph)
    assert facts["macs"] == sum(op["macs"] for op in facts["ops"]) == 32 * 48 * 27 * 8 + 8 * 4
    alive = [t["bytes"] for t in facts["arena"] if t["first"] <= facts["peak"] <= t["last"]]
    assert sum(alive) == facts["ops"][facts["peak"]]["alive"] == max(op["alive"] for op in facts["ops"])


def test_parts_of_the_flash_by_hand(tiny_int8):
    """A stem of 3x3x3x8 and a dense layer of 8x4, in int8; for each channel a bias, a scale and a zero point."""
    file = read(tiny_int8)
    layers, channels = 216 + 32 + 4 * 12, 2 * 12
    others = [t.bytes for t in file.graph.tensors if t.constant and t.shape not in {(8, 3, 3, 3), (4, 8), (8,), (4,)}]
    assert file.weights == layers + sum(others)
    activations = sum(not tensor.constant for tensor in file.graph.tensors)
    assert 12 * (channels + activations) <= file.scales <= 12 * (channels + activations + len(others))


def test_file_s_needs_as_text(run_program, tiny_int8):
    run = run_program(MEMORY, tiny_int8)
    assert run.returncode == 0, run.stderr
    graph = read(tiny_int8).graph
    whole = plan(graph)
    rows = re.findall(r"^ *(\d+)  ([A-Z_0-9]+) .* ([\d,]+)(  <- peak)?$", run.stdout, re.M)
    assert [(int(number), kind) for number, kind, *_ in rows] == list(enumerate(op.kind for op in graph.ops))
    assert [int(alive.replace(",", "")) for _, _, alive, _ in rows] == [
        whole.live_bytes(time) for time in range(len(graph.ops))
    ]
    assert [bool(mark) for *_, mark in rows].index(True) == whole.peak
    assert f"{whole.arena:,}  {whole.arena / 1024:.1f} KiB, as TFLM plans them" in run.stdout
    assert run.stdout.rstrip().endswith("256.0 KiB of RAM and 512.0 KiB of flash: fits")


def test_verdict_says_what_is_missing():
    assert verdict(2048, 1024, 2048, 1024).endswith("flash: fits")
    assert verdict(3072, 1024, 2048, 1024).endswith("flash: needs 1.0 KiB more RAM")
    assert verdict(3072, 4096, 2048, 1024).endswith("needs 1.0 KiB more RAM, needs 3.0 KiB more flash")


def test_picture_of_the_arena(run_program, tiny_int8, tmp_path):
    run = run_program(MEMORY, tiny_int8, "--plot=arena.png")
    assert run.returncode == 0, run.stderr
    with Image.open(tmp_path / "arena.png") as picture:
        colours = picture.convert("RGB").getcolors(picture.width * picture.height)
    found = {colour for count, colour in colours if count > 2000}
    assert {(140, 140, 140), (224, 138, 44), (59, 111, 182)} <= found  # input, copies, convolution
    assert [path.name for path in tmp_path.iterdir()] == ["arena.png"]


@pytest.mark.parametrize("name", ["arena.tiff2", "no_such_folder/arena.png"])
def test_picture_that_cannot_be_written_is_named(run_program, tiny_int8, name):
    assert_refused(run_program(MEMORY, tiny_int8, f"--plot={name}"), "error: ", name)


# --- files that are no use ---------------------------------------------------------------------------------


@pytest.mark.parametrize("content", [b"", b"hello, this is text", b"\0\0\0\0TFL"])
def test_what_is_no_tflite_file_is_named(tmp_path, content):
    (tmp_path / "a.tflite").write_bytes(content)
    with pytest.raises(LiteRTError, match=r"a\.tflite: not a \.tflite file"):
        read(str(tmp_path / "a.tflite"))


@pytest.mark.parametrize("part", [0.01, 0.1, 0.5, 0.9, 0.9999])
def test_truncated_file_is_named(tiny_int8, tmp_path, part):
    whole = Path(tiny_int8).read_bytes()
    (tmp_path / "cut.tflite").write_bytes(whole[: int(len(whole) * part)])
    with pytest.raises(LiteRTError, match=r"cut\.tflite: "):
        read(str(tmp_path / "cut.tflite"))


@pytest.mark.parametrize("flags", [[], ["a.tflite", "--grid"], ["--grid", "--plot=a.png"]])
def test_file_and_grid_are_not_both_asked_for(run_program, flags):
    assert_refused(run_program(MEMORY, *flags), "--grid")


def test_missing_file_is_named(run_program):
    assert_refused(run_program(MEMORY, "gone.tflite"), "error: gone.tflite: No such file")


# --- the grid ----------------------------------------------------------------------------------------------


def test_grid_as_data(run_program):
    flags = ("--alphas=0.25,0.5", "--sizes=96,128", "--classes=5", "--ram=150KiB", "--flash=600KiB")
    run = run_program(MEMORY, "--grid", "--json", *flags)
    assert run.returncode == 0, run.stderr
    rows, cells = json.loads(run.stdout), estimate.cells(zoo.get_arch("fd_mobilenet"), [0.25, 0.5], [96, 128], 5)
    assert [[row[key] for key in ("macs", "flash", "activations")] for row in rows] == [
        [cell.macs, cell.flash, cell.activations] for cell in cells
    ]
    assert [row["fits"] for row in rows] == [True, True, True, False]
    assert [row["best"] for row in rows] == [False, False, True, False]


def test_grid_as_text_marks_what_fits(run_program):
    run = run_program(MEMORY, "--grid", "--model=mobilenet", "--alphas=0.25,1", "--sizes=64,96", "--ram=100KiB")
    assert run.returncode == 0, run.stderr
    head, *rows, blank, last = run.stdout.rstrip("\n").split("\n")
    assert head.startswith("alpha  size")
    assert blank == ""
    assert [row.split()[:2] for row in rows] == [["0.25", "64"], ["0.25", "96"], ["1", "64"], ["1", "96"]]
    cells = estimate.cells(zoo.get_arch("mobilenet"), [0.25, 1], [64, 96], 1000)
    best = estimate.best(cells, 100 * 1024, 512 * 1024)
    for row, cell in zip(rows, cells, strict=True):
        words = {"best", "fits"} & set(row.split())
        assert words == ({"best"} if cell == best else {"fits"} if cell.fits(100 * 1024, 512 * 1024) else set())
    nothing = f"best: alpha {best.alpha:g} at {best.size}x{best.size}" if best else "nothing fits"
    assert last == f"100.0 KiB of RAM and 512.0 KiB of flash: {nothing}"


def test_grid_where_nothing_fits_says_so(run_program):
    run = run_program(MEMORY, "--grid", "--alphas=1", "--sizes=224", "--ram=64KiB")
    assert run.returncode == 0
    assert run.stdout.rstrip().endswith("nothing fits")


@pytest.mark.parametrize(("flag", "word"), [("--ram=256KB/s", "--ram=256KB/s"), ("--groups=3", "groups")])
def test_impossible_flags_are_named(run_program, flag, word):
    assert_refused(run_program(MEMORY, "--grid", flag), "error: ", word)


@pytest.mark.parametrize("text", ["", "KiB", "-1", "1e3", "256KB/s", "1.2.3MB"])
def test_what_is_no_size_is_named(text):
    with pytest.raises(ValueError, match=re.escape(f"--flash={text}: ")):
        parse_bytes("flash", text)


@pytest.mark.parametrize(("texts", "kind"), [(["0.5", "a"], float), (["96.5"], int), ([], int)])
def test_what_is_no_list_of_numbers_is_named(texts, kind):
    with pytest.raises(ValueError, match=f"--sizes.*{''.join(texts[-1:])}"):
        parse_numbers("sizes", texts, kind)


@pytest.mark.parametrize(
    ("text", "size"), [("262144", 262144), ("256KiB", 262144), ("1.5 mib", 1572864), ("300kB", 300000), ("2B", 2)]
)
def test_sizes_are_read(text, size):
    assert parse_bytes("ram", text) == size
