"""Tests the detection of files arranged for phones, with files from the conversion's own steps."""

from pathlib import Path

import pytest

from fd_keras import zoo
from fd_keras.tflite.format.flatbuffer import network_of, parse
from fd_keras.tflite.int8.camera_bytes import convert_in_xnnpack
from fd_keras.tflite.int8.packed_pixels import pack_pixels
from fd_keras.tflite.memory.arrangement import is_for_phones


@pytest.mark.parametrize("name", zoo.ARCHS)
@pytest.mark.parametrize("step", [convert_in_xnnpack, pack_pixels])
def test_both_arrangements_are_recognized_in_every_network(converted, name, step):
    data = Path(converted(name, "int8").path).read_bytes()
    assert not is_for_phones(network_of(parse(data)))
    arranged = step(data)
    assert is_for_phones(network_of(parse(arranged))) == (arranged != data)


@pytest.mark.parametrize(("recipe", "io"), [("float32", "uint8"), ("int8", "float32"), ("int8", "int8")])
def test_other_files_are_not_recognized(convert_tiny, recipe, io):
    assert not is_for_phones(network_of(parse(Path(convert_tiny(recipe, io=io)).read_bytes())))
