"""Stores the large kernels of a float32 .tflite in eight bits, without a change to what it computes but their rounding.

A detector is easily upset: a little noise in its scores, and suppression keeps another of two boxes that are nearly as
good. The converter's own "dynamic" recipe rounds all kernels, each weight to the nearest level, and its activations on
the fly. Here small kernels stay as they are, since the first layers have the least weights and do the most harm; the
roundings of a kernel's weights cancel out; and the network computes in float32.
"""

import collections
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from fd_keras.tflite.format.flatbuffer import pack, parse
from fd_keras.tflite_file import kind_of

SHARE = 0.03  # of all weights that a kernel must hold to be worth its rounding
_LEVELS = 127
_CONVOLVED = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")
_DEPTHWISE = "DEPTHWISE_CONV_2D"  # a hundredth of the weights, each of which all of a channel goes through


def store(content: bytes) -> bytes:
    """The same network with its large kernels in eight bits, each followed by a DEQUANTIZE that LiteRT runs once.

    Args:
        content: A .tflite file of one graph, in float32.
    """
    model = parse(content)
    (graph,) = model.subgraphs
    large = _large_kernels(model)
    code = _add_dequantize(model)
    graph.operators = [_store(model, index, code) for index in large] + graph.operators
    return pack(model)


def _large_kernels(model) -> list[int]:
    """Indices of the tensors that are worth it, but for those that share their values with another tensor."""
    (graph,) = model.subgraphs
    kinds = {op.inputs[1]: kind_of(model, op) for op in graph.operators if kind_of(model, op) in _CONVOLVED}
    sizes = {index: int(np.prod(graph.tensors[index].shape)) for index in kinds}
    least, uses = SHARE * sum(sizes.values()), collections.Counter(tensor.buffer for tensor in graph.tensors)
    alone = {index for index in kinds if uses[graph.tensors[index].buffer] == 1}
    return [index for index in kinds if kinds[index] != _DEPTHWISE and sizes[index] >= least and index in alone]


def _add_dequantize(model) -> int:
    """The index of the operator; it is added once more if the model has it in an older version."""
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.DEQUANTIZE
    code.version = 5  # the first with a scale for each channel
    model.operatorCodes.append(code)
    return len(model.operatorCodes) - 1


def _store(model, index: int, code: int):
    """Puts a constant tensor into eight bits, and returns the operator that makes it what it was."""
    (graph,) = model.subgraphs
    tensor = graph.tensors[index]
    kernel = np.frombuffer(bytes(model.buffers[tensor.buffer].data), "<f4").reshape(tensor.shape)
    levels, scales = round_kernel(kernel)

    stored, quantization, operator = schema.TensorT(), schema.QuantizationParametersT(), schema.OperatorT()
    _set(quantization, scale=scales, zeroPoint=np.zeros(len(scales), "int64"))  # dimension 0: the outputs
    stored.name, stored.shape, stored.hasRank = tensor.name + b"_int8", tensor.shape, tensor.hasRank
    stored.type, stored.buffer, stored.quantization = schema.TensorType.INT8, tensor.buffer, quantization
    model.buffers[tensor.buffer].data = levels.view("uint8").ravel()
    tensor.buffer = 0  # by the schema the empty one, of tensors that are computed
    graph.tensors.append(stored)

    operator.opcodeIndex = code
    _set(operator, inputs=np.array([len(graph.tensors) - 1], "int32"), outputs=np.array([index], "int32"))
    return operator


def _set(table: Any, **arrays: np.ndarray) -> None:
    """Sets fields of the generated code to arrays, which it takes but is typed not to."""
    for name, array in arrays.items():
        setattr(table, name, array)


def round_kernel(kernel: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rounds a kernel so that an even input comes out as it would without: the idea of SQuant (arXiv 2202.07471).

    Inputs have passed a ReLU, and neighboring pixels are alike; so most of what a kernel adds up is the input's mean,
    and most of the error the sum of its roundings. A few weights, those next to the middle between two levels, are
    rounded to the other one, until the sum over each window, and then over each output, is less than half a level.

    Args:
        kernel: Weights (outputs, ..., inputs), as TFLite has those of CONV_2D and FULLY_CONNECTED.

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
    """Moves some levels by one, such that the errors along the last axis sum up to half a level at most."""
    errors = levels - exact
    excess = np.round(errors.sum(axis=-1, keepdims=True))
    rank = np.argsort(np.argsort(-errors, axis=-1), axis=-1)  # 0: rounded up the most
    lower, raise_ = rank < excess, rank >= errors.shape[-1] + excess
    return levels - lower + raise_
