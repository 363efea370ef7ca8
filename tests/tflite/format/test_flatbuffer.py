from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from fd_keras import zoo
from fd_keras.litert import LiteRTError
from fd_keras.tflite.format.flatbuffer import OFFLINE_PLAN, pack, parse, read

every_file = pytest.mark.parametrize(("name", "recipe"), [(n, r) for n in zoo.ARCHS for r in ("float32", "int8")])


@pytest.fixture(scope="module")
def tiny_int8(convert_tiny) -> str:
    return convert_tiny("int8")


@every_file
def test_ops_and_tensors_are_those_of_the_file(converted, name, recipe):
    network, ops = read(converted(name, recipe).path).network, converted(name, recipe).ops
    assert [op.kind for op in network.ops] == [op.name for op in ops]
    for op, expected in zip(network.ops, ops, strict=True):
        for indices, tensors in ((op.inputs, expected.inputs), (op.outputs, expected.outputs)):
            found = [network.tensors[index] for index in indices]
            assert [(t.name, t.dtype, t.shape, t.constant) for t in found] == [
                (t.name, t.dtype, t.shape, t.constant) for t in tensors
            ]


def test_flash_by_part_matches_manual_count(tiny_int8):
    """The network has int8 kernels of 3x3x3x8 and 8x4, with a bias, a scale and a zero point per channel."""
    file = read(tiny_int8)
    layers, channels = 216 + 32 + 4 * 12, 2 * 12
    others = [t.bytes for t in file.network.tensors if t.constant and t.shape not in {(8, 3, 3, 3), (4, 8), (8,), (4,)}]
    assert file.weights == layers + sum(others)
    activations = sum(not tensor.constant for tensor in file.network.tensors)
    assert 12 * (channels + activations) <= file.scales <= 12 * (channels + activations + len(others))


def test_a_file_that_is_packed_again_is_the_same_network(tiny_int8, tmp_path):
    (tmp_path / "again.tflite").write_bytes(pack(parse(Path(tiny_int8).read_bytes())))
    assert read(str(tmp_path / "again.tflite")).network == read(tiny_int8).network


def with_offsets(path: str, words: list[int]) -> bytes:
    """Adds a memory plan: a version, the number of graphs, the number of offsets, and the offsets."""
    model = parse(Path(path).read_bytes())
    entry, buffer = schema.MetadataT(), schema.BufferT()
    entry.name, entry.buffer, vars(buffer)["data"] = OFFLINE_PLAN, len(model.buffers), np.array(words, "<i4").view("u1")
    model.metadata, model.buffers = [*(model.metadata or ()), entry], [*model.buffers, buffer]
    return pack(model)


def test_a_plan_of_the_memory_is_read(tiny_int8, tmp_path):
    count = len(read(tiny_int8).network.tensors)
    (tmp_path / "planned.tflite").write_bytes(with_offsets(tiny_int8, [0, 0, count, *range(0, 16 * count, 16)]))
    assert read(str(tmp_path / "planned.tflite")).network.offsets == tuple(range(0, 16 * count, 16))
    assert read(tiny_int8).network.offsets == ()


@pytest.mark.parametrize("words", [[0, 0, 2, 0, 0], [0], [0, 0, -1]])
def test_a_plan_that_does_not_fit_the_tensors_is_named(tiny_int8, tmp_path, words):
    (tmp_path / "a.tflite").write_bytes(with_offsets(tiny_int8, words))
    with pytest.raises(LiteRTError, match=r"a\.tflite: the memory plan"):
        read(str(tmp_path / "a.tflite"))


# --- invalid files ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("content", [b"", b"hello, this is text", b"\0\0\0\0TFL"])
def test_invalid_file_is_named(tmp_path, content):
    (tmp_path / "a.tflite").write_bytes(content)
    with pytest.raises(LiteRTError, match=r"a\.tflite: not a \.tflite file"):
        read(str(tmp_path / "a.tflite"))


@pytest.mark.parametrize("part", [0.01, 0.1, 0.5, 0.9, 0.9999])
def test_truncated_file_is_named(tiny_int8, tmp_path, part):
    whole = Path(tiny_int8).read_bytes()
    (tmp_path / "cut.tflite").write_bytes(whole[: int(len(whole) * part)])
    with pytest.raises(LiteRTError, match=r"cut\.tflite: "):
        read(str(tmp_path / "cut.tflite"))


def test_a_free_image_size_is_named(tiny_int8, tmp_path):
    model = parse(Path(tiny_int8).read_bytes())
    (graph,) = model.subgraphs
    for free, path in (([-1, 64, 96, 3], "batch.tflite"), ([1, -1, -1, 3], "size.tflite")):
        graph.tensors[graph.inputs[0]].shapeSignature = np.array(free, "int32")
        (tmp_path / path).write_bytes(pack(model))
    read(str(tmp_path / "batch.tflite"))
    with pytest.raises(LiteRTError, match=r"size\.tflite: its input has shape \[1, -1, -1, 3\]; convert"):
        read(str(tmp_path / "size.tflite"))
