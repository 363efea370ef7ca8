"""Plans the arena of a file with strips so that rows of the image are freed one by one, and stores the plan in it.

The planner of TensorFlow Lite Micro (TFLM) handles whole tensors: it keeps the image until the last strip is cut. But
TFLM also accepts offsets from a file, in the metadata "OfflineMemoryAllocation". These tensors may overlap if their
values are not needed at the same time (memory_management.md in its docs). Here, the outputs of the strips overwrite
image rows that no later strip reads, and the image is quantized in place, byte by byte. Interpreters that ignore the
metadata compute the same outputs, with more memory.
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
        tensors: Indices of the tensors.
        steps: Bytes that the block needs over time, with offsets relative to the block's; the size may shrink.
    """

    tensors: tuple[int, ...]
    steps: tuple[ArenaBuffer, ...]

    @property
    def end(self) -> int:
        """Maximum size in bytes."""
        return max(step.end for step in self.steps)

    @property
    def first(self) -> int:
        """Number of the operation that creates the block."""
        return min(step.first for step in self.steps)


def with_plan(model: Any) -> Any:
    """Returns a copy of the model with the best plan that was found in its metadata."""
    plan = np.array([0, 0, len(model.subgraphs[0].tensors), *offsets(model)], "<i4")  # version, graph, number
    planned, buffer, entry = copy.copy(model), schema.BufferT(), schema.MetadataT()
    vars(buffer)["data"], vars(entry)["name"], entry.buffer = plan.view("uint8"), OFFLINE_PLAN, len(model.buffers)
    planned.buffers = [*model.buffers, buffer]
    planned.metadata = [*(other for other in model.metadata or () if other.name != OFFLINE_PLAN), entry]
    return planned


def offsets(model: Any) -> list[int]:
    """Offset of each tensor in the arena in bytes; -1 for constants, and for tensors that TFLM places itself."""
    network = network_of(model)
    whole = _blocks(model, network)
    largest = sorted(whole, key=lambda block: (-block.end, -block.tensors[-1]))
    oldest = sorted(whole, key=lambda block: (block.end < largest[0].end, block.first, -block.end))
    plans = [_placed(order) for order in (largest, oldest)]
    best = min(plans, key=lambda plan: max(offset + block.end for block, offset in plan))
    found = {tensor: offset for block, offset in best for tensor in block.tensors}
    return [-1 if tensor.constant else found.get(index, -1) for index, tensor in enumerate(network.tensors)]


def _blocks(model: Any, network: FileNetwork) -> list[Block]:
    """The blocks of the tensors that need RAM; the input and output of an in-place quantization share a block."""
    reads = _reads(model, network)
    made = {span.tensor: Block((span.tensor,), _steps(span, reads[span.tensor])) for span in lifetimes(network)}
    for time, op in enumerate(network.ops):
        source, output = made.get(op.inputs[0]), made.get(op.outputs[0])
        if op.kind == "QUANTIZE" and source and output and source.end == output.end and source.steps[-1].last == time:
            joined = Block(source.tensors + output.tensors, source.steps + output.steps)
            made |= dict.fromkeys(joined.tensors, joined)
    return list(dict.fromkeys(made.values()))


def _reads(model: Any, network: FileNetwork) -> dict[int, dict[int, int]]:
    """Bytes that each operation reads from the beginning of a tensor, by tensor index and operation number."""
    reads: dict[int, dict[int, int]] = collections.defaultdict(dict)
    for time, op in enumerate(network.ops):
        for index in op.inputs:
            reads[index][time] = network.tensors[index].bytes
        if op.kind == "SLICE":
            reads[op.inputs[0]][time] = _sliced_bytes(model, network, op)
    return reads


def _sliced_bytes(model: Any, network: FileNetwork, op: FileOp) -> int:
    """Bytes that a slice reads from the beginning of its input; all of them, unless it has constant rows."""
    (graph,), source = model.subgraphs, network.tensors[op.inputs[0]]
    begin, size = (model.buffers[graph.tensors[index].buffer].data for index in op.inputs[1:])
    if begin is None or size is None or len(source.shape) != 4 or source.shape[0] != 1:
        return source.bytes
    end = sum(int(np.frombuffer(bytes(data), "<i4")[1]) for data in (begin, size))
    return source.bytes // source.shape[1] * end


def _steps(span: ArenaBuffer, reads: dict[int, int]) -> tuple[ArenaBuffer, ...]:
    """Bytes that a tensor needs over time: those that a later operation still reads."""
    reads = {span.last: span.bytes if span.last not in reads else 0} | reads
    times, first, steps = sorted(reads), span.first, []
    for number, time in enumerate(times):
        left = max(reads[later] for later in times[number:])
        steps.append(ArenaBuffer(span.tensor, left, first, time))
        first = time + 1
    return tuple(steps)


def _placed(order: Iterable[Block]) -> list[tuple[Block, int]]:
    """Places the blocks in this order, each at the lowest offset that is free during all its steps."""
    placed: list[tuple[Block, int]] = []
    for block in order:
        taken = sorted(
            (offset - step.end, offset + other.end)  # the block cannot start between these offsets
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
