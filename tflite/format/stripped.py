"""Removes data from a .tflite file that TensorFlow Lite Micro (TFLM) does not need; outputs stay bit-identical.

Removed are the names of inner tensors, signatures, descriptions, metadata except a memory plan, the ranges from which
scales were computed, and the buffers of tensors without values. Equal vectors are stored once: shapes, and mainly the
zero points of channels, which take 8 bytes each and are 0 in all kernels. LiteRT runs such files too.
"""

from typing import Any

import flatbuffers
import numpy as np

from fd_keras.tflite.format.flatbuffer import OFFLINE_PLAN, pack, parse


def strip(data: bytes) -> bytes:
    """Returns the stripped file, also without an archive of class names at its end.

    Args:
        data: Content of a .tflite file with one graph.
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
        tensor.buffer = 0  # the empty buffer, as the schema defines
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
