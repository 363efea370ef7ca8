"""Bounds of scratch memory, against the vendors' formulas by hand."""

import pytest

from fd_keras.tflite.format.network import FileNetwork, FileOp, FileTensor
from fd_keras.tflite.mcu import scratch


def one(kind: str, image: tuple[int, ...], kernel: tuple[int, ...]) -> FileNetwork:
    tensors = FileTensor("image", "INT8", image), FileTensor("kernel", "INT8", kernel, True), FileTensor("", "INT8", ())
    return FileNetwork(tensors, (FileOp(kind, (0, 1), (2,)),), (0,), (2,))


@pytest.mark.parametrize(
    ("kind", "image", "kernel", "asked"),
    [
        ("CONV_2D", (1, 225, 225, 3), (8, 3, 3, 3), 4 * 28),  # arm_convolve_s8_get_buffer_size: 27 in fours
        ("DEPTHWISE_CONV_2D", (1, 7, 7, 512), (1, 5, 5, 512), 2 * 512 * 25),  # ..._opt_get_buffer_size_dsp
        ("DEPTHWISE_CONV_2D", (1, 20, 20, 64), (1, 3, 3, 64), 4 * 124 * 9),  # ..._opt_get_buffer_size_mve
        ("FULLY_CONNECTED", (1, 256), (5, 256), 4 * 5),
    ],
)
def test_cmsis_nn(kind, image, kernel, asked):
    assert asked <= scratch.cmsis_nn_bytes(one(kind, image, kernel)) <= asked + 16 * 4


@pytest.mark.parametrize(
    ("kind", "image", "kernel", "asked"),
    [
        ("CONV_2D", (1, 7, 7, 256), (256, 1, 1, 256), 256 * 256 + 16 * 256 + 64),
        ("CONV_2D", (1, 14, 14, 12), (32, 1, 1, 12), 14 * 14 * 16 + 16 * 32 + 16 * 16 + 64),
        ("CONV_2D", (1, 225, 225, 3), (8, 3, 3, 3), 8 * 4 + 16 + 8 * 32 + 16 + 32 + 64),
        ("CONV_2D", (1, 14, 14, 16), (32, 3, 3, 16), 16 * 16 * 16 + 9 * 16 * 32 + 48 * 3 * 32 + 64 + 32 * 4),
        ("DEPTHWISE_CONV_2D", (1, 14, 14, 128), (1, 3, 3, 128), 9 * 128 + 16 * 16 * 128 + 16),
    ],
)
def test_esp_nn(kind, image, kernel, asked):
    assert scratch.esp_nn_bytes(one(kind, image, kernel)) >= asked


def test_layers_share_the_memory():
    network = one("FULLY_CONNECTED", (1, 256), (5, 256))
    assert scratch.esp_nn_bytes(network) == 0
    assert scratch.cmsis_nn_bytes(FileNetwork(network.tensors, network.ops * 2, (0,), (2,))) == 20
