"""The plan of an arena, against brute force, a plain reading of the rule, and what TFLM itself reported."""

import itertools
import math

import numpy as np
import pytest

from fd_keras import zoo
from fd_keras.tflite.format.flatbuffer import read
from fd_keras.tflite.memory.arena import ALIGNMENT, BITS, Graph, Op, Tensor, in_place_bytes, lifetimes, plan, tflm_bytes

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


def graph_of(sizes: list[int], *ops: tuple[str, tuple[int, ...], tuple[int, ...]], constants=(), outputs=()) -> Graph:
    """A graph over int8 vectors of these sizes; its input is the first one, its output by default the last one."""
    tensors = (Tensor(f"t{i}", "INT8", (1, size), constant=i in constants) for i, size in enumerate(sizes))
    return Graph(tuple(tensors), tuple(Op(*op) for op in ops), (0,), outputs or (len(sizes) - 1,))


def chain(*sizes: int) -> Graph:
    """Every op reads the tensor that the op before it wrote."""
    return graph_of(list(sizes), *(("CONV_2D", (i,), (i + 1,)) for i in range(len(sizes) - 1)))


def random_graph(seed: int, count: int, units: int = 6) -> Graph:
    """Every op reads one or two earlier tensors."""
    rng = np.random.default_rng(seed)
    ops = []
    for out in range(1, count):
        known = rng.choice(out, size=min(out, rng.integers(1, 3)), replace=False)
        ops.append(("ADD", tuple(map(int, known)), (out,)))
    return graph_of([int(n) * ALIGNMENT for n in rng.integers(1, units, count)], *ops)


def spans(graph: Graph) -> dict[int, tuple[int, int]]:
    return {buffer.tensor: (buffer.first, buffer.last) for buffer in lifetimes(graph)}


def padded(size: int) -> int:
    return math.ceil(size / ALIGNMENT) * ALIGNMENT


def assert_apart(whole) -> None:
    """No two tensors have a byte in common while both are alive, and all are aligned."""
    assert all(buffer.offset % ALIGNMENT == 0 <= buffer.offset for buffer in whole.buffers)
    for one, other in itertools.combinations(whole.buffers, 2):
        together = one.first <= other.last and other.first <= one.last
        overlapping = one.offset < other.offset + other.bytes and other.offset < one.offset + one.bytes
        assert not (together and overlapping), (one, other)


def lowest_free(taken: np.ndarray, first: int, last: int, size: int) -> int:
    """The lowest offset at which `size` units are free from `first` to `last`, tried one by one."""
    return next(at for at in itertools.count() if not taken[first : last + 1, at : at + size].any())


def placed_in_order(graph: Graph, order) -> dict[int, int]:
    """Offsets in bytes when tensors are placed in this order, each as low as it goes, on a map of what is taken."""
    units = {index: padded(graph.tensors[index].bytes) // ALIGNMENT for index in order}
    taken, alive, offsets = np.zeros((len(graph.ops), 2 * sum(units.values())), bool), spans(graph), {}
    for index in order:
        first, last = alive[index]
        at = lowest_free(taken, first, last, units[index])
        taken[first : last + 1, at : at + units[index]] = True
        offsets[index] = at * ALIGNMENT
    return offsets


def arena_of(graph: Graph, offsets: dict[int, int]) -> int:
    return max(offset + padded(graph.tensors[index].bytes) for index, offset in offsets.items())


def optimum(graph: Graph) -> int:
    """The smallest arena there is: some order of placing the tensors as low as they go reaches it."""
    return min(arena_of(graph, placed_in_order(graph, order)) for order in itertools.permutations(spans(graph)))


# --- sizes, work, lifetimes --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dtype", "shape", "size"),
    [
        ("INT8", (1, 224, 224, 3), 150528),
        ("FLOAT32", (2, 3), 24),
        ("INT4", (5,), 3),
        ("INT32", (), 4),
    ],
)
def test_bytes_of_a_tensor_by_hand(dtype, shape, size):
    assert Tensor("t", dtype, shape).bytes == size


def test_sizes_of_types_are_numpy_s():
    for name, bits in BITS.items():
        if name not in ("INT2", "INT4", "UINT4", "BFLOAT16"):
            assert np.dtype(name.lower()).itemsize * 8 == bits


def test_lifetimes_by_hand():
    """0 -> 1 -> 3 with 2 a constant, and 1 again at the end; 4 is the output of the first op but one."""
    graph = graph_of(
        [16, 16, 99, 16, 16, 16],
        ("CONV_2D", (0, 2), (1,)), ("CONV_2D", (1, 2), (4,)), ("CONV_2D", (1,), (3,)), ("ADD", (1, 3), (5,)),
        constants=(2,), outputs=(4, 5),
    )  # fmt: skip
    assert spans(graph) == {0: (0, 0), 1: (0, 3), 3: (2, 3), 4: (1, 3), 5: (3, 3)}


def test_an_input_that_nothing_reads_needs_room_when_it_is_set():
    graph = Graph((Tensor("a", "INT8", (16,)), Tensor("b", "INT8", (16,))), (Op("ABS", (1,), (1,)),), (0, 1), (1,))
    assert spans(graph) == {0: (0, 0), 1: (0, 0)}
    assert plan(graph).arena == 32


def test_macs_of_a_file_are_the_model_s(converted):
    for name in ("fd_mobilenet", "mobilenet"):
        for recipe in ("float32", "int8"):
            assert read(converted(name, recipe).path).graph.all_macs == converted(name, recipe).facts["macs"]


# --- where tensors go --------------------------------------------------------------------------------------


def test_a_chain_by_hand():
    """The largest, 80, lies at 0; its neighbours above it; the last one, which meets only the second, at 0 again."""
    whole = plan(chain(48, 80, 64, 32))
    assert {buffer.tensor: buffer.offset for buffer in whole.buffers} == {1: 0, 2: 80, 0: 80, 3: 0}
    assert whole.arena == 144
    assert whole.peak == 1
    assert whole.live_bytes(1) == 144


def test_greed_is_not_the_optimum_and_neither_is_tflm():
    graph = chain(96, 80, 80, 96)
    assert optimum(graph) == 176
    assert plan(graph).arena == 256


def test_tensors_are_padded_to_sixteen_bytes_each():
    assert plan(chain(17, 1)).arena == 48
    assert plan(chain(17, 1)).live_bytes(0) == 18


@pytest.mark.parametrize("seed", range(20))
def test_offsets_are_those_of_the_rule_read_plainly(seed):
    graph = random_graph(seed, 12)
    sizes = {index: graph.tensors[index].bytes for index in spans(graph)}
    expected = placed_in_order(graph, sorted(sizes, key=lambda index: (-sizes[index], -index)))
    whole = plan(graph)
    assert {buffer.tensor: buffer.offset for buffer in whole.buffers} == expected
    assert whole.arena == arena_of(graph, expected)
    assert_apart(whole)


@pytest.mark.parametrize("seed", range(6))
def test_arena_is_between_the_optimum_and_what_is_alive(seed):
    graph = random_graph(seed, 6)
    whole = plan(graph)
    assert whole.live_bytes(whole.peak) <= optimum(graph) <= whole.arena


# --- files, and what TFLM says of them ---------------------------------------------------------------------


@every_file
def test_arena_of_a_file_is_what_tflm_recorded(converted, name, recipe):
    whole = plan(read(converted(name, recipe).path).graph)
    head, tail = TFLM[name, recipe]
    assert whole.arena == head
    assert tail <= tflm_bytes(whole.graph) <= 1.15 * tail
    assert_apart(whole)
    assert whole.live_bytes(whole.peak) <= whole.arena


@every_file
def test_tflm_itself_needs_what_is_planned(converted, name, recipe, capfd):
    runtime = pytest.importorskip("tflite_micro", reason="needs TFLM's interpreter: pip install tflite-micro").runtime
    graph = read(converted(name, recipe).path).graph
    arena = padded(plan(graph).arena + tflm_bytes(graph))
    interpreter = runtime.Interpreter.from_file(converted(name, recipe).path, arena_size=arena)
    (image,) = (graph.tensors[index] for index in graph.inputs)
    interpreter.set_input(np.zeros(image.shape, image.dtype.lower()), 0)
    interpreter.invoke()
    interpreter.print_allocations()
    told = dict(line.split()[-3:-1] for line in capfd.readouterr().err.splitlines() if "Arena allocation" in line)
    assert (int(told["head"]), int(told["tail"])) == TFLM[name, recipe]


@every_file
def test_ops_and_tensors_are_those_of_the_file(converted, name, recipe):
    graph, ops = read(converted(name, recipe).path).graph, converted(name, recipe).ops
    assert [op.kind for op in graph.ops] == [op.name for op in ops]
    for op, expected in zip(graph.ops, ops, strict=True):
        for indices, tensors in ((op.inputs, expected.inputs), (op.outputs, expected.outputs)):
            found = [graph.tensors[index] for index in indices]
            assert [(t.name, t.dtype, t.shape, t.constant) for t in found] == [
                (t.name, t.dtype, t.shape, t.constant) for t in tensors
            ]


# --- what a compiler would save ----------------------------------------------------------------------------


def test_ops_that_only_copy_are_fused():
    graph = graph_of(
        [10, 10, 20, 8, 40, 4, 4],
        ("QUANTIZE", (0,), (1,)), ("PAD", (1, 3), (2,)), ("CONV_2D", (2,), (4,)), ("CONV_2D", (4,), (5,)),
        ("QUANTIZE", (5,), (6,)), constants=(3,),
    )  # fmt: skip
    fused = graph.fused()
    assert fused.ops == (Op("CONV_2D", (0,), (4,)), Op("CONV_2D", (4,), (5,)))
    assert fused.outputs == (5,)


def test_weights_that_are_converted_at_run_time_are_not_fused():
    graph = graph_of([4, 8, 8, 4], ("QUANTIZE", (1,), (2,)), ("CONV_2D", (0, 2), (3,)), constants=(1,))
    assert graph.fused() == graph


def test_least_ram_in_place_by_hand():
    """A chain needs its largest tensor; a sum can lie over one of its inputs, not while another op needs that."""
    assert in_place_bytes(chain(48, 80, 64)) == 80
    assert in_place_bytes(graph_of([8, 8, 8], ("ABS", (0,), (1,)), ("ADD", (0, 1), (2,)))) == 16
