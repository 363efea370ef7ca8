"""Stores the large kernels of a float32 .tflite file in eight bits; apart from their rounding, outputs do not change.

Detectors are sensitive: with a little noise in the scores, suppression keeps the other one of two nearly equal boxes.
The converter's "dynamic" recipe rounds all kernels, each weight to the nearest level, and quantizes activations on the
fly. Here small kernels stay in float, since the first layers have the fewest weights but cause the largest errors; the
rounding errors within a kernel cancel out; and the network computes in float32.
"""

import collections
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from fd_keras.tflite.format.flatbuffer import pack, parse
from fd_keras.tflite_file import kind_of

SHARE = 0.03  # minimum share of all weights for a kernel to be worth rounding
_LEVELS = 127
_CONVOLVED = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")
_DEPTHWISE = "DEPTHWISE_CONV_2D"  # has a hundredth of the weights, but each affects a whole channel


def store(content: bytes) -> bytes:
    """Stores large kernels in eight bits, each followed by a DEQUANTIZE that LiteRT runs once.

    Args:
        content: A float32 .tflite file with one graph.
    """
    model = parse(content)
    (graph,) = model.subgraphs
    large = _large_kernels(model)
    code = _add_dequantize(model)
    graph.operators = [_store(model, index, code) for index in large] + graph.operators
    return pack(model)


def _large_kernels(model) -> list[int]:
    """Indices of the kernels worth rounding, except kernels that share their values with another tensor."""
    (graph,) = model.subgraphs
    kinds = {op.inputs[1]: kind_of(model, op) for op in graph.operators if kind_of(model, op) in _CONVOLVED}
    sizes = {index: int(np.prod(graph.tensors[index].shape)) for index in kinds}
    least, uses = SHARE * sum(sizes.values()), collections.Counter(tensor.buffer for tensor in graph.tensors)
    alone = {index for index in kinds if uses[graph.tensors[index].buffer] == 1}
    return [index for index in kinds if kinds[index] != _DEPTHWISE and sizes[index] >= least and index in alone]


def _add_dequantize(model) -> int:
    """Adds the operator, even if the model has an older version of it; returns its index."""
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.DEQUANTIZE
    code.version = 5  # the first version with a scale per channel
    model.operatorCodes.append(code)
    return len(model.operatorCodes) - 1


def _store(model, index: int, code: int):
    """Stores a constant tensor in eight bits, and returns the operator that dequantizes it."""
    (graph,) = model.subgraphs
    tensor = graph.tensors[index]
    kernel = np.frombuffer(bytes(model.buffers[tensor.buffer].data), "<f4").reshape(tensor.shape)
    levels, scales = round_kernel(kernel)

    stored, quantization, operator = schema.TensorT(), schema.QuantizationParametersT(), schema.OperatorT()
    _set(quantization, scale=scales, zeroPoint=np.zeros(len(scales), "int64"))  # dimension 0: the outputs
    stored.name, stored.shape, stored.hasRank = tensor.name + b"_int8", tensor.shape, tensor.hasRank
    stored.type, stored.buffer, stored.quantization = schema.TensorType.INT8, tensor.buffer, quantization
    model.buffers[tensor.buffer].data = levels.view("uint8").ravel()
    tensor.buffer = 0  # the empty buffer, which the schema requires for computed tensors
    graph.tensors.append(stored)

    operator.opcodeIndex = code
    _set(operator, inputs=np.array([len(graph.tensors) - 1], "int32"), outputs=np.array([index], "int32"))
    return operator


def _set(table: Any, **arrays: np.ndarray) -> None:
    """Sets fields of generated code to arrays, which it accepts although its types do not."""
    for name, array in arrays.items():
        setattr(table, name, array)


def round_kernel(kernel: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rounds a kernel so that its response to a constant input is preserved, the idea of SQuant (arXiv 2202.07471).

    Inputs have passed a ReLU, and neighboring pixels are similar; so a kernel mostly sums the input's mean, and most of
    the error is the sum of the rounding errors. A few weights, those closest to the middle between two levels, are
    rounded to the other level, until the sum over each window, and then over each output, is less than half a level.

    Args:
        kernel: Weights of shape (outputs, ..., inputs), as in TFLite's CONV_2D and FULLY_CONNECTED.

    Returns:
        int8 levels of the same shape, and a float32 scale for each output.
    """
    outputs, inputs = kernel.shape[0], kernel.shape[-1]
    exact = np.moveaxis(kernel.reshape(outputs, -1, inputs), 1, 2).astype("float64")  # (outputs, inputs, window)
    scales = np.abs(exact).max(axis=(1, 2), keepdims=True) / _LEVELS
    exact /= np.where(scales > 0, scales, 1)
    levels = _balanced(exact, np.round(exact))
    levels = _balanced(exact.reshape(outputs, -1), levels.reshape(outputs, -1)).reshape(exact.shape)
    levels = np.moveaxis(levels.clip(-_LEVELS, _LEVELS), 2, 1).reshape(kernel.shape)
    return levels.astype("int8"), scales.ravel().astype("float32")


def _balanced(exact: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """Changes some levels by one, so that the errors along the last axis sum to at most half a level."""
    errors = levels - exact
    excess = np.round(errors.sum(axis=-1, keepdims=True))
    rank = np.argsort(np.argsort(-errors, axis=-1), axis=-1)  # 0: rounded up the most
    lower, raise_ = rank < excess, rank >= errors.shape[-1] + excess
    return levels - lower + raise_
