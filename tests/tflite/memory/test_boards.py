"""Tests boards, and whether a network fits them."""

import re

import pytest

from fd_keras.errors import UsageError
from fd_keras.tflite.format.network import FileNetwork, FileOp, FileTensor, Window
from fd_keras.tflite.memory import boards, scratch
from fd_keras.tflite.memory.arena import tflm_bytes
from fd_keras.tflite.memory.boards import BOARDS, BoardFit

KIB = 1 << 10


def network(side: int) -> FileNetwork:
    """A 3x3 convolution whose input and output both have 16 channels and the same size."""
    tensors = [FileTensor("", "INT8", (1, side, side, 16)), FileTensor("", "INT8", (1, side, side, 16))]
    kernel = FileTensor("", "INT8", (16, 3, 3, 16), True)
    return FileNetwork((*tensors, kernel), (FileOp("CONV_2D", (0, 2), (1,), Window((3, 3))),), (0,), (1,))


def fit(name: str, side: int, file: int = 100 * KIB) -> BoardFit:
    return BoardFit.of(boards.get_board(name), network(side), file, 64 * KIB)


def test_every_board_has_a_source_and_more_ram_than_the_reserve():
    for board in BOARDS.values():
        assert re.search(r"^[\w-]+/[\w-]+: \S", board.source), board
        assert all(size > 0 for size in boards.free(board, 64 * KIB))


def test_unknown_board_lists_the_known_ones():
    with pytest.raises(UsageError, match=re.escape(f"(there are {', '.join(BOARDS)})")):
        boards.get_board("pico3")


def test_needs_are_counted_with_the_board_s_kernels():
    """With and without vector instructions, CMSIS-NN requests two windows of the image in int16."""
    found = fit("nano-33-ble", 64)
    assert (found.activations, found.scratch) == (2 * 64 * 64 * 16, 2 * 2 * 3 * 3 * 16)
    assert found.arena == found.activations + found.scratch + tflm_bytes(network(64))
    assert found.free == (192 * KIB, 896 * KIB)
    assert (found.place, found.fits) == ("SRAM", True)
    assert fit("esp32-s3-eye", 64).board.kernels is scratch.ESP_NN
    assert fit("esp32-s3-eye", 64).scratch > 2 * 64 * 64 * 16


def test_missing_memory_and_the_fix_are_named():
    found = fit("nano-33-ble", 96, file=1024 * KIB)  # 288 KiB of activations
    assert (found.place, found.fits) == (None, False)
    text = found.text()
    assert "1024.0 KiB of 896.0 KiB: needs 128.0 KiB more" in text
    assert f"{found.arena / KIB:.1f} KiB of 192.0 KiB: needs {found.arena / KIB - 192:.1f} KiB more" in text
    assert "--max_ram=191KiB" in text  # the rest is scratch memory
    assert "PSRAM" not in text


def test_both_the_arena_and_the_file_must_fit():
    assert fit("nano-33-ble", 64, 896 * KIB).fits
    assert not fit("nano-33-ble", 64, 897 * KIB).fits
    assert not fit("nano-33-ble", 128).fits


def test_an_arena_in_psram():
    found = fit("stm32f746g-disco", 96)
    assert (found.place, found.fits) == ("PSRAM", True)
    assert "PSRAM  " in found.text()
    assert "split" not in found.text()
    assert fit("stm32f746g-disco", 600).place is None


def test_activations_that_fit_without_tflm_s_tables():
    found = BoardFit(BOARDS["stm32f746g-disco"], 250 * KIB, KIB, 30 * KIB, KIB, 64 * KIB)
    assert found.place == "PSRAM"
    assert "split  the activations fit into SRAM" in found.text()


def test_record_contains_the_needs():
    found = fit("pico", 32).record()
    assert found["kernels"] == "CMSIS-NN"
    assert (found["sram"], found["psram"], found["place"], found["fits"]) == (264 * KIB, 0, "SRAM", True)
