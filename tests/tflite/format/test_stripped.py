"""Tests stripped files: removed and kept parts, and identical outputs in all interpreters."""

from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert.interpreter import OpResolverType

from fd_keras import zoo
from fd_keras.litert import load
from fd_keras.tflite.format.flatbuffer import OFFLINE_PLAN, pack, parse, read
from fd_keras.tflite.format.metadata import embed
from fd_keras.tflite.format.stripped import strip
from fd_keras.tflite.memory.arena import plan
from fd_keras.tflite.strips.search import trade
from tests import needs
from tests.tflite.conftest import CLASSES

KERNELS = (OpResolverType.AUTO, OpResolverType.BUILTIN_REF)


def scores(path: Path, images: np.ndarray, kernels: OpResolverType) -> np.ndarray:
    interpreter, found = load(path, experimental_op_resolver_type=kernels), []
    (image,), (output,) = interpreter.get_input_details(), interpreter.get_output_details()
    for values in images.astype(image["dtype"]):
        interpreter.set_tensor(image["index"], values[None])
        interpreter.invoke()
        found.append(interpreter.get_tensor(output["index"])[0].copy())
    return np.stack(found)


@pytest.mark.parametrize(
    ("name", "recipe"),
    [*((name, "int8") for name in zoo.ARCHS), ("fd_mobilenet", "int4"), ("fd_mobilenet", "float32")],
)
def test_outputs_and_plan_do_not_change(converted, images, tmp_path, name, recipe):
    whole, path = Path(converted(name, recipe).path), tmp_path / "stripped.tflite"
    path.write_bytes(strip(whole.read_bytes()))
    before, after = read(str(whole)), read(str(path))
    assert after.bytes < before.bytes
    assert (after.weights, plan(after.network).arena) == (before.weights, plan(before.network).arena)
    for kernels in KERNELS:
        expected = scores(whole, images[:4], kernels)
        assert len(np.unique(expected)) > 4
        np.testing.assert_array_equal(scores(path, images[:4], kernels), expected)


def test_tables_and_names_are_removed_and_the_rest_does_not_change(converted):
    data = Path(converted("fd_mobilenet", "int8").path).read_bytes()
    before, after = parse(data), parse(strip(embed(data, [str(label) for label in range(CLASSES)], True)))
    (old,), (new,) = before.subgraphs, after.subgraphs
    named = {*map(int, new.inputs), *map(int, new.outputs)}
    assert {index for index, tensor in enumerate(new.tensors) if tensor.name} == named
    assert not after.metadata
    assert not after.signatureDefs
    assert len(after.buffers) == 1 + len({t.buffer for t in old.tensors if before.buffers[t.buffer].data is not None})
    zeros = [t.quantization.zeroPoint for t in new.tensors if t.quantization and len(t.quantization.scale) > 1]
    assert len({field.ctypes.data for field in zeros}) == len({len(field) for field in zeros}) < len(zeros)
    for one, other in zip(old.tensors, new.tensors, strict=True):
        assert one.type == other.type
        if one.quantization is not None and one.quantization.scale is not None:
            assert one.quantization.scale.tolist() == other.quantization.scale.tolist()
            assert one.quantization.zeroPoint.tolist() == other.quantization.zeroPoint.tolist()


def test_scales_that_are_shared_count_once(converted, tmp_path):
    path = tmp_path / "stripped.tflite"
    whole = converted("fd_mobilenet", "int8").path
    path.write_bytes(strip(Path(whole).read_bytes()))
    before, after = read(whole), read(str(path))
    assert after.scales < 0.6 * before.scales
    assert after.weights + after.scales < after.bytes


def test_memory_plan_is_kept(converted, tmp_path):
    candidate = trade(parse(Path(converted("fd_mobilenet", "int8").path).read_bytes()))[-1]
    path = tmp_path / "strips.tflite"
    path.write_bytes(strip(pack(candidate.model)))
    assert [entry.name for entry in parse(path.read_bytes()).metadata] == [OFFLINE_PLAN]
    assert plan(read(str(path)).network).arena == candidate.activations


def test_tflm_has_the_same_outputs(converted, images):
    runtime = needs.package("tflite_micro").runtime
    data, found = Path(converted("fd_mobilenet", "int8").path).read_bytes(), []
    for content in (data, strip(data)):
        interpreter = runtime.Interpreter.from_bytes(content)
        for image in images[:4].astype("uint8"):
            interpreter.set_input(image[None], 0)
            interpreter.invoke()
            found.append(interpreter.get_output(0).copy())
    np.testing.assert_array_equal(found[:4], found[4:])
