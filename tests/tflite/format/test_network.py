import numpy as np
import pytest

from fd_keras.tflite.format.flatbuffer import read
from fd_keras.tflite.format.network import BITS, FileNetwork, FileOp, FileTensor


@pytest.mark.parametrize(
    ("dtype", "shape", "size"),
    [
        ("INT8", (1, 224, 224, 3), 150528),
        ("FLOAT32", (2, 3), 24),
        ("INT4", (5,), 3),
        ("INT32", (), 4),
    ],
)
def test_bytes_of_a_tensor_match_manual_count(dtype, shape, size):
    assert FileTensor("t", dtype, shape).bytes == size


def test_sizes_of_types_are_numpy_s():
    for name, bits in BITS.items():
        if name not in ("INT2", "INT4", "UINT4", "BFLOAT16"):
            assert np.dtype(name.lower()).itemsize * 8 == bits


def network_of(sizes: list[int], *ops: tuple[str, tuple[int, ...], tuple[int, ...]], constants=()) -> FileNetwork:
    """Builds a network of int8 vectors with these sizes; the first is the input, the last is the output."""
    tensors = (FileTensor(f"t{i}", "INT8", (1, size), constant=i in constants) for i, size in enumerate(sizes))
    return FileNetwork(tuple(tensors), tuple(FileOp(*op) for op in ops), (0,), (len(sizes) - 1,))


def test_macs_of_a_file_equal_those_of_the_model(converted):
    for name in ("fd_mobilenet", "mobilenet"):
        for recipe in ("float32", "int8"):
            assert read(converted(name, recipe).path).network.all_macs == converted(name, recipe).facts["macs"]


def test_ops_that_only_copy_are_fused():
    network = network_of(
        [10, 10, 20, 8, 40, 4, 4],
        ("QUANTIZE", (0,), (1,)),
        ("PAD", (1, 3), (2,)),
        ("CONV_2D", (2,), (4,)),
        ("CONV_2D", (4,), (5,)),
        ("QUANTIZE", (5,), (6,)),
        constants=(3,),
    )
    fused = network.fused()
    assert fused.ops == (FileOp("CONV_2D", (0,), (4,)), FileOp("CONV_2D", (4,), (5,)))
    assert fused.outputs == (5,)


def test_weights_that_are_converted_at_run_time_are_not_fused():
    network = network_of([4, 8, 8, 4], ("QUANTIZE", (1,), (2,)), ("CONV_2D", (0, 2), (3,)), constants=(1,))
    assert network.fused() == network
