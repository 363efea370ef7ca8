"""RAM for a network's activations: how long each tensor lives, and where it goes in one arena.

The plan is the one that TensorFlow Lite Micro (TFLM) makes at start-up: the largest tensor first, each at the lowest
offset that is free for as long as it lives. Nothing here reads files or imports anything large.
"""

import dataclasses
import functools
import math

ALIGNMENT = 16  # of every tensor in TFLM's arena, in bytes
BITS = {
    "INT2": 2, "INT4": 4, "UINT4": 4, "BOOL": 8, "INT8": 8, "UINT8": 8, "INT16": 16, "UINT16": 16, "FLOAT16": 16,
    "BFLOAT16": 16, "INT32": 32, "UINT32": 32, "FLOAT32": 32, "INT64": 64, "UINT64": 64, "FLOAT64": 64,
    "COMPLEX64": 64,
}  # fmt: skip
# Ops that only copy their first input, into another type, frame or shape; so does a concatenation of one tensor with
# constants. A compiler can have the next op read the original; an interpreter runs them as they stand.
COPIES = ("QUANTIZE", "PAD", "PADV2", "RESHAPE")
WEIGHTED = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")


@dataclasses.dataclass(frozen=True)
class Tensor:
    """A tensor: its type as the schema of .tflite spells it, and whether its values are in the file."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    constant: bool = False

    @property
    def bytes(self) -> int:
        """Size of its values."""
        return math.ceil(math.prod(self.shape) * BITS[self.dtype] / 8)


@dataclasses.dataclass(frozen=True)
class Op:
    """An operation: its kind as the schema spells it, and the indices of the tensors it reads and writes."""

    kind: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Graph:
    """The operations of a network in the order in which they run; `inputs` and `outputs` are indices of tensors."""

    tensors: tuple[Tensor, ...]
    ops: tuple[Op, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]

    def macs(self, op: Op) -> int:
        """Multiply-accumulates of one op: convolutions and dense layers, as in the paper."""
        if op.kind not in WEIGHTED:
            return 0
        kernel, out = self.tensors[op.inputs[1]].shape, self.tensors[op.outputs[0]].shape
        pixels = math.prod(out[:-1])  # a kernel is applied at each of them; the batch counts too
        return math.prod(kernel) * pixels

    @property
    def all_macs(self) -> int:
        """Multiply-accumulates of the network."""
        return sum(map(self.macs, self.ops))

    def fused(self) -> "Graph":
        """The graph as a compiler may run it: without the `COPIES`, whose input the next op reads instead."""
        source: dict[int, int] = {}
        ops = []
        for op in self.ops:
            inputs = tuple(source.get(index, index) for index in op.inputs)
            values = [index for index in inputs if not self.tensors[index].constant]
            if values and (op.kind in COPIES or (op.kind == "CONCATENATION" and len(values) == 1)):
                source[op.outputs[0]] = values[0]
            else:
                ops.append(dataclasses.replace(op, inputs=inputs))
        outputs = tuple(source.get(index, index) for index in self.outputs)
        return dataclasses.replace(self, ops=tuple(ops), outputs=outputs)


@dataclasses.dataclass(frozen=True)
class Buffer:
    """The place of a tensor: `bytes` from `offset` on, from op `first` to op `last`, both included."""

    tensor: int
    bytes: int
    first: int
    last: int
    offset: int = 0

    @property
    def end(self) -> int:
        """The first byte behind it."""
        return self.offset + -(-self.bytes // ALIGNMENT) * ALIGNMENT


def lifetimes(graph: Graph) -> list[Buffer]:
    """The tensors that need RAM, with the first and the last op during which each must exist, by index."""
    spans = dict.fromkeys(graph.inputs, (0, 0))
    for time, op in enumerate(graph.ops):
        for index in (*op.inputs, *op.outputs):
            if not graph.tensors[index].constant:
                spans[index] = (spans.get(index, (time,))[0], time)
    spans |= {index: (spans[index][0], len(graph.ops) - 1) for index in graph.outputs if index in spans}
    return [Buffer(index, graph.tensors[index].bytes, *span) for index, span in sorted(spans.items())]


@dataclasses.dataclass(frozen=True)
class Plan:
    """Where the tensors of a graph go."""

    graph: Graph
    buffers: tuple[Buffer, ...]

    @property
    def arena(self) -> int:
        """Bytes of the arena, TFLM's "head"."""
        return max((buffer.end for buffer in self.buffers), default=0)

    def alive(self, time: int) -> list[Buffer]:
        """What exists while op number `time` runs, largest first."""
        found = [buffer for buffer in self.buffers if buffer.first <= time <= buffer.last]
        return sorted(found, key=lambda buffer: -buffer.bytes)

    def live_bytes(self, time: int) -> int:
        """Their size: no plan can have a smaller arena."""
        return sum(buffer.bytes for buffer in self.alive(time))

    @functools.cached_property
    def peak(self) -> int:
        """Number of the op during which most bytes are alive."""
        return max(range(len(self.graph.ops)), key=self.live_bytes, default=0)


def plan(graph: Graph) -> Plan:
    """Plans as TFLM does: by size, largest first (of equals the later tensor), each at the lowest offset that fits."""
    placed: list[Buffer] = []
    for buffer in sorted(lifetimes(graph), key=lambda buffer: (-buffer.end, -buffer.tensor)):
        offset = 0
        for other in placed:
            if other.first <= buffer.last and buffer.first <= other.last:
                if other.offset - offset >= buffer.end:  # its offset is still 0, so `end` is its padded size
                    break
                offset = max(offset, other.end)
        placed.append(dataclasses.replace(buffer, offset=offset))
        placed.sort(key=lambda buffer: buffer.offset)
    return Plan(graph, tuple(placed))


def in_place_bytes(graph: Graph) -> int:
    """The least RAM if every op could write its output over the input that it is the last to read.

    What a compiler reaches whose kernels work row by row, apart from the few rows that they hold back.
    """
    whole, least = plan(graph), 0
    for time, op in enumerate(graph.ops):
        ending = [buffer.bytes for buffer in whole.alive(time) if buffer.last == time and buffer.tensor in op.inputs]
        written = sum(graph.tensors[index].bytes for index in op.outputs)
        least = max(least, whole.live_bytes(time) - min(max(ending, default=0), written))
    return least


def tflm_bytes(graph: Graph) -> int:
    """About what TFLM keeps in the arena beside the activations, its "tail"; an upper estimate.

    Eight bytes for each output channel (multiplier and shift), the rest for its tables. The constants are those of a
    64-bit machine, where tflite-micro reported 3 to 10% less than this for the networks here; with 32-bit pointers it
    is less again.
    """
    channels = sum(graph.tensors[op.outputs[0]].shape[-1] for op in graph.ops if op.kind in WEIGHTED)
    return 24 * len(graph.tensors) + 164 * len(graph.ops) + 8 * channels + 2048
