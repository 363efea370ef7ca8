"""RAM for a network's activations: how long each tensor lives, and where it goes in one arena.

The plan is the one that TensorFlow Lite Micro (TFLM) makes at start-up: the largest tensor first, each at the lowest
offset that is free for as long as it lives. Nothing here reads files or imports anything large.
"""

import dataclasses
import functools
from collections.abc import Iterator

from fd_keras.tflite.format.network import WEIGHTED, FileNetwork
from fd_keras.tflite.memory.scratch import TFLM, KernelLibrary

ALIGNMENT = 16  # of every tensor in TFLM's arena, in bytes


@dataclasses.dataclass(frozen=True)
class ArenaBuffer:
    """The place of a tensor: `bytes` from `offset` on, from op `first` to op `last`, both included.

    Scratch memory of an op has a number, too, behind those of the tensors.
    """

    tensor: int
    bytes: int
    first: int
    last: int
    offset: int = 0

    @property
    def end(self) -> int:
        """The first byte behind it."""
        return self.offset + -(-self.bytes // ALIGNMENT) * ALIGNMENT


def lifetimes(network: FileNetwork, kernels: KernelLibrary = TFLM) -> list[ArenaBuffer]:
    """What needs RAM, with the first and the last op during which it must exist: tensors, then scratch memory.

    Of constant tensors those are kernels of four bits that their ops unpack before they compute.

    Args:
        network: The network.
        kernels: Whose kernels run it.
    """
    spans: dict[int, tuple[int, int]] = dict.fromkeys(network.inputs, (0, 0))
    for time, op in enumerate(network.ops):
        for index in (*op.inputs, *op.outputs):
            if not network.tensors[index].constant:
                spans[index] = (spans.get(index, (time, time))[0], time)
    spans |= {index: (spans[index][0], len(network.ops) - 1) for index in network.outputs if index in spans}
    found = [ArenaBuffer(index, network.tensors[index].bytes, *span) for index, span in sorted(spans.items())]
    return [*found, *_of_layers(network, kernels)]


def _of_layers(network: FileNetwork, kernels: KernelLibrary) -> Iterator[ArenaBuffer]:
    """What layers take of the arena only while they run."""
    for time, op in enumerate(network.ops):
        if unpacked := kernels.unpacked(network, op):
            yield ArenaBuffer(op.inputs[1], unpacked, time, time)
        if scratch := kernels.scratch(network, op):
            yield ArenaBuffer(len(network.tensors) + time, scratch, time, time)


@dataclasses.dataclass(frozen=True)
class ArenaPlan:
    """Where the tensors of a network go.

    Attributes:
        network: The network that is planned.
        buffers: A place for each tensor that needs RAM, by offset.
    """

    network: FileNetwork
    buffers: tuple[ArenaBuffer, ...]

    @property
    def arena(self) -> int:
        """Bytes of the arena, TFLM's "head"."""
        return max((buffer.end for buffer in self.buffers), default=0)

    def alive(self, time: int) -> list[ArenaBuffer]:
        """What exists while op number `time` runs, largest first."""
        found = [buffer for buffer in self.buffers if buffer.first <= time <= buffer.last]
        return sorted(found, key=lambda buffer: -buffer.bytes)

    def live_bytes(self, time: int) -> int:
        """Their size, what overlaps once: no plan without overlaps can have a smaller arena."""
        found, end = 0, 0
        for buffer in sorted(self.alive(time), key=lambda buffer: buffer.offset):
            found += max(0, buffer.offset + buffer.bytes - max(end, buffer.offset))
            end = max(end, buffer.offset + buffer.bytes)
        return found

    @functools.cached_property
    def peak(self) -> int:
        """Number of the op during which most bytes are alive."""
        return max(range(len(self.network.ops)), key=self.live_bytes, default=0)


def plan(network: FileNetwork, kernels: KernelLibrary = TFLM) -> ArenaPlan:
    """Plans as TFLM does: by size, largest first (of equals the later tensor), each at the lowest offset that fits.

    Tensors that the file plans itself have their places before the others; they may overlap.

    Args:
        network: The network.
        kernels: Whose kernels run it.
    """
    buffers = lifetimes(network, kernels)
    offsets = dict(enumerate(network.offsets))
    fixed = [buffer for buffer in buffers if offsets.get(buffer.tensor, -1) >= 0]
    placed = [dataclasses.replace(buffer, offset=offsets[buffer.tensor]) for buffer in fixed]
    placed.sort(key=lambda buffer: buffer.offset)
    for buffer in sorted(set(buffers) - set(fixed), key=lambda buffer: (-buffer.end, -buffer.tensor)):
        offset = 0
        for other in placed:
            if other.first <= buffer.last and buffer.first <= other.last:
                if other.offset - offset >= buffer.end:  # its offset is still 0, so `end` is its padded size
                    break
                offset = max(offset, other.end)
        placed.append(dataclasses.replace(buffer, offset=offset))
        placed.sort(key=lambda buffer: buffer.offset)
    return ArenaPlan(network, tuple(placed))


def in_place_bytes(network: FileNetwork) -> int:
    """The least RAM if every op could write its output over the input that it is the last to read.

    What a compiler reaches whose kernels work row by row, apart from the few rows that they hold back.
    """
    whole, least = plan(network), 0
    for time, op in enumerate(network.ops):
        ending = [buffer.bytes for buffer in whole.alive(time) if buffer.last == time and buffer.tensor in op.inputs]
        written = sum(network.tensors[index].bytes for index in op.outputs)
        least = max(least, whole.live_bytes(time) - min(max(ending, default=0), written))
    return least


def tflm_bytes(network: FileNetwork) -> int:
    """About what TFLM keeps in the arena beside the activations, its "tail"; an upper estimate.

    Eight bytes for each output channel (multiplier and shift), the rest for its tables. The constants are those of a
    64-bit machine, where tflite-micro reported 3 to 10% less than this for the networks here; with 32-bit pointers it
    is less again.
    """
    channels = sum(network.tensors[op.outputs[0]].shape[-1] for op in network.ops if op.kind in WEIGHTED)
    return 24 * len(network.tensors) + 164 * len(network.ops) + 8 * channels + 2048
