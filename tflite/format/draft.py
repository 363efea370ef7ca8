"""A graph under modification: adds tensors, constants and operations, and drops unused ones."""

import copy
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from fd_keras.tflite_file import BITS, type_of

# The lowest version of each operator that supports int8, as written by TensorFlow's converter.
_VERSIONS = {"SLICE": 2, "PAD": 2, "CONCATENATION": 2, "CONV_2D": 3, "RESHAPE": 1}
_OPTIONS: dict[str, Callable] = {
    "SLICE": schema.SliceOptionsT,
    "PAD": schema.PadOptionsT,
    "CONCATENATION": schema.ConcatenationOptionsT,
    "CONV_2D": schema.Conv2DOptionsT,
    "RESHAPE": schema.ReshapeOptionsT,
}


class Draft:
    """A modified copy of a model with one graph; the original model is not changed.

    Attributes:
        operators: The operations, which the caller adds in execution order.
    """

    def __init__(self, model: Any):
        self._model, (self._graph,) = copy.copy(model), model.subgraphs
        self._tensors, self._buffers = list(self._graph.tensors), list(model.buffers)
        self._codes, self._constants = list(model.operatorCodes), {}
        self.operators: list[Any] = []

    def shape(self, index: int) -> list[int]:
        """The shape of a tensor."""
        return [int(side) for side in self._tensors[index].shape]

    def values(self, index: int) -> np.ndarray | None:
        """The values of a constant tensor as bytes, of shape (..., bytes per value); None for others."""
        tensor = self._tensors[index]
        data = self._buffers[tensor.buffer].data
        width = BITS[type_of(tensor)] // 8
        return None if data is None else np.frombuffer(bytes(data), "uint8").reshape(*self.shape(index), width)

    def tensor(self, like: int, shape: Sequence[int]) -> int:
        """Adds a computed tensor with the type and quantization of another; returns its index."""
        return self._added(self._tensors[like], shape, 0)

    def constant(self, like: int, values: np.ndarray, copies: int = 1) -> int:
        """Adds a constant with the type and quantization of another tensor; equal constants are stored once.

        Args:
            like: Index of the other tensor.
            values: The values, in the format of the method `values`.
            copies: Number of repetitions of the other tensor's channels, each with its scale.
        """
        key = (like, values.shape, values.tobytes())
        if key not in self._constants:
            tensor = copy.copy(self._tensors[like])
            tensor.quantization = copy.copy(tensor.quantization)
            tensor.quantization.scale = np.tile(tensor.quantization.scale, copies)
            tensor.quantization.zeroPoint = np.tile(tensor.quantization.zeroPoint, copies)
            self._constants[key] = self._added(tensor, values.shape[:-1], self._stored(values))
        return self._constants[key]

    def numbers(self, values: Sequence) -> int:
        """Adds an int32 constant, such as the start of a slice; equal constants are stored once."""
        array = np.array(values, "<i4")
        key = (array.shape, array.tobytes())
        if key not in self._constants:
            tensor = schema.TensorT()
            tensor.type, tensor.hasRank = schema.TensorType.INT32, True
            self._constants[key] = self._added(tensor, array.shape, self._stored(array))
        return self._constants[key]

    def _stored(self, values: np.ndarray) -> int:
        buffer: Any = schema.BufferT()
        buffer.data = np.frombuffer(values.tobytes(), "uint8")
        self._buffers.append(buffer)
        return len(self._buffers) - 1

    def _added(self, like: Any, shape: Sequence[int], buffer: int) -> int:
        tensor: Any = copy.copy(like)
        tensor.shape, tensor.buffer, tensor.name = np.array(shape, "int32"), buffer, b""
        tensor.shapeSignature = None
        self._tensors.append(tensor)
        return len(self._tensors) - 1

    def add(self, kind: str, inputs: Sequence[int], output: int, **options: Any) -> None:
        """Adds an operation, whose operator the file need not contain yet."""
        op: Any = schema.OperatorT()
        op.opcodeIndex = self._code(kind)
        op.builtinOptions = _OPTIONS[kind]()
        op.builtinOptionsType = getattr(schema.BuiltinOptions, type(op.builtinOptions).__name__.removesuffix("T"))
        vars(op.builtinOptions).update(options)
        self.repeat(op, inputs, output, op.builtinOptions)

    def repeat(self, op: Any, inputs: Sequence[int], output: int, options: Any) -> None:
        """Adds a copy of an operation with other tensors and options."""
        repeated = copy.copy(op)
        repeated.inputs, repeated.outputs = np.array(inputs, "int32"), np.array([output], "int32")
        repeated.builtinOptions = options
        self.operators.append(repeated)

    def _code(self, kind: str) -> int:
        number, version = getattr(schema.BuiltinOperator, kind), _VERSIONS[kind]
        for index, code in enumerate(self._codes):
            if max(code.builtinCode, code.deprecatedBuiltinCode) == number and code.version >= version:
                return index
        code = schema.OperatorCodeT()
        code.builtinCode = code.deprecatedBuiltinCode = number
        code.version = version
        self._codes.append(code)
        return len(self._codes) - 1

    def finished(self) -> Any:
        """The modified model, a `schema.ModelT` without unused parts."""
        model, graph = self._model, copy.copy(self._graph)
        used = sorted({*_indices(self.operators), *graph.inputs, *graph.outputs} - {-1})
        place = {index: new for new, index in enumerate(used)} | {-1: -1}
        graph.tensors = [copy.copy(self._tensors[index]) for index in used]
        graph.inputs, graph.outputs = (_moved(indices, place) for indices in (graph.inputs, graph.outputs))
        graph.operators = [copy.copy(op) for op in self.operators]
        for op in graph.operators:
            op.inputs, op.outputs = _moved(op.inputs, place), _moved(op.outputs, place)
        model.subgraphs, model.operatorCodes, model.buffers = [graph], self._codes, self._buffers
        model.signatureDefs = [_moved_signature(signature, place) for signature in model.signatureDefs or ()]
        _drop_unused(model)
        return model


def _indices(operators: Iterable[Any]) -> set[int]:
    return {int(index) for op in operators for index in (*op.inputs, *op.outputs)}


def _moved(indices: Iterable[int], place: dict[int, int]) -> np.ndarray:
    return np.array([place[int(index)] for index in indices], "int32")


def _moved_signature(signature: Any, place: dict[int, int]) -> Any:
    moved = copy.copy(signature)
    moved.inputs, moved.outputs = ([copy.copy(entry) for entry in part] for part in (moved.inputs, moved.outputs))
    for entry in (*moved.inputs, *moved.outputs):
        entry.tensorIndex = place[entry.tensorIndex]
    return moved


def _drop_unused(model: Any) -> None:
    """Removes unreferenced buffers and operators, except buffer 0, which the schema requires to be empty."""
    (graph,), metadata = model.subgraphs, [copy.copy(entry) for entry in model.metadata or ()]
    used = sorted({0, *(tensor.buffer for tensor in graph.tensors), *(entry.buffer for entry in metadata)})
    place = {index: new for new, index in enumerate(used)}
    for holder in (*graph.tensors, *metadata):
        holder.buffer = place[holder.buffer]
    model.buffers, model.metadata = [model.buffers[index] for index in used], metadata
    codes = sorted({op.opcodeIndex for op in graph.operators})
    model.operatorCodes = [model.operatorCodes[index] for index in codes]
    for op in graph.operators:
        op.opcodeIndex = codes.index(op.opcodeIndex)
