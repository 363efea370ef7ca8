"""Tests estimates from tables against converted files, and against a published figure."""

from collections import Counter

import pytest

from fd_keras import zoo
from fd_keras.spec import lower
from fd_keras.tflite.format.flatbuffer import read
from fd_keras.tflite.memory import estimate
from fd_keras.tflite.memory.arena import plan

MOBILE = ("fd_mobilenet", "mobilenet")
FILES = [*((name, "int8") for name in zoo.ARCHS), ("fd_mobilenet", "int4")]


def of_table(file, name: str):
    """Estimates the network of a converted file."""
    arch, (height, width) = zoo.get_arch(name), file.model.input_shape[1:3]
    ops = lower(arch, 0.25, (height, width), classes=file.model.output_shape[1])
    return estimate.converted(arch, ops, (height, width), four_bits=file.recipe.name == "int4")


def described(network) -> list:
    return sorted((tensor.dtype, tensor.shape, tensor.constant) for tensor in network.tensors)


@pytest.mark.parametrize(("name", "recipe"), FILES)
def test_tensors_and_windows_of_the_table_are_those_of_the_file(converted, name, recipe):
    file = converted(name, recipe)
    ours, theirs = of_table(file, name), read(file.path).network
    assert described(ours) == described(theirs)
    assert Counter((op.kind, op.window) for op in ours.ops) == Counter((op.kind, op.window) for op in theirs.ops)


@pytest.mark.parametrize(("name", "recipe"), [*((name, "int8") for name in MOBILE), ("fd_mobilenet", "int4")])
def test_ops_and_arena_of_the_table_are_those_of_the_file(converted, name, recipe):
    file = converted(name, recipe)
    ours, theirs = of_table(file, name), read(file.path).network
    assert [op.kind for op in ours.ops] == [op.kind for op in theirs.ops]
    assert plan(ours).arena == plan(theirs).arena


@pytest.mark.parametrize("name", [name for name in zoo.ARCHS if name not in MOBILE])
def test_arena_of_a_shufflenet_is_close_to_the_file_s(converted, name):
    """The converter may run the branches of a unit in another order."""
    file = converted(name, "int8")
    assert plan(of_table(file, name)).arena == pytest.approx(plan(read(file.path).network).arena, rel=0.05)


@pytest.mark.parametrize(("name", "recipe"), FILES)
def test_flash_of_the_table_is_within_two_percent(converted, name, recipe):
    file = converted(name, recipe)
    assert estimate.file_bytes(of_table(file, name)) == pytest.approx(read(file.path).bytes, rel=0.02)


def test_weights_are_those_that_stm32_publishes():
    """STM32's model zoo lists 128.32 KiB for its FD-MobileNet 0.25 with 5 classes, at 224 and at 128 pixels."""
    for size in (128, 224):
        arch = zoo.get_arch("fd_mobilenet")
        network = estimate.converted(arch, lower(arch, 0.25, (size, size), classes=5), (size, size))
        of_layers = [index for op in network.ops for index in op.inputs[1:] if "CONV" in op.kind or "FULLY" in op.kind]
        weights = sum(network.tensors[index].bytes for index in of_layers)
        assert round(weights / 1024, 2) == 128.32


def test_odd_sides_need_no_separate_padding_except_for_image_and_pooling():
    """65 pixels become 33, 17, 9, 5 and 3, so only the first of FD-MobileNet's five strides needs separate padding."""
    arch = zoo.get_arch("fd_mobilenet")
    kinds = [op.kind for op in estimate.converted(arch, lower(arch, 0.25, (65, 65)), (65, 65)).ops]
    assert "PAD" not in kinds
    assert kinds[:4] == ["QUANTIZE", "CONCATENATION", "CONCATENATION", "CONV_2D"]
    arch = zoo.get_arch("shufflenet")
    kinds = [op.kind for op in estimate.converted(arch, lower(arch, 0.25, (65, 65)), (65, 65)).ops]
    assert "PAD" not in kinds
    assert kinds[3:7] == ["CONV_2D", "CONCATENATION", "CONCATENATION", "MAX_POOL_2D"]
