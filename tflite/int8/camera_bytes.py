"""Lets XNNPACK convert the camera's bytes to the network's int8 input.

The converter puts a QUANTIZE from uint8 to int8 at the input. XNNPACK does not support this op, and LiteRT's own kernel
multiplies each byte by 1, on x86 one by one. XNNPACK does support a DEQUANTIZE to float followed by a QUANTIZE, and
fuses the two. Floats represent bytes exactly, so the results are bit-identical. An interpreter without XNNPACK stores
the image in float, for which microcontrollers do not have enough RAM.
"""

import copy
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from fd_keras.tflite.format.flatbuffer import pack, parse
from fd_keras.tflite_file import kind_of, type_of


def convert_in_xnnpack(data: bytes) -> bytes:
    """Splits the conversion of the camera's bytes into two ops that XNNPACK supports.

    Args:
        data: Content of a .tflite file.

    Returns:
        Content of a file with the same outputs, or `data` unless it begins with a QUANTIZE of pixels and a frame
        around them, as files of the int8 recipe do.
    """
    model = parse(data)
    (graph,) = model.subgraphs
    first, second, *_ = graph.operators
    if not (_converts_pixels(model, first) and kind_of(model, second) == "CONCATENATION"):
        return data
    pixels, real = int(first.inputs[0]), len(graph.tensors)
    graph.tensors.append(_real(graph.tensors[pixels]))
    first.inputs = np.array([real], "int32")
    graph.operators.insert(0, _dequantize(model, pixels, real))
    return pack(model)


def _converts_pixels(model: Any, op: Any) -> bool:
    tensors = [model.subgraphs[0].tensors[index] for index in (*op.inputs, *op.outputs)]
    types = [type_of(tensor) for tensor in tensors]
    if kind_of(model, op) != "QUANTIZE" or types != ["UINT8", "INT8"]:
        return False
    return [(*tensor.quantization.scale, *tensor.quantization.zeroPoint) for tensor in tensors] == [(1, 0), (1, -128)]


def _real(like: Any) -> Any:
    """Copies a tensor as float32."""
    tensor = copy.copy(like)
    tensor.type, tensor.quantization, tensor.name = schema.TensorType.FLOAT32, None, b"pixels"
    return tensor


def _dequantize(model: Any, source: int, target: int) -> Any:
    code: Any = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.DEQUANTIZE
    code.version = 1
    model.operatorCodes.append(code)
    op: Any = schema.OperatorT()
    op.opcodeIndex = len(model.operatorCodes) - 1
    op.inputs, op.outputs = np.array([source], "int32"), np.array([target], "int32")
    return op
