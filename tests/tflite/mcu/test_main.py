"""`fd-keras export-mcu` as a user runs it."""

import re
import shutil
from pathlib import Path

import pytest

from fd_keras.tflite.format.flatbuffer import read
from fd_keras.tflite.int8.camera_bytes import convert_in_xnnpack
from fd_keras.tflite.int8.packed_pixels import pack_pixels
from fd_keras.tflite.memory.arena import plan, tflm_bytes
from fd_keras.tflite.memory.scratch import ESP_NN

MCU = "fd_keras.tflite.mcu"
OUT = "--output_dir=project"


def test_what_it_takes_and_where_to_go_on_is_printed(exported):
    lines = exported.output.splitlines()
    assert lines[0].startswith(f"{exported.tflite}: ")
    network = read(exported.tflite).network
    ram = plan(network, ESP_NN).arena + tflm_bytes(network)
    assert re.search(
        rf" KiB of flash, about .* of RAM \(up to .* with CMSIS-NN, .*; {ram / 1024:.1f} KiB with ESP-NN\)$", lines[0]
    )
    component = (exported.folder / "esp32s3/main/CMakeLists.txt").read_text()
    assert f"SCRATCH_BYTES={plan(network, ESP_NN).arena - plan(network).arena})" in component
    assert lines[1] == "next: cat project/README.md"


def test_a_photo_a_board_and_numbers_for_names(run_program, convert_tiny, photos, tmp_path):
    flags = (f"--photo={photos / '000.png'}", "--camera=100x80", "--board=nano-33-ble", "--reserve=100KiB")
    run = run_program(MCU, convert_tiny("int8", io="int8"), OUT, *flags)
    run.assert_done()
    assert "class names are unknown" in run.stdout
    assert "Arduino Nano 33 BLE Sense" in run.stdout
    assert re.search(r"SRAM .* KiB of 156\.0 KiB: fits \(100\.0 KiB kept", run.stdout)
    folder = tmp_path / "project" / "classifier"
    assert '"class 0", "class 1"' in (folder / "labels.cc").read_text()
    header = (folder / "classifier.h").read_text()
    assert "InputValue = std::int8_t" in header
    assert "kInputZeroPoint = -128" in header
    assert "kTestFrameWidth = 100" in (folder / "self_test_data.h").read_text()


def test_a_model_too_large_for_a_board_is_written_with_a_warning(run_program, convert_tiny, tmp_path):
    run = run_program(MCU, convert_tiny("int8"), OUT, "--board=nano-33-ble", "--reserve=256KiB")
    run.assert_done()
    assert "does not fit on this board" in run.stdout
    assert (tmp_path / "project" / "README.md").exists()


def test_an_existing_folder_is_left_alone(run_program, convert_tiny, tmp_path):
    (tmp_path / "project").mkdir()
    run_program(MCU, convert_tiny("int8"), OUT).assert_refused("--output_dir=project: already exists")
    assert not list((tmp_path / "project").iterdir())


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ([], "one int8 .tflite file"),
        (["net.keras"], "one int8 .tflite file"),
        (["gone.tflite"], "gone.tflite"),
        (["a.tflite", "--camera=320"], "--camera=320"),
        (["a.tflite", "--camera=8x8"], "--camera=8x8"),
        (["a.tflite", "--board=uno"], "--board=uno: unknown board"),
        (["a.tflite", "--photo=gone.jpg"], "--photo=gone.jpg"),
        (["a.tflite", "--labels=gone.txt"], "--labels=gone.txt"),
    ],
)
def test_invalid_arguments_are_named(run_program, arguments, word, tmp_path):
    run_program(MCU, OUT, *arguments).assert_refused(word)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("recipe", "arguments", "word"),
    [
        ("float32", {}, "its input is float32"),
        ("int8", {"io": "float32"}, "its input is float32"),
        ("int8", {"include_preprocessing": False}, "--include_preprocessing"),
    ],
)
def test_files_without_raw_pixels_are_refused(run_program, convert_tiny, recipe, arguments, word, tmp_path):
    path = convert_tiny(recipe, **arguments)
    run_program(MCU, path, OUT).assert_refused(path, word)
    assert not list(tmp_path.iterdir())


def test_files_for_phones_are_rejected_with_the_fix(run_program, converted, tmp_path):
    data = Path(converted("fd_mobilenet", "int8").path).read_bytes()
    (tmp_path / "phone.tflite").write_bytes(convert_in_xnnpack(pack_pixels(data)))
    run_program(MCU, "phone.tflite", OUT).assert_refused(
        "phone.tflite: arranged for phones", "--c_array", "--noxnnpack"
    )
    assert not (tmp_path / "project").exists()


def test_damaged_file_is_named(run_program, convert_tiny, tmp_path):
    path = Path(shutil.copy(convert_tiny("int8"), tmp_path / "cut.tflite"))
    path.write_bytes(path.read_bytes()[:500])
    run_program(MCU, "cut.tflite", OUT).assert_refused("cut.tflite")
