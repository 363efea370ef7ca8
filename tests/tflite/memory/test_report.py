import os
import re
from pathlib import Path

import pytest

from fd_keras import zoo
from fd_keras.tflite.format.flatbuffer import read
from fd_keras.tflite.int8.camera_bytes import convert_in_xnnpack
from fd_keras.tflite.int8.packed_pixels import pack_pixels
from fd_keras.tflite.memory import estimate
from fd_keras.tflite.memory.arena import plan, tflm_bytes
from fd_keras.tflite.memory.report import grid_records, grid_table, report, tables, verdict


@pytest.fixture(scope="module")
def file(convert_tiny):
    path = convert_tiny("int8")
    return path, read(path)


@pytest.fixture(scope="module")
def facts(file) -> dict:
    path, content = file
    return report(path, content, plan(content.network))


def test_needs_of_a_file(file, facts):
    path, content = file
    arena = max(tensor["offset"] + -(-tensor["bytes"] // 16) * 16 for tensor in facts["arena"])
    assert facts["flash"]["bytes"] == os.path.getsize(path)
    assert facts["activations"] == plan(content.network).arena == arena
    assert facts["in_place"] <= facts["fused"] <= facts["activations"]
    assert facts["tflm"] == tflm_bytes(content.network)
    assert facts["macs"] == sum(op["macs"] for op in facts["ops"]) == 32 * 48 * 27 * 8 + 8 * 4
    alive = [t["bytes"] for t in facts["arena"] if t["first"] <= facts["peak"] <= t["last"]]
    assert sum(alive) == facts["ops"][facts["peak"]]["alive"] == max(op["alive"] for op in facts["ops"])


def test_needs_of_a_file_as_text(file, facts):
    _, content = file
    text, whole = tables(facts, 2**18, 2**19), plan(content.network)
    rows = re.findall(r"^ *(\d+)  ([A-Z_0-9]+) .* ([\d,]+)(  <- peak)?$", text, re.M)
    assert [(int(number), kind) for number, kind, *_ in rows] == list(enumerate(op.kind for op in content.network.ops))
    assert [int(alive.replace(",", "")) for _, _, alive, _ in rows] == [
        whole.live_bytes(time) for time in range(len(content.network.ops))
    ]
    assert [bool(mark) for *_, mark in rows].index(True) == whole.peak
    assert f"{whole.arena:,}  {whole.arena / 1024:.1f} KiB, as TFLM plans them" in text
    assert text.endswith("256.0 KiB of RAM and 512.0 KiB of flash: fits")


def test_a_file_for_phones_comes_with_a_warning(convert_tiny, facts, tmp_path):
    path = tmp_path / "phone.tflite"
    path.write_bytes(convert_in_xnnpack(pack_pixels(Path(convert_tiny("int8")).read_bytes())))
    content = read(str(path))
    found = report(str(path), content, plan(content.network))
    assert (facts["for_phones"], found["for_phones"]) == (False, True)
    (line,) = re.findall("^warning: .*$", tables(found, 2**18, 2**19), re.M)
    assert all(word in line for word in ("for phones (XNNPACK)", "--c_array", "--max_ram", "--noxnnpack"))
    assert "warning" not in tables(facts, 2**18, 2**19)


def test_verdict_says_what_is_missing():
    assert verdict(2048, 1024, 2048, 1024).endswith("flash: fits")
    assert verdict(3072, 1024, 2048, 1024).endswith("flash: needs 1.0 KiB more RAM")
    assert verdict(3072, 4096, 2048, 1024).endswith("needs 1.0 KiB more RAM, needs 3.0 KiB more flash")


@pytest.fixture(scope="module")
def cells() -> list[estimate.GridCell]:
    return estimate.cells(zoo.get_arch("mobilenet"), [0.25, 1], [64, 96], 1000)


def test_the_grid_as_data_marks_what_fits_and_the_best(cells):
    limits = cells[1].ram, 2**30  # all but the last, which needs more RAM than the second
    records = grid_records(cells, estimate.best(cells, *limits), *limits)
    assert [record["macs"] for record in records] == [cell.macs for cell in cells]
    assert [record["fits"] for record in records] == [cell.fits(*limits) for cell in cells]
    assert not all(record["fits"] for record in records)
    (best,) = (record for record in records if record["best"])
    assert best["macs"] == max(record["macs"] for record in records if record["fits"])


def test_the_grid_as_text_marks_what_fits_and_the_best(cells):
    ram, flash = 100 * 1024, 1024 * 1024
    best = estimate.best(cells, ram, flash)
    head, *rows, blank, last = grid_table(cells, best, ram, flash).split("\n")
    assert head.startswith("alpha  size")
    assert blank == ""
    assert [row.split()[:2] for row in rows] == [["0.25", "64"], ["0.25", "96"], ["1", "64"], ["1", "96"]]
    for row, cell in zip(rows, cells, strict=True):
        words = {"best", "fits"} & set(row.split())
        assert words == ({"best"} if cell == best else {"fits"} if cell.fits(ram, flash) else set())
    assert best
    assert last == f"100.0 KiB of RAM and 1024.0 KiB of flash: best: alpha {best.alpha:g} at {best.size}x{best.size}"


def test_a_grid_where_nothing_fits_says_so(cells):
    assert grid_table(cells, None, 1, 1).endswith("nothing fits")
