"""Reads the network in a .tflite file without an interpreter, and writes modified files."""

import dataclasses
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from fd_keras.tflite.format.network import FileNetwork, FileOp, FileTensor, Window
from fd_keras.tflite_file import BITS, LiteRTError, kind_of, read_model, type_of

OFFLINE_PLAN = b"OfflineMemoryAllocation"  # metadata in which TFLM finds the offsets of tensors in its arena


@dataclasses.dataclass(frozen=True)
class TFLiteFile:
    """The content of a .tflite file.

    Attributes:
        network: Tensors and operations.
        bytes: Size of the file, which is its flash usage.
        weights: Number of bytes that are values of constant tensors.
        scales: Number of bytes that are scales and zero points.
    """

    network: FileNetwork
    bytes: int
    weights: int
    scales: int


def read(path: str) -> TFLiteFile:
    """Reads a .tflite file.

    Raises:
        LiteRTError: If it does not exist, is not a .tflite file, is damaged, or its memory cannot be planned.
    """
    data, model = read_model(path)
    try:
        network = network_of(model)
    except ValueError as error:
        raise LiteRTError(f"{path}: {error}") from error
    (tensors,) = (subgraph.tensors for subgraph in model.subgraphs)
    weights = {tensor.buffer: len(_data(model, tensor)) for tensor in tensors if _data(model, tensor) is not None}
    scales = {field.ctypes.data: field.nbytes for tensor in tensors for field in _scale_fields(tensor)}  # may be shared
    return TFLiteFile(network, len(data), sum(weights.values()), sum(scales.values()))


def parse(data: bytes) -> Any:
    """The `schema.ModelT` of a file; Any, since the generated types allow None for every field."""
    return schema.ModelT.InitFromPackedBuf(data, 0)


def pack(model, builder: flatbuffers.Builder | None = None) -> bytes:
    """Serializes a `schema.ModelT`; a builder, if given, must be unused."""
    model.buffers = [_Buffer(buffer.data, buffer.offset, buffer.size) for buffer in model.buffers]
    builder = builder or flatbuffers.Builder(1 << 20)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


class _Buffer(schema.BufferT):
    """A buffer aligned to 16 bytes, as the schema requires; the generated Python code does not align buffers."""

    def Pack(self, builder):  # noqa: N802 (the generated code's name)
        if self.data is not None:
            builder.Prep(16, len(self.data))
        return super().Pack(builder)


def network_of(model) -> FileNetwork:
    """The network in a `schema.ModelT`; raises ValueError if its memory cannot be planned."""
    if len(model.subgraphs) != 1:
        raise ValueError(
            f"{len(model.subgraphs)} graphs, as in networks with branches or loops; only one is supported."
        )
    (graph,) = model.subgraphs
    ops = tuple(
        FileOp(kind_of(model, op), _known(op.inputs), _known(op.outputs), _window(graph, op))
        for op in graph.operators or ()
    )
    if not ops or not all(op.outputs for op in ops):
        raise ValueError("the network has no operations, or an operation without an output.")
    for index in _known(graph.inputs):
        sides = graph.tensors[index].shapeSignature
        if sides is not None and min(sides[1:], default=0) < 0:
            raise ValueError(f"its input has shape {list(map(int, sides))}; convert it with a fixed image size.")
    tensors = tuple(_tensor(model, tensor) for tensor in graph.tensors)
    return FileNetwork(tensors, ops, _known(graph.inputs), _known(graph.outputs), _offsets(model))


def _window(graph, op) -> Window | None:
    options = op.builtinOptions
    if isinstance(options, schema.Pool2DOptionsT):
        return Window((options.filterHeight, options.filterWidth), (options.strideH, options.strideW))
    if not isinstance(options, schema.Conv2DOptionsT | schema.DepthwiseConv2DOptionsT) or len(op.inputs) < 2:
        return None
    shape = graph.tensors[op.inputs[1]].shape
    size = (0, 0) if shape is None or len(shape) != 4 else (int(shape[1]), int(shape[2]))
    dilations = (options.dilationHFactor, options.dilationWFactor)
    return Window(size, (options.strideH, options.strideW), dilations)


def _offsets(model) -> tuple[int, ...]:
    """See `FileNetwork.offsets`."""
    number = len(model.subgraphs[0].tensors)
    plans = [entry.buffer for entry in model.metadata or () if entry.name == OFFLINE_PLAN]
    if not plans:
        return ()
    data = model.buffers[plans[0]].data if plans[0] < len(model.buffers) else None
    words = np.frombuffer(b"" if data is None else bytes(data[: len(data) // 4 * 4]), "<i4")
    if len(words) != number + 3 or words[2] != number or words[3:].min(initial=0) < -1:
        raise ValueError("the memory plan (metadata OfflineMemoryAllocation) does not match the tensors.")
    return tuple(words[3:].tolist())


def _known(indices) -> tuple[int, ...]:
    """Indices of tensors as numbers, without -1, which stands for an omitted input."""
    return () if indices is None else tuple(int(index) for index in indices if index >= 0)


def _tensor(model, tensor) -> FileTensor:
    name, dtype = (tensor.name or b"").decode(errors="backslashreplace"), type_of(tensor)
    if dtype not in BITS:
        raise ValueError(f"the tensor {name!r} has type {dtype}, whose size is unknown.")
    shape = () if tensor.shape is None else tuple(int(side) for side in tensor.shape)
    return FileTensor(name, dtype, shape, constant=_data(model, tensor) is not None)


def _data(model, tensor):
    """The values of a constant tensor; None for others."""
    return model.buffers[tensor.buffer].data


def _scale_fields(tensor) -> list[np.ndarray]:
    quantization = tensor.quantization
    fields = (quantization.scale, quantization.zeroPoint) if quantization else ()
    return [field for field in fields if field is not None]
