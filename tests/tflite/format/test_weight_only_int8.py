"""Tests weight-only int8: rounding of kernels, and that the rest of the file does not change."""

import keras
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from fd_keras.litert import Runner
from fd_keras.tflite import export
from fd_keras.tflite.format import flatbuffer, weight_only_int8
from fd_keras.tflite.recipes import RECIPES


@pytest.fixture(scope="module")
def model(network) -> keras.Model:
    return network("fd_mobilenet")


@pytest.fixture(scope="module")
def float_file(model) -> bytes:
    return export.export(model, RECIPES["float32"])


@pytest.mark.parametrize("shape", [(16, 3, 3, 24), (32, 1, 1, 64), (10, 48)])
def test_roundings_of_a_kernel_cancel_out(shape):
    kernel = np.random.default_rng(0).normal(0.01, 0.1, shape).astype("float32")
    levels, scales = weight_only_int8.round_kernel(kernel)
    assert levels.dtype == np.int8
    assert scales.dtype == np.float32
    assert levels.shape == shape
    assert np.allclose(scales, np.abs(kernel).reshape(shape[0], -1).max(axis=1) / 127)
    errors = levels - kernel / scales.reshape(-1, *[1] * (len(shape) - 1))
    plain = np.round(errors) - errors  # any other choice of levels is off by a whole number
    assert np.abs(errors).max() < 1.01  # only the two nearest levels
    assert np.abs(errors.reshape(shape[0], -1).sum(axis=1)).max() < 0.51
    assert np.abs(plain.reshape(shape[0], -1).sum(axis=1)).max() > 1  # so it would not be without


def test_windows_cancel_out_too():
    """Except for few weights, on average at most one per window, that the sum over the output needs."""
    kernel = np.random.default_rng(1).normal(0, 0.1, (8, 3, 3, 64)).astype("float32")
    levels, scales = weight_only_int8.round_kernel(kernel)
    sums = (levels - kernel / scales[:, None, None, None]).sum(axis=(1, 2))
    nearest = (np.round(kernel / scales[:, None, None, None]) - kernel / scales[:, None, None, None]).sum(axis=(1, 2))
    assert np.abs(sums).mean() < 0.5 * np.abs(nearest).mean()


def test_a_channel_of_zeros_does_not_change():
    kernel = np.ones((3, 1, 1, 8), "float32")
    kernel[1] = 0
    levels, scales = weight_only_int8.round_kernel(kernel)
    assert (levels[[0, 2]] == 127).all()
    assert (levels[1] == 0).all()
    assert np.isfinite(scales).all()


def test_only_large_kernels_change(float_file):
    """They equal the result of `round_kernel`; all other constants are bit-identical."""
    before, after = (
        schema.ModelT.InitFromPackedBuf(data, 0) for data in (float_file, weight_only_int8.store(float_file))
    )
    values = [_constants(model) for model in (before, after)]
    kernels = {name for name, array in values[0].items() if array.ndim in (2, 4)}
    total = sum(values[0][name].size for name in kernels)
    changed = set(values[0]) - set(values[1])
    assert changed == {name for name in kernels if values[0][name].size >= total * weight_only_int8.SHARE}
    assert len(changed) > 3
    for name in set(values[0]) - changed:
        assert np.array_equal(values[0][name], values[1][name]), name
    for name in changed:
        levels, scales = weight_only_int8.round_kernel(values[0][name])
        assert np.array_equal(values[1][name + "_int8"], levels)
        (tensor,) = (t for t in after.subgraphs[0].tensors if t.name.decode() == name + "_int8")
        assert np.array_equal(tensor.quantization.scale, scales)
        assert not tensor.quantization.zeroPoint.any()
    depthwise = [op for op in after.subgraphs[0].operators if flatbuffer.kind_of(after, op) == "DEPTHWISE_CONV_2D"]
    assert len(depthwise) == 11
    assert all(after.subgraphs[0].tensors[op.inputs[1]].type == schema.TensorType.FLOAT32 for op in depthwise)


def _constants(model) -> dict[str, np.ndarray]:
    types = {schema.TensorType.FLOAT32: "<f4", schema.TensorType.INT8: "i1", schema.TensorType.INT32: "<i4"}
    found = {}
    for tensor in model.subgraphs[0].tensors:
        data = model.buffers[tensor.buffer].data
        if data is not None:
            found[tensor.name.decode()] = np.frombuffer(bytes(data), types[tensor.type]).reshape(tensor.shape)
    return found


def test_file_has_the_outputs_of_its_rounded_kernels(float_file, images, tmp_path):
    """A float file with the rounded kernels has the same outputs, so LiteRT applies the scales correctly."""
    stored = weight_only_int8.store(float_file)
    levels = schema.ModelT.InitFromPackedBuf(stored, 0)
    rounded = schema.ModelT.InitFromPackedBuf(float_file, 0)
    scales = {t.name.decode(): t.quantization.scale for t in levels.subgraphs[0].tensors if t.quantization}
    values = _constants(levels)
    for tensor in rounded.subgraphs[0].tensors:
        name = tensor.name.decode() + "_int8"
        if name in values:
            scale = scales[name].reshape(-1, *[1] * (values[name].ndim - 1))
            floats = (values[name] * scale).astype("<f4")
            rounded.buffers[tensor.buffer].data = np.frombuffer(floats.tobytes(), "uint8")
    outputs = []
    for name, data in (("a", stored), ("b", flatbuffer.pack(rounded)), ("c", float_file)):
        (tmp_path / f"{name}.tflite").write_bytes(data)
        outputs.append(Runner(str(tmp_path / f"{name}.tflite"))(images[:8]))
    assert np.allclose(outputs[0], outputs[1], atol=1e-6)
    assert 1e-5 < np.abs(outputs[0] - outputs[2]).max() < 0.05
    assert len(stored) < 0.5 * len(float_file)


def test_kernels_with_shared_buffers_do_not_change(float_file):
    """Otherwise another tensor would lose its values."""
    model = schema.ModelT.InitFromPackedBuf(float_file, 0)
    for tensor in list(model.subgraphs[0].tensors):
        other = schema.TensorT()
        other.name, other.shape, other.type, other.buffer = b"other", tensor.shape, tensor.type, tensor.buffer
        model.subgraphs[0].tensors.append(other)
    stored = schema.ModelT.InitFromPackedBuf(weight_only_int8.store(flatbuffer.pack(model)), 0)
    assert not any(tensor.name.endswith(b"_int8") for tensor in stored.subgraphs[0].tensors)


def test_buffers_are_aligned(float_file):
    """The schema requires 16 bytes, since microcontrollers read values without copying them."""
    packed = flatbuffer.pack(schema.ModelT.InitFromPackedBuf(float_file, 0))
    model = schema.Model.GetRootAs(packed, 0)
    starts = [model.Buffers(i)._tab for i in range(model.BuffersLength()) if not model.Buffers(i).DataIsNone()]
    assert len(starts) > 20
    for table in starts:
        assert table.Vector(table.Offset(4)) % 16 == 0
