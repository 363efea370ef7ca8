"""Plans the RAM for a network's activations: the lifetime of each tensor, and its offset in the arena.

The plan is the one that TensorFlow Lite Micro (TFLM) makes at start-up: the largest tensor first, each at the lowest
offset that is free during its lifetime. This module reads no files and imports only small modules.
"""

import dataclasses
import functools
from collections.abc import Iterator

from fd_keras.tflite.format.network import WEIGHTED, FileNetwork
from fd_keras.tflite.memory.scratch import TFLM, KernelLibrary

ALIGNMENT = 16  # bytes, of each tensor in TFLM's arena


@dataclasses.dataclass(frozen=True)
class ArenaBuffer:
    """Memory of a tensor, or scratch memory of an op.

    Attributes:
        tensor: Index of the tensor; for scratch memory, the number of tensors plus the number of the op.
        bytes: Size in bytes, without padding.
        first: Number of the first op during which the memory is needed.
        last: Number of the last op during which the memory is needed.
        offset: Offset in the arena in bytes.
    """

    tensor: int
    bytes: int
    first: int
    last: int
    offset: int = 0

    @property
    def end(self) -> int:
        """Offset of the first byte after the buffer and its padding."""
        return self.offset + -(-self.bytes // ALIGNMENT) * ALIGNMENT


def lifetimes(network: FileNetwork, kernels: KernelLibrary = TFLM) -> list[ArenaBuffer]:
    """Computes the lifetimes of everything that needs RAM: the tensors, then scratch memory; offsets are all 0.

    Constant tensors need RAM only if they are int4 kernels that an op unpacks.

    Args:
        network: Network to plan.
        kernels: Kernel library that runs the network.
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
    """Yields the memory that layers need only while they run."""
    for time, op in enumerate(network.ops):
        if unpacked := kernels.unpacked(network, op):
            yield ArenaBuffer(op.inputs[1], unpacked, time, time)
        if scratch := kernels.scratch(network, op):
            yield ArenaBuffer(len(network.tensors) + time, scratch, time, time)


@dataclasses.dataclass(frozen=True)
class ArenaPlan:
    """Plan of the arena.

    Attributes:
        network: The planned network.
        buffers: Buffers of everything that needs RAM, sorted by offset.
    """

    network: FileNetwork
    buffers: tuple[ArenaBuffer, ...]

    @property
    def arena(self) -> int:
        """Size of the planned arena in bytes, TFLM's "head"."""
        return max((buffer.end for buffer in self.buffers), default=0)

    def alive(self, time: int) -> list[ArenaBuffer]:
        """Buffers that are needed while op number `time` runs, the largest first."""
        found = [buffer for buffer in self.buffers if buffer.first <= time <= buffer.last]
        return sorted(found, key=lambda buffer: -buffer.bytes)

    def live_bytes(self, time: int) -> int:
        """Total bytes of `alive`, overlaps counted once; a lower bound of the arena for plans without overlaps."""
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
    """Plans the arena as TFLM does: the largest tensor first (the later one of equals), each at the lowest free offset.

    Tensors with an offset in the file are placed before the others, and may overlap.

    Args:
        network: Network to plan.
        kernels: Kernel library that runs the network.
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
    """Minimum RAM in bytes if each op could overwrite an input that no later op reads.

    Compilers with kernels that work row by row come close to this, except for the few rows that they have to keep.
    """
    whole, least = plan(network), 0
    for time, op in enumerate(network.ops):
        ending = [buffer.bytes for buffer in whole.alive(time) if buffer.last == time and buffer.tensor in op.inputs]
        written = sum(network.tensors[index].bytes for index in op.outputs)
        least = max(least, whole.live_bytes(time) - min(max(ending, default=0), written))
    return least


def tflm_bytes(network: FileNetwork) -> int:
    """Upper estimate of the bytes that TFLM keeps in the arena beside the activations, its "tail".

    This is 8 bytes per output channel (multiplier and shift), and TFLM's tables. The constants are for 64-bit machines,
    where tflite-micro reported 3 to 10% less than this for the networks here; 32-bit pointers need even less.
    """
    channels = sum(network.tensors[op.outputs[0]].shape[-1] for op in network.ops if op.kind in WEIGHTED)
    return 24 * len(network.tensors) + 164 * len(network.ops) + 8 * channels + 2048
