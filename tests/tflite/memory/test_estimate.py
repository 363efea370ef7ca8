"""What the grid computes from tables, against files that were converted, and a published figure."""

import math
from collections import Counter

import pytest

from fd_keras import zoo
from fd_keras.spec import lower
from fd_keras.tflite.format.flatbuffer import read
from fd_keras.tflite.memory import estimate
from fd_keras.tflite.memory.arena import plan
from fd_keras.tflite.memory.estimate import GridCell

MOBILE = ("fd_mobilenet", "mobilenet")


def of_table(file, name: str):
    """The network that the grid plans for a converted network."""
    arch, (height, width) = zoo.get_arch(name), file.model.input_shape[1:3]
    ops = lower(arch, 0.25, (height, width), classes=file.model.output_shape[1])
    return estimate.converted(arch, ops, (height, width))


def described(network) -> list:
    return sorted((tensor.dtype, tensor.shape, tensor.constant) for tensor in network.tensors)


@pytest.mark.parametrize("name", zoo.ARCHS)
def test_tensors_and_windows_of_the_table_are_those_of_the_file(converted, name):
    file = converted(name, "int8")
    ours, theirs = of_table(file, name), read(file.path).network
    assert described(ours) == described(theirs)
    assert Counter((op.kind, op.window) for op in ours.ops) == Counter((op.kind, op.window) for op in theirs.ops)


@pytest.mark.parametrize("name", MOBILE)
def test_ops_and_arena_of_the_table_are_those_of_the_file(converted, name):
    file = converted(name, "int8")
    ours, theirs = of_table(file, name), read(file.path).network
    assert [op.kind for op in ours.ops] == [op.kind for op in theirs.ops]
    assert plan(ours).arena == plan(theirs).arena


@pytest.mark.parametrize("name", [name for name in zoo.ARCHS if name not in MOBILE])
def test_arena_of_a_shufflenet_is_close_to_the_file_s(converted, name):
    """The converter may run the branches of a unit in another order."""
    file = converted(name, "int8")
    assert plan(of_table(file, name)).arena == pytest.approx(plan(read(file.path).network).arena, rel=0.05)


@pytest.mark.parametrize("name", zoo.ARCHS)
def test_flash_of_the_table_is_within_two_percent(converted, name):
    file = converted(name, "int8")
    assert estimate.file_bytes(of_table(file, name)) == pytest.approx(read(file.path).bytes, rel=0.02)


def test_weights_are_those_that_stm32_publishes():
    """STM32's model zoo gives 128.32 KiB for its FD-MobileNet .25 of 5 classes, at 224 and at 128 pixels."""
    for size in (128, 224):
        arch = zoo.get_arch("fd_mobilenet")
        network = estimate.converted(arch, lower(arch, 0.25, (size, size), classes=5), (size, size))
        of_layers = [index for op in network.ops for index in op.inputs[1:] if "CONV" in op.kind or "FULLY" in op.kind]
        weights = sum(network.tensors[index].bytes for index in of_layers)
        assert round(weights / 1024, 2) == 128.32


def test_on_odd_sides_a_convolution_pads_by_itself_but_not_the_image_and_not_a_pool():
    """65 pixels give 33, 17, 9, 5, 3: of FD-MobileNet's five strides the image's alone needs a frame of its own."""
    arch = zoo.get_arch("fd_mobilenet")
    kinds = [op.kind for op in estimate.converted(arch, lower(arch, 0.25, (65, 65)), (65, 65)).ops]
    assert "PAD" not in kinds
    assert kinds[:4] == ["QUANTIZE", "CONCATENATION", "CONCATENATION", "CONV_2D"]
    arch = zoo.get_arch("shufflenet")
    kinds = [op.kind for op in estimate.converted(arch, lower(arch, 0.25, (65, 65)), (65, 65)).ops]
    assert "PAD" not in kinds
    assert kinds[3:7] == ["CONV_2D", "CONCATENATION", "CONCATENATION", "MAX_POOL_2D"]


def test_cells_are_in_order_and_grow_with_width_and_size():
    cells = estimate.cells(zoo.get_arch("fd_mobilenet"), [0.25, 0.5], [96, 128], 5)
    assert [(cell.alpha, cell.size) for cell in cells] == [(0.25, 96), (0.25, 128), (0.5, 96), (0.5, 128)]
    for small, large in ((0, 1), (0, 2), (1, 3), (2, 3)):
        assert cells[small].macs < cells[large].macs
        assert cells[small].activations < cells[large].activations
    assert 0 < cells[1].flash - cells[0].flash < 1024 < cells[2].flash - cells[1].flash  # the image's frame is constant
    assert all(cell.ram == cell.activations + cell.tflm for cell in cells)


def test_best_has_most_macs_of_those_that_fit_both_limits():
    cells = [GridCell(1, 1, macs=m, flash=f, activations=a, tflm=1) for m, f, a in ((1, 5, 5), (3, 9, 5), (2, 5, 8))]
    assert estimate.best(cells, ram=9, flash=9) == cells[1]
    assert estimate.best(cells, ram=9, flash=8) == cells[2]
    assert estimate.best(cells, ram=8, flash=8) == cells[0]
    assert estimate.best(cells, ram=5, flash=8) is None
    assert math.isinf(estimate.best([GridCell(1, 1, math.inf, 5, 5, 1)], 6, 5).macs)


@pytest.mark.parametrize(
    ("alpha", "size", "classes", "word"), [(0, 96, 5, "alpha"), (1, 16, 5, "32x32"), (1, 96, 0, "classes")]
)
def test_impossible_networks_are_refused(alpha, size, classes, word):
    with pytest.raises(ValueError, match=word):
        estimate.cells(zoo.get_arch("fd_mobilenet"), [alpha], [size], classes)
