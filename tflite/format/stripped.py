"""Drops from a .tflite file what TensorFlow Lite Micro (TFLM) does not need; the answers stay the same to the bit.

That is: names of tensors inside, signatures, descriptions and metadata except a plan of the memory, the ranges that
scales were made of, and a buffer for each tensor that has no values. What then is equal is stored once: shapes, and
above all the zero points of channels, 8 bytes each, which are 0 for all kernels. LiteRT runs the file, too.
"""

from typing import Any

import flatbuffers
import numpy as np

from fd_keras.tflite.format.flatbuffer import OFFLINE_PLAN, pack, parse


def strip(data: bytes) -> bytes:
    """The file without that; an archive of class names at its end is gone, too.

    Args:
        data: A .tflite file of one graph.
    """
    model = parse(data)
    (graph,) = model.subgraphs
    model.description, graph.name, model.signatureDefs, model.metadataBuffer = None, None, None, None
    model.metadata = [entry for entry in model.metadata or () if entry.name == OFFLINE_PLAN]
    named = {*map(int, graph.inputs), *map(int, graph.outputs)}
    for index, tensor in enumerate(graph.tensors):
        _strip_tensor(model, tensor, index in named)
    _drop_buffers(model)
    return pack(model, _SharingBuilder(1 << 20))


class _SharingBuilder(flatbuffers.Builder):
    """Stores equal vectors once."""

    def __init__(self, size: int):
        super().__init__(size)
        self._places: dict[tuple, int] = {}

    def CreateNumpyVector(self, x: np.ndarray) -> int:  # noqa: N802 (the library's name)
        key = x.dtype.str, x.tobytes()
        if key not in self._places:
            self._places[key] = super().CreateNumpyVector(x)
        return self._places[key]


def _strip_tensor(model: Any, tensor: Any, named: bool) -> None:
    tensor.shapeSignature = None
    tensor.name = tensor.name if named else None
    if model.buffers[tensor.buffer].data is None and not tensor.isVariable:
        tensor.buffer = 0  # by the schema the empty one
    ranges = tensor.quantization
    if ranges is None:
        return
    ranges.min = ranges.max = None
    if ranges.scale is None:
        tensor.quantization = None


def _drop_buffers(model: Any) -> None:
    (graph,) = model.subgraphs
    holders = [*graph.tensors, *model.metadata]
    used = sorted({0, *(holder.buffer for holder in holders)})
    for holder in holders:
        holder.buffer = used.index(holder.buffer)
    model.buffers = [model.buffers[index] for index in used]
