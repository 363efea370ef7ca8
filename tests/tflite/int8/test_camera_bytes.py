import numpy as np
import pytest

from fd_keras.litert import Runner
from fd_keras.tflite.format.flatbuffer import read
from fd_keras.tflite.int8.camera_bytes import convert_in_xnnpack


def _read(file):
    with open(file.path, "rb") as opened:
        return opened.read()


@pytest.mark.parametrize("name", ["fd_mobilenet", "shufflenet"])
def test_scores_are_bit_identical_and_xnnpack_runs_the_conversion(converted, images, tmp_path, name):
    file = converted(name, "int8")
    path = str(tmp_path / "m.tflite")
    (tmp_path / "m.tflite").write_bytes(convert_in_xnnpack(_read(file)))
    assert [op.kind for op in read(path).network.ops[:3]] == ["DEQUANTIZE", "QUANTIZE", "CONCATENATION"]
    assert Runner(path).input["quantization"] == file.runner.input["quantization"]
    every_byte = np.resize(np.arange(256.0), (1, *images.shape[1:]))
    images = np.concatenate([images, every_byte])
    np.testing.assert_array_equal(Runner(path)(images), file.runner(images))


@pytest.mark.parametrize("recipe", ["float32", "int8_plain", "dynamic"])
def test_other_files_do_not_change(converted, recipe):
    data = _read(converted("fd_mobilenet", recipe))
    assert convert_in_xnnpack(data) is data


def test_other_input_types_do_not_change(convert_tiny):
    for io in ("int8", "float32"):
        with open(convert_tiny("int8", io=io), "rb") as opened:
            data = opened.read()
        assert convert_in_xnnpack(data) is data
