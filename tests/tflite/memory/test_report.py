import os
import re
from pathlib import Path

import pytest

from fd_keras.tflite.format.flatbuffer import read
from fd_keras.tflite.int8.camera_bytes import convert_in_xnnpack
from fd_keras.tflite.int8.packed_pixels import pack_pixels
from fd_keras.tflite.memory.arena import plan, tflm_bytes
from fd_keras.tflite.memory.report import report, tables, verdict
from fd_keras.tflite.memory.scratch import ESP_NN


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
    assert facts["with_kernels"]["ESP-NN"] == plan(content.network, ESP_NN).arena
    assert facts["macs"] == sum(op["macs"] for op in facts["ops"]) == 32 * 48 * 27 * 8 + 8 * 4
    alive = [t["bytes"] for t in facts["arena"] if t["first"] <= facts["peak"] <= t["last"]]
    assert sum(alive) == facts["ops"][facts["peak"]]["alive"] == max(op["alive"] for op in facts["ops"])


def test_needs_of_a_file_as_text(file, facts):
    _, content = file
    text, whole = tables(facts, "it fits"), plan(content.network)
    rows = re.findall(r"^ *(\d+)  ([A-Z_0-9]+) .* ([\d,]+)(  <- peak)?$", text, re.M)
    assert [(int(number), kind) for number, kind, *_ in rows] == list(enumerate(op.kind for op in content.network.ops))
    assert [int(alive.replace(",", "")) for _, _, alive, _ in rows] == [
        whole.live_bytes(time) for time in range(len(content.network.ops))
    ]
    assert [bool(mark) for *_, mark in rows].index(True) == whole.peak
    assert f"{whole.arena:,}  {whole.arena / 1024:.1f} KiB, as TFLM plans them" in text
    assert re.search(rf"^by ESP-NN +{facts['with_kernels']['ESP-NN']:,}  ", text, re.M)
    assert text.endswith("\n\nit fits")


def test_file_for_phones_gets_a_warning(convert_tiny, facts, tmp_path):
    path = tmp_path / "phone.tflite"
    path.write_bytes(convert_in_xnnpack(pack_pixels(Path(convert_tiny("int8")).read_bytes())))
    content = read(str(path))
    found = report(str(path), content, plan(content.network))
    assert (facts["for_phones"], found["for_phones"]) == (False, True)
    (line,) = re.findall("^warning: .*$", tables(found, ""), re.M)
    assert all(word in line for word in ("for phones (XNNPACK)", "--c_array", "--max_ram", "--noxnnpack"))
    assert "warning" not in tables(facts, "")


def test_verdict_names_missing_memory():
    assert verdict(2048, 1024, 2048, 1024).endswith("flash: fits")
    assert verdict(3072, 1024, 2048, 1024).endswith("flash: needs 1.0 KiB more RAM")
    assert verdict(3072, 4096, 2048, 1024).endswith("needs 1.0 KiB more RAM, needs 3.0 KiB more flash")
