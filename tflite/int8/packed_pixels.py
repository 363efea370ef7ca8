"""Packs the pixels of a narrow first convolution, so that it fills the tiles of XNNPACK's kernels.

A tile has 16 channels in int8. A first convolution with 8 channels leaves half of each tile empty, and loops over only
3 values for each of the 9 pixels in its window. This module therefore treats adjacent pixels as one pixel with more
channels, in the image and in the output: the values keep their places in memory, and the outputs are bit-identical.
Only the kernel is rearranged, with zeros for the columns of a group that an output does not need. The zeros cost
nothing where they fill empty tiles, but processors without SIMD, such as microcontrollers, multiply by them.
"""

import copy
import dataclasses
from typing import Any

import numpy as np

from fd_keras.tflite.format.draft import Draft
from fd_keras.tflite.format.flatbuffer import pack, parse
from fd_keras.tflite_file import kind_of, type_of

TILE = 16  # channels per tile in XNNPACK's int8 kernels for ARM
_VALID = 1  # schema.Padding
_COLUMNS = 2  # axis of the columns in (batch, height, width, channels)


@dataclasses.dataclass(frozen=True)
class _Opening:
    """The concatenation that adds the frame's columns, and the convolution after it.

    Attributes:
        frame: Operation that concatenates the columns with the image.
        conv: The convolution.
        left: Number of columns on the left.
        window: Width of the kernel.
        stride: Stride along the width.
        pixels: Number of adjacent output pixels that form a group.
    """

    frame: Any
    conv: Any
    left: int
    window: int
    stride: int
    pixels: int

    @property
    def group(self) -> int:
        """Number of image columns that form a group."""
        return self.stride * self.pixels


def pack_pixels(data: bytes) -> bytes:
    """Packs the pixels of the first convolution.

    Args:
        data: Content of a .tflite file.

    Returns:
        Content of a file with the same outputs, or `data` unless the first convolution is int8, has 8, 4, 2 or 1
        channels, and takes the image with a frame around it, as in files of the int8 recipe.
    """
    model = parse(data)
    draft = Draft(model)
    opening = _opening(model, draft)
    if opening is None:
        return data
    for op in model.subgraphs[0].operators:
        if op is opening.conv:
            _add_convolution(draft, opening, _add_frame(draft, opening))
        elif op is not opening.frame:
            draft.operators.append(op)
    return pack(draft.finished())


def _opening(model: Any, draft: Draft) -> _Opening | None:
    """Finds the part to rewrite; None if the first convolution cannot be packed."""
    (graph,) = model.subgraphs
    conv = next((op for op in graph.operators if kind_of(model, op) == "CONV_2D"), None)
    if conv is None or len(conv.inputs) != 3 or type_of(graph.tensors[conv.inputs[1]]) != "INT8":
        return None
    frame = next((op for op in graph.operators if conv.inputs[0] in op.outputs), None)
    takers = [op for op in graph.operators if conv.inputs[0] in op.inputs]
    if frame is None or len(takers) > 1 or kind_of(model, frame) != "CONCATENATION":
        return None
    return _opening_of(draft, frame, conv)


def _opening_of(draft: Draft, frame: Any, conv: Any) -> _Opening | None:
    left, image, *_ = frame.inputs
    channels, _, window, _ = draft.shape(conv.inputs[1])
    options, width, columns = conv.builtinOptions, draft.shape(image)[_COLUMNS], draft.shape(left)[_COLUMNS]
    plain = options.padding == _VALID and options.dilationWFactor == options.dilationHFactor == 1
    constants = all(draft.values(index) is not None for index in (left, *conv.inputs[1:]))
    if not plain or not constants or frame.builtinOptions.axis != _COLUMNS or TILE % channels:
        return None
    opening = _Opening(frame, conv, columns, window, options.strideW, TILE // channels)
    # A group of outputs needs columns of its own group and of the previous one.
    near = columns <= opening.group and window - columns <= opening.stride
    whole = width % opening.group == 0 and draft.shape(conv.outputs[0])[_COLUMNS] == width // opening.stride
    return opening if opening.pixels > 1 and near and whole else None


def _add_frame(draft: Draft, opening: _Opening) -> int:
    """Adds one group of frame columns, on the left only; returns the image reshaped to groups."""
    left, image, *_ = opening.frame.inputs
    values = _values(draft, left)
    unused = [values[:, :, :1]] * (opening.group - opening.left)
    columns = draft.constant(left, np.concatenate([*unused, values], axis=_COLUMNS))
    batch, height, width, channels = draft.shape(image)
    framed = draft.tensor(image, (batch, height, width + opening.group, channels))
    draft.repeat(opening.frame, [columns, image], framed, opening.frame.builtinOptions)
    groups = draft.tensor(image, (batch, height, width // opening.group + 1, opening.group * channels))
    return _reshape(draft, framed, groups)


def _add_convolution(draft: Draft, opening: _Opening, image: int) -> None:
    """Adds the convolution of groups, and the reshape of its output back to pixels."""
    _, kernel, bias = opening.conv.inputs
    (output,) = opening.conv.outputs
    kernel = draft.constant(kernel, _packed(_values(draft, kernel), opening), opening.pixels)
    bias = draft.constant(bias, np.concatenate([_values(draft, bias)] * opening.pixels), opening.pixels)
    batch, height, width, channels = draft.shape(output)
    groups = draft.tensor(output, (batch, height, width // opening.pixels, channels * opening.pixels))
    options = copy.copy(opening.conv.builtinOptions)
    options.strideW = 1
    draft.repeat(opening.conv, [image, kernel, bias], groups, options)
    _reshape(draft, groups, output)


def _packed(kernel: np.ndarray, opening: _Opening) -> np.ndarray:
    """Rearranges the kernel (channels, rows, columns, image channels) for groups: two groups wide, a copy per pixel."""
    outputs, rows, _, inputs, _ = kernel.shape
    packed = np.zeros((opening.pixels, outputs, rows, 2 * opening.group, inputs, 1), kernel.dtype)
    for pixel in range(opening.pixels):
        first = opening.group + opening.stride * pixel - opening.left
        packed[pixel, :, :, first : first + opening.window] = kernel
    return packed.reshape(opening.pixels * outputs, rows, 2, opening.group * inputs, 1)


def _values(draft: Draft, index: int) -> Any:
    """The values of a constant tensor."""
    return draft.values(index)


def _reshape(draft: Draft, source: int, target: int) -> int:
    shape = draft.shape(target)
    draft.add("RESHAPE", [source, draft.numbers(shape)], target, newShape=shape)
    return target
