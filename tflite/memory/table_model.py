"""Converts a network that was estimated from a table to a `schema.ModelT` without weights, to plan strips with."""

from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from fd_keras.tflite.format.network import FileNetwork, FileOp, FileTensor


def model_of(network: FileNetwork) -> Any:
    """Converts a network to the schema's types; constants are zeros, except for the widths of a PAD.

    Args:
        network: Network from `estimate.converted`, whose padding is symmetric.
    """
    model, graph = schema.ModelT(), schema.SubGraphT()
    kinds = sorted({op.kind for op in network.ops})
    vars(model)["operatorCodes"] = [_code(kind) for kind in kinds]
    vars(model)["buffers"] = [schema.BufferT()]
    vars(graph)["tensors"] = [_tensor(model, tensor) for tensor in network.tensors]
    vars(graph)["operators"] = [_operator(network, op, kinds.index(op.kind)) for op in network.ops]
    vars(graph)["inputs"], vars(graph)["outputs"] = (np.array(i, "int32") for i in (network.inputs, network.outputs))
    for op in network.ops:
        if op.kind == "PAD":
            _set(model, graph, op.inputs[1], np.array(_paddings(network, op), "<i4").view("uint8").ravel())
    vars(model)["subgraphs"], vars(model)["metadata"] = [graph], []
    return model


def _code(kind: str) -> Any:
    code: Any = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = getattr(schema.BuiltinOperator, kind)
    code.version = 4  # at least that of each int8 operator
    return code


def _tensor(model: Any, tensor: FileTensor) -> Any:
    found: Any = schema.TensorT()
    found.shape, found.type, found.buffer = np.array(tensor.shape, "int32"), getattr(schema.TensorType, tensor.dtype), 0
    quantization: Any = schema.QuantizationParametersT()
    quantization.scale, quantization.zeroPoint = np.ones(1, "float32"), np.zeros(1, "int64")
    found.quantization = quantization
    if tensor.constant:
        buffer: Any = schema.BufferT()
        buffer.data = np.zeros(tensor.bytes, "uint8")
        model.buffers.append(buffer)
        found.buffer = len(model.buffers) - 1
    return found


def _set(model: Any, graph: Any, index: int, values: np.ndarray) -> None:
    model.buffers[graph.tensors[index].buffer].data = values


def _paddings(network: FileNetwork, op: FileOp) -> list[tuple[int, int]]:
    before, after = (network.tensors[index].shape for index in (op.inputs[0], op.outputs[0]))
    return [((wide - side) // 2, (wide - side) // 2) for side, wide in zip(before, after, strict=True)]


_OPTIONS: dict[str, Any] = {
    "CONV_2D": schema.Conv2DOptionsT,
    "DEPTHWISE_CONV_2D": schema.DepthwiseConv2DOptionsT,
    "MAX_POOL_2D": schema.Pool2DOptionsT,
    "CONCATENATION": schema.ConcatenationOptionsT,
    "PAD": schema.PadOptionsT,
}


def _operator(network: FileNetwork, op: FileOp, code: int) -> Any:
    found: Any = schema.OperatorT()
    found.opcodeIndex, found.inputs, found.outputs = code, np.array(op.inputs, "int32"), np.array(op.outputs, "int32")
    options: Any = _OPTIONS[op.kind]() if op.kind in _OPTIONS else None
    found.builtinOptions = options
    if op.window is not None:
        _set_window(network, op, options)
    if op.kind == "CONCATENATION":
        shapes = [network.tensors[index].shape for index in (op.inputs[0], op.outputs[0])]
        options.axis = next(axis for axis in range(4) if shapes[0][axis] != shapes[1][axis])
    return found


def _set_window(network: FileNetwork, op: FileOp, options: Any) -> None:
    assert op.window is not None
    side, outputs = (network.tensors[index].shape[1] for index in (op.inputs[0], op.outputs[0]))
    size, stride = op.window.size[0], op.window.strides[0]
    fits = (outputs - 1) * stride + size <= side
    options.padding = schema.Padding.VALID if fits else schema.Padding.SAME
    options.strideH, options.strideW = op.window.strides
    if op.kind == "MAX_POOL_2D":
        options.filterHeight, options.filterWidth = op.window.size
    else:
        options.dilationHFactor, options.dilationWFactor = op.window.dilations
