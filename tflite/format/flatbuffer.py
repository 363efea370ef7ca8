"""Reads the network in a .tflite file, without an interpreter, and writes files that were changed."""

import dataclasses
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from fd_keras.tflite.format.network import FileNetwork, FileOp, FileTensor
from fd_keras.tflite_file import BITS, LiteRTError, kind_of, read_model, type_of

OFFLINE_PLAN = b"OfflineMemoryAllocation"  # metadata in which TFLM finds the offsets of tensors in its arena


@dataclasses.dataclass(frozen=True)
class TFLiteFile:
    """What a .tflite file holds.

    Attributes:
        network: Its tensors and operations.
        bytes: Size of the file, which is what it takes of the flash.
        weights: Bytes of that which are values of constant tensors.
        scales: Bytes of that which are scales and zero points.
    """

    network: FileNetwork
    bytes: int
    weights: int
    scales: int


def read(path: str) -> TFLiteFile:
    """Reads a .tflite file.

    Raises:
        LiteRTError: If it is not there, is not a .tflite file, is damaged, or holds what cannot be planned.
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
    """The file of a `schema.ModelT`; a builder of one's own must be new."""
    model.buffers = [_Buffer(buffer.data, buffer.offset, buffer.size) for buffer in model.buffers]
    builder = builder or flatbuffers.Builder(1 << 20)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


class _Buffer(schema.BufferT):
    """Begins at a multiple of 16 bytes, as the schema asks; Python's generated code does not see to it."""

    def Pack(self, builder):  # noqa: N802 (the generated code's name)
        if self.data is not None:
            builder.Prep(16, len(self.data))
        return super().Pack(builder)


def network_of(model) -> FileNetwork:
    """The network in a `schema.ModelT`; raises ValueError for one that cannot be planned."""
    if len(model.subgraphs) != 1:
        raise ValueError(f"{len(model.subgraphs)} graphs, as of a network with branches or loops; one can be planned.")
    (graph,) = model.subgraphs
    ops = tuple(FileOp(kind_of(model, op), _known(op.inputs), _known(op.outputs)) for op in graph.operators or ())
    if not ops or not all(op.outputs for op in ops):
        raise ValueError("it has no operations, or one without an output, which cannot be planned.")
    tensors = tuple(_tensor(model, tensor) for tensor in graph.tensors)
    return FileNetwork(tensors, ops, _known(graph.inputs), _known(graph.outputs), _offsets(model))


def _offsets(model) -> tuple[int, ...]:
    """See `FileNetwork.offsets`."""
    number = len(model.subgraphs[0].tensors)
    plans = [entry.buffer for entry in model.metadata or () if entry.name == OFFLINE_PLAN]
    if not plans:
        return ()
    data = model.buffers[plans[0]].data if plans[0] < len(model.buffers) else None
    words = np.frombuffer(b"" if data is None else bytes(data[: len(data) // 4 * 4]), "<i4")
    if len(words) != number + 3 or words[2] != number or words[3:].min(initial=0) < -1:
        raise ValueError("its plan of the memory (metadata OfflineMemoryAllocation) does not fit its tensors.")
    return tuple(words[3:].tolist())


def _known(indices) -> tuple[int, ...]:
    """Indices of tensors as numbers; an input that is left out is -1 in the file."""
    return () if indices is None else tuple(int(index) for index in indices if index >= 0)


def _tensor(model, tensor) -> FileTensor:
    name, dtype = (tensor.name or b"").decode(errors="backslashreplace"), type_of(tensor)
    if dtype not in BITS:
        raise ValueError(f"the tensor {name!r} is of type {dtype}, whose size is not known.")
    shape = () if tensor.shape is None else tuple(int(side) for side in tensor.shape)
    return FileTensor(name, dtype, shape, constant=_data(model, tensor) is not None)


def _data(model, tensor):
    """The values of a constant tensor; None for others."""
    return model.buffers[tensor.buffer].data


def _scale_fields(tensor) -> list[np.ndarray]:
    quantization = tensor.quantization
    fields = (quantization.scale, quantization.zeroPoint) if quantization else ()
    return [field for field in fields if field is not None]
