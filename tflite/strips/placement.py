"""A plan of the arena, written into the file, that frees an image row by row.

TensorFlow Lite Micro (TFLM) plans by whole tensors: an image that strips are cut from is kept until the last is cut.
Yet it takes the offsets that it finds in a file's metadata "OfflineMemoryAllocation" as they are, and these tensors may
overlap if their values are not needed at the same time (memory_management.md in its docs). So here what strips make is
placed over the rows that no later strip reads, and an image is quantized in place, byte by byte. Interpreters that do
not know the metadata compute the same in more memory.
"""

import collections
import copy
import dataclasses
from collections.abc import Iterable
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from fd_keras.tflite.format.flatbuffer import OFFLINE_PLAN, network_of
from fd_keras.tflite.format.network import FileNetwork, FileOp
from fd_keras.tflite.memory.arena import ArenaBuffer, lifetimes


@dataclasses.dataclass(frozen=True)
class Block:
    """Tensors that share an offset.

    Attributes:
        tensors: Their indices.
        steps: What is taken of the arena and when, offsets counted from the block's; it may shrink with time.
    """

    tensors: tuple[int, ...]
    steps: tuple[ArenaBuffer, ...]

    @property
    def end(self) -> int:
        """Its largest extent, in bytes."""
        return max(step.end for step in self.steps)

    @property
    def first(self) -> int:
        """Number of the operation that makes it."""
        return min(step.first for step in self.steps)


def with_plan(model: Any) -> Any:
    """The model with the best plan found in its metadata; the model itself stays as it is."""
    plan = np.array([0, 0, len(model.subgraphs[0].tensors), *offsets(model)], "<i4")  # version, graph, number
    planned, buffer, entry = copy.copy(model), schema.BufferT(), schema.MetadataT()
    vars(buffer)["data"], vars(entry)["name"], entry.buffer = plan.view("uint8"), OFFLINE_PLAN, len(model.buffers)
    planned.buffers = [*model.buffers, buffer]
    planned.metadata = [*(other for other in model.metadata or () if other.name != OFFLINE_PLAN), entry]
    return planned


def offsets(model: Any) -> list[int]:
    """The offset of every tensor in the arena, in bytes; -1 for those that need none or have one chosen by TFLM."""
    network = network_of(model)
    whole = _blocks(model, network)
    largest = sorted(whole, key=lambda block: (-block.end, -block.tensors[-1]))
    oldest = sorted(whole, key=lambda block: (block.end < largest[0].end, block.first, -block.end))
    plans = [_placed(order) for order in (largest, oldest)]
    best = min(plans, key=lambda plan: max(offset + block.end for block, offset in plan))
    found = {tensor: offset for block, offset in best for tensor in block.tensors}
    return [-1 if tensor.constant else found.get(index, -1) for index, tensor in enumerate(network.tensors)]


def _blocks(model: Any, network: FileNetwork) -> list[Block]:
    """The tensors that need RAM; one that is quantized in place is in a block with its origin."""
    reads = _reads(model, network)
    made = {span.tensor: Block((span.tensor,), _steps(span, reads[span.tensor])) for span in lifetimes(network)}
    for time, op in enumerate(network.ops):
        source, output = made.get(op.inputs[0]), made.get(op.outputs[0])
        if op.kind == "QUANTIZE" and source and output and source.end == output.end and source.steps[-1].last == time:
            joined = Block(source.tensors + output.tensors, source.steps + output.steps)
            made |= dict.fromkeys(joined.tensors, joined)
    return list(dict.fromkeys(made.values()))


def _reads(model: Any, network: FileNetwork) -> dict[int, dict[int, int]]:
    """By tensor and number of the operation: how many of its bytes, from the beginning, that reads."""
    reads: dict[int, dict[int, int]] = collections.defaultdict(dict)
    for time, op in enumerate(network.ops):
        for index in op.inputs:
            reads[index][time] = network.tensors[index].bytes
        if op.kind == "SLICE":
            reads[op.inputs[0]][time] = _sliced_bytes(model, network, op)
    return reads


def _sliced_bytes(model: Any, network: FileNetwork, op: FileOp) -> int:
    """How many bytes of its input, from the beginning, a slice of rows reads; all, unless its numbers are constant."""
    (graph,), source = model.subgraphs, network.tensors[op.inputs[0]]
    begin, size = (model.buffers[graph.tensors[index].buffer].data for index in op.inputs[1:])
    if begin is None or size is None or len(source.shape) != 4 or source.shape[0] != 1:
        return source.bytes
    end = sum(int(np.frombuffer(bytes(data), "<i4")[1]) for data in (begin, size))
    return source.bytes // source.shape[1] * end


def _steps(span: ArenaBuffer, reads: dict[int, int]) -> tuple[ArenaBuffer, ...]:
    """What a tensor takes and when: of its bytes those that are still read."""
    reads = {span.last: span.bytes if span.last not in reads else 0} | reads
    times, first, steps = sorted(reads), span.first, []
    for number, time in enumerate(times):
        left = max(reads[later] for later in times[number:])
        steps.append(ArenaBuffer(span.tensor, left, first, time))
        first = time + 1
    return tuple(steps)


def _placed(order: Iterable[Block]) -> list[tuple[Block, int]]:
    """A place for each block in turn, at the lowest offset that is free for all its steps."""
    placed: list[tuple[Block, int]] = []
    for block in order:
        taken = sorted(
            (offset - step.end, offset + other.end)  # the block's offset cannot lie between them
            for there, offset in placed
            for other in there.steps
            for step in block.steps
            if other.first <= step.last and step.first <= other.last
        )
        lowest = 0
        for low, high in taken:
            if low >= lowest:
                break
            lowest = max(lowest, high)
        placed.append((block, lowest))
    return placed
