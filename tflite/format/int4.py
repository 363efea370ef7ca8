"""Stores kernels of an int8 .tflite file in four bits, which LiteRT and TensorFlow Lite Micro (TFLM) both run.

TensorFlow's converter does not write four bits. So the weights are rounded to 15 levels before conversion
(`int8.gptq`), the converter maps them to its 255 levels, and here they are mapped back: each level is exactly a
four-bit level, with a larger scale.
"""

import copy
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from fd_keras.tflite.format.draft import Draft
from fd_keras.tflite.format.flatbuffer import pack, parse
from fd_keras.tflite_file import kind_of

_FINE, _COARSE = 127, 7  # the largest levels in eight and in four bits
_KINDS = ("CONV_2D", "FULLY_CONNECTED")


def store(data: bytes) -> bytes:
    """Stores all kernels that only use 15 levels in four bits; the network stays the same.

    Args:
        data: An int8 .tflite file with one graph, and a scale for each output channel.
    """
    model = parse(data)
    draft, (graph,) = Draft(model), model.subgraphs
    for op in graph.operators:
        kind = kind_of(model, op)
        levels = coarse_levels(model, graph.tensors[op.inputs[1]]) if kind in _KINDS else None
        if levels is not None:
            _store(model, *(graph.tensors[index] for index in op.inputs[1:3] if index >= 0), levels=levels)
        if levels is not None and kind == "FULLY_CONNECTED":
            _as_convolution(draft, graph, op)
        else:
            draft.operators.append(op)
    return pack(draft.finished())


def _as_convolution(draft: Draft, graph: Any, op: Any) -> None:
    """Adds a dense layer as a 1x1 convolution, since TFLM's dense layer uses a single scale for an int4 kernel."""
    source, kernel, output = int(op.inputs[0]), graph.tensors[op.inputs[1]], int(op.outputs[0])
    outputs, inputs = (int(side) for side in kernel.shape)
    kernel.shape = np.array([outputs, 1, 1, inputs], "int32")
    pixel, result = draft.tensor(source, [1, 1, 1, inputs]), draft.tensor(output, [1, 1, 1, outputs])
    options = {"fusedActivationFunction": op.builtinOptions.fusedActivationFunction, "padding": schema.Padding.VALID}
    draft.add("RESHAPE", [source, draft.numbers([1, 1, 1, inputs])], pixel)
    draft.add("CONV_2D", [pixel, *op.inputs[1:]], result, strideW=1, strideH=1, **options)
    draft.add("RESHAPE", [result, draft.numbers([1, outputs])], output)


def coarse_levels(model: Any, kernel: Any) -> np.ndarray | None:
    """The levels of a kernel, from -7 to 7; None unless each output (the first axis) only uses 15 levels."""
    if kernel.type != schema.TensorType.INT8 or kernel.quantization is None:
        return None
    fine = np.frombuffer(bytes(model.buffers[kernel.buffer].data), "int8").reshape(kernel.shape).astype(int)
    coarse = np.round(fine * _COARSE / _FINE).astype(int)
    exact = (np.abs(fine - coarse * _FINE / _COARSE) <= 0.5).all()
    return coarse if exact and len(kernel.quantization.scale) == len(fine) else None


def packed(levels: np.ndarray) -> np.ndarray:
    """Packs two levels per byte, the first in the lower half."""
    flat = np.resize(levels.ravel(), -(-levels.size // 2) * 2) & 15
    return (flat[::2] | flat[1::2] << 4).astype("uint8")


def _store(model: Any, kernel: Any, bias: Any = None, *, levels: np.ndarray) -> None:
    model.buffers[kernel.buffer].data = packed(levels)
    kernel.type = schema.TensorType.INT4
    _rescale(kernel)
    if bias is not None:  # its scale is the kernel's scale times the input's
        fine = np.frombuffer(bytes(model.buffers[bias.buffer].data), "<i4")
        model.buffers[bias.buffer].data = np.round(fine * (_COARSE / _FINE)).astype("<i4").view("uint8")
        _rescale(bias)


def _rescale(tensor: Any) -> None:
    tensor.quantization = copy.copy(tensor.quantization)
    tensor.quantization.scale = tensor.quantization.scale * np.float32(_FINE / _COARSE)
