"""Tests arena plans against brute force, a straightforward implementation of the rule, and figures from TFLM."""

import dataclasses
import itertools
import math

import numpy as np
import pytest

from fd_keras import zoo
from fd_keras.tflite.format.flatbuffer import read
from fd_keras.tflite.format.network import FileNetwork, FileOp, FileTensor
from fd_keras.tflite.memory.arena import ALIGNMENT, in_place_bytes, lifetimes, plan, tflm_bytes
from tests import needs

# Bytes that tflite-micro 0.dev20261023182759 recorded for the files of `converted` (64x96 images, 10 classes): its
# head, which is the activations, and its tail, which is the rest.
TFLM = {
    ("fd_mobilenet", "float32"): (153648, 23664),
    ("fd_mobilenet", "int8"): (38416, 24112),
    ("mobilenet", "float32"): (207104, 30784),
    ("mobilenet", "int8"): (51776, 31232),
    ("shufflenet", "float32"): (233664, 50112),
    ("shufflenet", "int8"): (58416, 50608),
    ("fd_shufflenet", "float32"): (233664, 41248),
    ("fd_shufflenet", "int8"): (58416, 41744),
}


every_file = pytest.mark.parametrize(("name", "recipe"), [(n, r) for n in zoo.ARCHS for r in ("float32", "int8")])


def network_of(sizes: list[int], *ops: tuple[str, tuple, tuple], constants=(), outputs=()) -> FileNetwork:
    """Builds a network of int8 vectors with these sizes; the first is the input, the last by default the output."""
    tensors = (FileTensor(f"t{i}", "INT8", (1, size), constant=i in constants) for i, size in enumerate(sizes))
    return FileNetwork(tuple(tensors), tuple(FileOp(*op) for op in ops), (0,), outputs or (len(sizes) - 1,))


def chain(*sizes: int) -> FileNetwork:
    """Builds a network in which each op reads the output of the previous one."""
    return network_of(list(sizes), *(("CONV_2D", (i,), (i + 1,)) for i in range(len(sizes) - 1)))


def random_network(seed: int, count: int, units: int = 6) -> FileNetwork:
    """Builds a network in which each op reads one or two earlier tensors."""
    rng = np.random.default_rng(seed)
    ops = []
    for out in range(1, count):
        known = rng.choice(out, size=min(out, rng.integers(1, 3)), replace=False)
        ops.append(("ADD", tuple(map(int, known)), (out,)))
    return network_of([int(n) * ALIGNMENT for n in rng.integers(1, units, count)], *ops)


def spans(network: FileNetwork) -> dict[int, tuple[int, int]]:
    return {buffer.tensor: (buffer.first, buffer.last) for buffer in lifetimes(network)}


def padded(size: int) -> int:
    return math.ceil(size / ALIGNMENT) * ALIGNMENT


def assert_apart(whole) -> None:
    """Checks that tensors with overlapping lifetimes do not overlap in memory, and that all are aligned."""
    assert all(buffer.offset % ALIGNMENT == 0 <= buffer.offset for buffer in whole.buffers)
    for one, other in itertools.combinations(whole.buffers, 2):
        together = one.first <= other.last and other.first <= one.last
        overlapping = one.offset < other.offset + other.bytes and other.offset < one.offset + one.bytes
        assert not (together and overlapping), (one, other)


def lowest_free(taken: np.ndarray, first: int, last: int, size: int) -> int:
    """Finds the lowest offset at which `size` units are free from `first` to `last`, by trying them one by one."""
    return next(at for at in itertools.count() if not taken[first : last + 1, at : at + size].any())


def placed_in_order(network: FileNetwork, order) -> dict[int, int]:
    """Places tensors in this order, each at the lowest free offset of an occupancy map; returns offsets in bytes."""
    units = {index: padded(network.tensors[index].bytes) // ALIGNMENT for index in order}
    taken, alive, offsets = np.zeros((len(network.ops), 2 * sum(units.values())), bool), spans(network), {}
    for index in order:
        first, last = alive[index]
        at = lowest_free(taken, first, last, units[index])
        taken[first : last + 1, at : at + units[index]] = True
        offsets[index] = at * ALIGNMENT
    return offsets


def arena_of(network: FileNetwork, offsets: dict[int, int]) -> int:
    return max(offset + padded(network.tensors[index].bytes) for index, offset in offsets.items())


def optimum(network: FileNetwork) -> int:
    """The size of the smallest possible arena, found by trying all orders of placement."""
    return min(arena_of(network, placed_in_order(network, order)) for order in itertools.permutations(spans(network)))


# --- lifetimes -------------------------------------------------------------------------------------------


def test_lifetimes_match_manual_values():
    """The ops are 0 -> 1 -> 3, where 2 is a constant; 1 is read again at the end, and 4 is the second op's output."""
    network = network_of(
        [16, 16, 99, 16, 16, 16],
        ("CONV_2D", (0, 2), (1,)),
        ("CONV_2D", (1, 2), (4,)),
        ("CONV_2D", (1,), (3,)),
        ("ADD", (1, 3), (5,)),
        constants=(2,),
        outputs=(4, 5),
    )
    assert spans(network) == {0: (0, 0), 1: (0, 3), 3: (2, 3), 4: (1, 3), 5: (3, 3)}


def test_an_unused_input_needs_memory_at_the_start():
    tensors = FileTensor("a", "INT8", (16,)), FileTensor("b", "INT8", (16,))
    network = FileNetwork(tensors, (FileOp("ABS", (1,), (1,)),), (0, 1), (1,))
    assert spans(network) == {0: (0, 0), 1: (0, 0)}
    assert plan(network).arena == 32


# --- placement -------------------------------------------------------------------------------------------


def test_plan_of_a_chain_matches_manual_values():
    """The largest tensor, 80, is at 0, its neighbors above it, and the last one at 0 again, as the largest is freed."""
    whole = plan(chain(48, 80, 64, 32))
    assert {buffer.tensor: buffer.offset for buffer in whole.buffers} == {1: 0, 2: 80, 0: 80, 3: 0}
    assert whole.arena == 144
    assert whole.peak == 1
    assert whole.live_bytes(1) == 144


def test_tflm_s_greedy_plan_is_not_optimal():
    network = chain(96, 80, 80, 96)
    assert optimum(network) == 176
    assert plan(network).arena == 256


def test_tensors_are_padded_to_sixteen_bytes_each():
    assert plan(chain(17, 1)).arena == 48
    assert plan(chain(17, 1)).live_bytes(0) == 18


@pytest.mark.parametrize("seed", range(20))
def test_offsets_match_a_straightforward_implementation(seed):
    network = random_network(seed, 12)
    sizes = {index: network.tensors[index].bytes for index in spans(network)}
    expected = placed_in_order(network, sorted(sizes, key=lambda index: (-sizes[index], -index)))
    whole = plan(network)
    assert {buffer.tensor: buffer.offset for buffer in whole.buffers} == expected
    assert whole.arena == arena_of(network, expected)
    assert_apart(whole)


@pytest.mark.parametrize("seed", range(6))
def test_arena_is_at_least_the_optimum_and_the_live_bytes(seed):
    network = random_network(seed, 6)
    whole = plan(network)
    assert whole.live_bytes(whole.peak) <= optimum(network) <= whole.arena


def test_offsets_of_the_file_are_kept_and_overlaps_count_once():
    """The first two tensors overlap in the file's plan; TFLM places the third in a gap."""
    network = dataclasses.replace(chain(48, 80, 64, 32), offsets=(0, 16, -1, -1))
    whole = plan(network)
    assert {buffer.tensor: buffer.offset for buffer in whole.buffers} == {0: 0, 1: 16, 2: 96, 3: 0}
    assert whole.arena == 160
    assert whole.live_bytes(0) == 96


# --- files, and what TFLM says of them -------------------------------------------------------------------


@every_file
def test_arena_of_a_file_equals_tflm_s_record(converted, name, recipe):
    whole = plan(read(converted(name, recipe).path).network)
    head, tail = TFLM[name, recipe]
    assert whole.arena == head
    assert tail <= tflm_bytes(whole.network) <= 1.15 * tail
    assert_apart(whole)
    assert whole.live_bytes(whole.peak) <= whole.arena


@every_file
def test_tflm_needs_the_planned_memory(converted, name, recipe, capfd):
    runtime = needs.package("tflite_micro").runtime
    network = read(converted(name, recipe).path).network
    arena = padded(plan(network).arena + tflm_bytes(network))
    interpreter = runtime.Interpreter.from_file(converted(name, recipe).path, arena_size=arena)
    (image,) = (network.tensors[index] for index in network.inputs)
    interpreter.set_input(np.zeros(image.shape, image.dtype.lower()), 0)
    interpreter.invoke()
    interpreter.print_allocations()
    told = dict(line.split()[-3:-1] for line in capfd.readouterr().err.splitlines() if "Arena allocation" in line)
    assert (int(told["head"]), int(told["tail"])) == TFLM[name, recipe]


# --- what a compiler would save --------------------------------------------------------------------------


def test_in_place_bytes_match_manual_values():
    """A chain needs its largest tensor; a sum can overwrite an input unless a later op reads it."""
    assert in_place_bytes(chain(48, 80, 64)) == 80
    assert in_place_bytes(network_of([8, 8, 8], ("ABS", (0,), (1,)), ("ADD", (0, 1), (2,)))) == 16
