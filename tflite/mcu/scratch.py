"""Scratch memory that vendors' kernels ask for in TFLM's arena: upper bounds from the sizes of a network's layers.

The sizes are those of `*_get_buffer_size*` in CMSIS-NN's Source/ConvolutionFunctions and FullyConnectedFunctions,
for cores with and without vector instructions, and of `esp_nn_get_*_scratch_size_esp32s3` in ESP-NN's src/convolution
(both as of August 2026).
"""

import math

from fd_keras.tflite.format.network import WEIGHTED, FileNetwork, FileOp

_VECTOR = 16  # bytes that the vector instructions of both take at a time
_DEPTHWISE_BLOCK = 124  # CH_IN_BLOCK_MVE of CMSIS-NN


def cmsis_nn_bytes(network: FileNetwork) -> int:
    """At most what CMSIS-NN asks for: four windows of the image, or two bytes for each weight of a depthwise kernel."""
    return max((_cmsis_nn(network, op) for op in network.ops if op.kind in WEIGHTED), default=0)


def _cmsis_nn(network: FileNetwork, op: FileOp) -> int:
    outputs, *window = network.tensors[op.inputs[1]].shape
    if op.kind == "FULLY_CONNECTED":
        return 4 * outputs
    if op.kind == "DEPTHWISE_CONV_2D":
        rows, columns, channels = window
        return rows * columns * max(2 * channels, 4 * _DEPTHWISE_BLOCK)
    return 4 * _up(math.prod(window))


def esp_nn_bytes(network: FileNetwork) -> int:
    """At most what ESP-NN asks for on an ESP32-S3: the padded image twice, and the kernel twice in whole vectors."""
    return max((_esp_nn(network, op) for op in network.ops if op.kind.endswith("CONV_2D")), default=0)


def _esp_nn(network: FileNetwork, op: FileOp) -> int:
    outputs, rows, columns, channels = network.tensors[op.inputs[1]].shape
    _, height, width, depth = network.tensors[op.inputs[0]].shape
    kernel = outputs * rows * columns * _up(channels)
    if (rows, columns) == (1, 1) and op.kind == "CONV_2D":  # only the kernel, and the image unless it is in vectors
        return kernel + height * width * _up(depth) * (depth % 8 > 0) + 16 * _up(channels) + 64
    return 2 * (height + rows) * (width + columns) * _up(depth) + 2 * kernel + 4 * outputs * _VECTOR


def _up(number: int) -> int:
    return -(-number // _VECTOR) * _VECTOR
