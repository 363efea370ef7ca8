"""Scratch memory that kernels request in TFLM's arena while a layer runs, by kernel library.

The formulas are from the vendors' sources as of August 2026: `*_get_buffer_size*` of CMSIS-NN (99f736a6 of
ARM-software/CMSIS-NN; Source/ConvolutionFunctions, FullyConnectedFunctions and PoolingFunctions),
`esp_nn_get_*_scratch_size_esp32s3` of ESP-NN (d45b843 of espressif/esp-nn; src/convolution and src/softmax), and what
TFLM's layers around them request (kernels/cmsis_nn in 90b983c of tensorflow/tflite-micro, kernels/esp_nn in 99f49e1 of
espressif/esp-tflite-micro). For dilated layers, for which CMSIS-NN requests less, they are upper bounds.
"""

import dataclasses
import math
from collections.abc import Callable

from fd_keras.tflite.format.network import WEIGHTED, FileNetwork, FileOp


@dataclasses.dataclass(frozen=True)
class LayerSizes:
    """Sizes of a convolution or pooling, as the formulas need them.

    Attributes:
        image: Rows, columns and channels of the input.
        result: Rows, columns and channels of the output.
        window: Rows and columns of the window.
        strides: Strides along rows and columns.
        padding: Rows above and columns to the left that the kernel adds.
        grouped: Whether each output channel depends on only a part of the input channels.
    """

    image: tuple[int, ...]
    result: tuple[int, ...]
    window: tuple[int, int]
    strides: tuple[int, int]
    padding: tuple[int, ...]
    grouped: bool = False

    @classmethod
    def of(cls, network: FileNetwork, op: FileOp) -> "LayerSizes | None":
        """Computes the sizes of an op; returns None unless it is a convolution or pooling."""
        shapes = [network.tensors[index].shape for index in (*op.inputs[:1], *op.outputs[:1])]
        if op.window is None or [len(shape) for shape in shapes] != [4, 4]:
            return None
        (_, *image), (_, *result) = shapes
        window = op.window
        totals = [  # total padding as TFLM computes it, which is 0 for "VALID"
            (result[axis] - 1) * window.strides[axis]
            + (window.size[axis] - 1) * window.dilations[axis]
            + 1
            - image[axis]
            for axis in range(2)
        ]
        padding = tuple(max(total, 0) // 2 for total in totals)
        grouped = op.kind == "CONV_2D" and network.tensors[op.inputs[1]].shape[-1] != image[-1]
        return cls(tuple(image), tuple(result), window.size, window.strides, padding, grouped)

    @property
    def pointwise(self) -> bool:
        """Whether the window is a single pixel, without padding."""
        return self.window == (1, 1) and self.padding == (0, 0)


@dataclasses.dataclass(frozen=True)
class KernelLibrary:
    """A library of kernels for TFLM.

    Attributes:
        title: Name that is shown to users.
        unpacks: Whether int4 kernels are unpacked into the arena.
        layer_bytes: Functions that compute the scratch memory of a layer in bytes, by kind of operation.
        dense_bytes: Scratch memory in bytes per output of a dense layer.
        softmax_bytes: Scratch memory in bytes per output of a softmax.
    """

    title: str
    unpacks: bool = True
    layer_bytes: dict[str, Callable[[LayerSizes], int]] = dataclasses.field(default_factory=dict)
    dense_bytes: int = 0
    softmax_bytes: int = 0

    def unpacked(self, network: FileNetwork, op: FileOp) -> int:
        """Bytes for unpacking the op's int4 kernel; 0 if it has none, or the library does not unpack it."""
        if not self.unpacks or op.kind not in WEIGHTED or len(op.inputs) < 2:
            return 0
        kernel = network.tensors[op.inputs[1]]
        return math.prod(kernel.shape) if kernel.dtype == "INT4" else 0

    def scratch(self, network: FileNetwork, op: FileOp) -> int:
        """Bytes of scratch memory that the op requests, without `unpacked`; float layers request none."""
        if not op.inputs or network.tensors[op.inputs[0]].dtype != "INT8":
            return 0
        outputs = math.prod(network.tensors[op.outputs[0]].shape[1:])
        if op.kind in ("FULLY_CONNECTED", "SOFTMAX"):
            return outputs * (self.dense_bytes if op.kind == "FULLY_CONNECTED" else self.softmax_bytes)
        sizes = LayerSizes.of(network, op)
        return self.layer_bytes[op.kind](sizes) if sizes and op.kind in self.layer_bytes else 0


def _up(number: int, unit: int = 16) -> int:
    return -(-number // unit) * unit


# --- CMSIS-NN ----------------------------------------------------------------------------------------------

_MVE_BLOCK = 124  # CH_IN_BLOCK_MVE


def _cmsis_conv(sizes: LayerSizes) -> int:
    """Two windows of the image in int16."""
    return 0 if sizes.pointwise and not sizes.grouped else 2 * 2 * _up(math.prod(sizes.window) * sizes.image[2], 4)


def _cmsis_conv_dsp(sizes: LayerSizes) -> int:
    """Like `_cmsis_conv`; a pointwise convolution requests two pixels if it is compiled with Arm's own compiler."""
    fast = sizes.pointwise and not sizes.grouped and sizes.strides == (1, 1)
    return 2 * 2 * sizes.image[2] if fast else _cmsis_conv(sizes)


def _cmsis_depthwise_dsp(sizes: LayerSizes) -> int:
    small = sizes.window == (3, 3) and max(sizes.padding) <= 1
    multiplied = sizes.image[2] != sizes.result[2]
    return 0 if small or multiplied else 2 * math.prod(sizes.window) * sizes.image[2]


def _cmsis_conv_mve(sizes: LayerSizes) -> int:
    """Four windows of the image, padded to whole vectors."""
    return 0 if sizes.pointwise and not sizes.grouped else 4 * _up(math.prod(sizes.window) * sizes.image[2])


def _cmsis_depthwise_mve(sizes: LayerSizes) -> int:
    area, channels, outputs = math.prod(sizes.window), sizes.image[2], sizes.result[2]
    if channels == 1 < outputs:  # runs as a convolution
        return _cmsis_conv_mve(sizes) + area * outputs
    return 4 * _MVE_BLOCK * area if channels == outputs else 0


# --- ESP-NN on an ESP32-S3 ---------------------------------------------------------------------------------

_WHOLE_IMAGE, _WHOLE_LAYER = 40 * 1024, 48 * 1024  # bytes; larger ones are copied row by row


def _esp_conv(sizes: LayerSizes) -> int:
    (height, width, channels), outputs = sizes.image, sizes.result[2]
    if sizes.pointwise and sizes.strides == (1, 1):
        wide = _up(channels, 8)
        copied = height * width * wide if channels % 8 else 0
        return copied + wide * outputs + (16 * wide if height * width >= 8 else 0) + 64
    row, window = sizes.window[1] * channels, math.prod(sizes.window) * channels
    if row < 16 <= window:
        return 4 * outputs + 16 + outputs * _up(window) + 16 + _up(window) + 64
    kernels = outputs * (math.prod(sizes.window) * _up(channels) + sizes.window[0] * _up(row))
    return _esp_padded(sizes) + _esp_bordered(sizes) + kernels + 64 + 4 * outputs


def _esp_padded(sizes: LayerSizes) -> int:
    (height, width, channels), (above, left) = sizes.image, sizes.padding
    return (width + 2 * left) * (height + 2 * above) * channels if above or left else 0


def _esp_bordered(sizes: LayerSizes) -> int:
    """The image with the rows below and the columns on the right that the last windows need."""
    below, right = (max(0, border) for border in _borders(sizes))
    return (sizes.image[1] + right) * (sizes.image[0] + below) * sizes.image[2] if below or right else 0


def _borders(sizes: LayerSizes) -> list[int]:
    return [sizes.result[axis] * sizes.strides[axis] + sizes.window[axis] - 1 - sizes.image[axis] for axis in range(2)]


def _esp_depthwise(sizes: LayerSizes) -> int:
    channels, outputs = sizes.image[2], sizes.result[2]
    if channels != outputs:
        return _esp_doubled(sizes) if outputs // channels % 4 == 0 else 32
    if channels % 8 == 0 and sizes.window == (3, 3) and channels >= 12:
        return _esp_vectors(sizes) if channels % 16 == 0 else _esp_widened(sizes)
    if channels % 8 == 0:
        return _esp_by_rows(sizes)
    return _esp_in_eights(sizes) if channels > 3 else 32


def _esp_doubled(sizes: LayerSizes) -> int:
    """The kernel and the image in int16."""
    return 2 * (math.prod(sizes.window) * sizes.result[2] + math.prod(sizes.image)) + 32


def _esp_vectors(sizes: LayerSizes) -> int:
    """3x3 with whole vectors of channels: the kernel, and the padded image or three rows of it."""
    height, width, channels = sizes.image
    rows, columns = [2 * side for side in sizes.padding] if any(sizes.padding) else _borders(sizes)
    image = (width + columns) * (height + rows) * channels if rows or columns else 0
    copied = image if image <= _WHOLE_IMAGE else (width + columns) * sizes.window[0] * channels
    return 9 * channels + copied + 16


def _esp_widened(sizes: LayerSizes) -> int:
    """3x3 with channels padded to whole vectors: the kernel, the image and the result."""
    wide, (below, right) = _up(sizes.image[2]), (max(0, border) for border in _borders(sizes))
    rows, columns = 2 * sizes.padding[0] + below, 2 * sizes.padding[1] + right
    image = (sizes.image[1] + columns) * (sizes.image[0] + rows) * wide
    return 9 * wide + image + sizes.result[0] * sizes.result[1] * wide + 64


def _esp_by_rows(sizes: LayerSizes) -> int:
    """The kernel and the image in int16; for a large image only the rows of a window, unless the window is 3x3."""
    whole = _esp_doubled(sizes)
    if sizes.window == (3, 3) or whole - 32 <= _WHOLE_LAYER:
        return whole
    rows = sizes.image[1] * sizes.window[0] * sizes.image[2]
    return 2 * (math.prod(sizes.window) * sizes.image[2] + rows) + 32


def _esp_in_eights(sizes: LayerSizes) -> int:
    """Channels padded to multiples of 8: the kernel and the image in int16, the result, three tables of channels."""
    wide = _up(sizes.image[2], 8)
    kernel, image = (2 * wide * math.prod(sides[:2]) for sides in (sizes.window, sizes.image))
    result = sizes.result[0] * sizes.result[1] * wide
    return _up(_up(_up(kernel) + image) + result) + 3 * 4 * wide + 16


# --- libraries ---------------------------------------------------------------------------------------------

TFLM = KernelLibrary("TFLM's own kernels")
CMSIS_NN = KernelLibrary("CMSIS-NN", False, {"CONV_2D": _cmsis_conv})
CMSIS_NN_DSP = KernelLibrary(
    "CMSIS-NN (DSP)",
    False,
    {
        "CONV_2D": _cmsis_conv_dsp,
        "DEPTHWISE_CONV_2D": _cmsis_depthwise_dsp,
        "AVERAGE_POOL_2D": lambda sizes: 4 * sizes.image[2],
    },
)
CMSIS_NN_MVE = KernelLibrary(
    "CMSIS-NN (MVE)",
    False,
    {"CONV_2D": _cmsis_conv_mve, "DEPTHWISE_CONV_2D": _cmsis_depthwise_mve},
    dense_bytes=4,
)
ESP_NN = KernelLibrary("ESP-NN", True, {"CONV_2D": _esp_conv, "DEPTHWISE_CONV_2D": _esp_depthwise}, softmax_bytes=4)
CORTEX_M = (CMSIS_NN, CMSIS_NN_DSP, CMSIS_NN_MVE)
