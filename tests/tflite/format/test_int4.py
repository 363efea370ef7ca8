"""Tests int4 kernels: packing, and outputs that equal those of the same levels stored as int8."""

from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import OpResolverType

from fd_keras.litert import load
from fd_keras.tflite.format.flatbuffer import network_of, pack, parse
from fd_keras.tflite.format.int4 import packed
from fd_keras.tflite.memory.arena import plan, tflm_bytes
from tests import needs


def unpacked(data: bytes, count: int) -> np.ndarray:
    """Unpacks int4 levels in a straightforward way; the first is in the lower half of a byte."""
    halves = [half for byte in data for half in (byte & 15, byte >> 4)]
    return np.array([half - 16 * (half > 7) for half in halves[:count]], "int8")


def in_eight_bits(data: bytes) -> bytes:
    """Stores each int4 kernel of a file as int8 with the same levels."""
    model = parse(data)
    for tensor in model.subgraphs[0].tensors:
        if tensor.type == schema.TensorType.INT4:
            levels = unpacked(bytes(model.buffers[tensor.buffer].data), int(np.prod(tensor.shape)))
            model.buffers[tensor.buffer].data, tensor.type = levels.view("uint8"), schema.TensorType.INT8
    return pack(model)


@pytest.fixture(scope="module")
def int4_file(converted) -> str:
    return converted("fd_mobilenet", "int4").path


@pytest.fixture
def int8_twin(int4_file, tmp_path) -> str:
    path = tmp_path / "twin.tflite"
    path.write_bytes(in_eight_bits(Path(int4_file).read_bytes()))
    return str(path)


def in_litert(path: str, images: np.ndarray) -> np.ndarray:
    """Runs a file with LiteRT's own kernels; XNNPACK does not support int4 convolutions, and rounds differently."""
    interpreter = load(path, experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES)
    (image,), (output,) = interpreter.get_input_details(), interpreter.get_output_details()
    found = []
    for pixels in images.astype("uint8"):
        interpreter.set_tensor(image["index"], pixels[None])
        interpreter.invoke()
        found.append(interpreter.get_tensor(output["index"])[0])
    return np.stack(found)


def test_levels_are_packed_from_the_lower_half():
    levels = np.array([[-7, 7, 0], [1, -1, 5]])
    assert packed(levels).tobytes() == bytes([0x79, 0x10, 0x5F])
    np.testing.assert_array_equal(unpacked(packed(levels[0]).tobytes(), 3), levels[0])


def test_large_kernels_are_int4(int4_file):
    network = network_of(parse(Path(int4_file).read_bytes()))
    kernels = [network.tensors[op.inputs[1]] for op in network.ops if op.kind in ("CONV_2D", "DEPTHWISE_CONV_2D")]
    of_type = {kind: sum(np.prod(t.shape) for t in kernels if t.dtype == kind) for kind in ("INT4", "INT8")}
    assert of_type["INT4"] > 2 * of_type["INT8"]
    assert all(tensor.dtype == "INT8" for tensor in kernels if tensor.shape[1] == 3)


def test_outputs_equal_those_of_the_same_levels_in_int8(int4_file, int8_twin, images):
    expected = in_litert(int8_twin, images[:8])
    assert len(np.unique(expected)) > 8
    np.testing.assert_array_equal(in_litert(int4_file, images[:8]), expected)


def test_tflm_has_the_same_outputs_within_the_planned_ram(int4_file, int8_twin, images, capfd):
    runtime = needs.package("tflite_micro").runtime
    network, found = network_of(parse(Path(int4_file).read_bytes())), []
    arena = (plan(network).arena + tflm_bytes(network)) // 16 * 16 + 16
    for path in (int8_twin, int4_file):
        interpreter = runtime.Interpreter.from_file(path, arena_size=arena)
        for image in images[:3].astype("uint8"):
            interpreter.set_input(image[None], 0)
            interpreter.invoke()
            found.append(interpreter.get_output(0).copy())
    np.testing.assert_array_equal(found[:3], found[3:])
    capfd.readouterr()
    interpreter.print_allocations()
    told = dict(line.split()[-3:-1] for line in capfd.readouterr().err.splitlines() if "Arena allocation" in line)
    assert int(told["head"]) == plan(network).arena
