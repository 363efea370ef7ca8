"""Tests the grid of networks: costs, limits and the choice of the most accurate one."""

import dataclasses

import pytest

from fd_keras import zoo
from fd_keras.tflite.memory import grid
from fd_keras.tflite.memory.grid import DeviceLimits, GridCell
from fd_keras.tflite.memory.scratch import ESP_NN

KIB = 1 << 10
MOBILE = zoo.get_arch("fd_mobilenet")
SMALL = DeviceLimits(78 * KIB, 300 * KIB)


@pytest.fixture(scope="module")
def cells() -> list[GridCell]:
    """0.25x at 96 needs 81 KiB of RAM, so that it fits in strips; 0.5x lacks flash."""
    return list(grid.grid([MOBILE], [0.25, 0.5], [96], 5, SMALL))


def test_networks_come_in_both_recipes_and_in_strips_if_that_helps(cells):
    assert [(cell.alpha, cell.recipe, cell.strips > 1) for cell in cells] == [
        (0.25, "int8", False),
        (0.25, "int8", True),
        (0.25, "int4", False),
        (0.25, "int4", True),
        (0.5, "int8", False),
        (0.5, "int4", False),
    ]
    whole, split = cells[:2]
    assert split.ram <= SMALL.ram < whole.ram
    assert split.macs >= whole.macs
    assert 0 < split.flash - whole.flash < 20 * KIB
    assert [cell.fits(SMALL) for cell in cells] == [False, True, False, True, False, False]


def test_the_minimum_ram_is_shown_if_nothing_fits():
    first = [list(grid.grid([MOBILE], [0.25], [96], 5, DeviceLimits(ram, 300 * KIB)))[1] for ram in (KIB, 2 * KIB)]
    assert first[0] == first[1]
    assert not first[0].fits(DeviceLimits(2 * KIB, 300 * KIB))


def test_cells_grow_with_width_and_size():
    found = [grid.cell(MOBILE, alpha, size, 5, "int8")[1] for alpha in (0.25, 0.5) for size in (96, 128)]
    for small, large in ((0, 1), (0, 2), (1, 3), (2, 3)):
        assert found[small].macs < found[large].macs
        assert found[small].activations < found[large].activations
    assert 0 < found[1].flash - found[0].flash < KIB < found[2].flash - found[1].flash  # the image's frame is constant


def test_kernels_add_their_scratch_memory():
    plain, scratched = (grid.cell(MOBILE, 0.25, 96, 5, "int8", *kernels)[1] for kernels in ((), (ESP_NN,)))
    assert scratched.activations > plain.activations
    assert dataclasses.replace(scratched, activations=plain.activations) == plain


def test_published_accuracy_is_only_for_224():
    assert grid.cell(MOBILE, 0.25, 224, 1000, "int8")[1].top1 == 45.1
    assert grid.cell(MOBILE, 0.25, 192, 1000, "int8")[1].top1 is None
    assert grid.cell(MOBILE, 0.75, 224, 1000, "int8")[1].top1 is None


def made(recipe: str, macs: int, top1: float | None, ram: int = 5) -> GridCell:
    return GridCell("mobilenet", 0.25, 96, recipe, 1, macs, flash=5, activations=ram - 1, tflm=1, top1=top1)


def test_most_accurate_and_largest_networks_that_fit_are_chosen():
    found = [made("int8", 3, 40.0), made("int8", 4, 50.0), made("int8", 2, 50.0), made("int8", 9, None)]
    found += [made("int8", 99, 99.0, ram=50), made("int4", 1, None)]
    limits = DeviceLimits(5, 5)
    assert grid.most_accurate(found, "int8", limits) == found[2]
    assert grid.largest(found, "int8", limits) == found[3]
    assert (grid.most_accurate(found, "int4", limits), grid.largest(found, "int4", limits)) == (None, found[5])
    assert grid.largest(found, "int8", DeviceLimits(4, 5)) is None
    marks = [(row["fits"], row["most_accurate"], row["most_macs"]) for row in grid.records(found, limits)]
    assert marks == [(True, False, False)] * 2 + [
        (True, True, False),
        (True, False, True),
        (False, False, False),
        (True, False, True),
    ]


def test_text_has_a_line_for_each_network_and_the_answer(cells):
    lines = grid.table(cells, SMALL).split("\n")
    narrow, wide, blank, head, int8, int4, note = lines[2:]
    assert narrow.startswith("FD-MobileNet 0.25x     96     2.2 ")
    assert narrow.endswith(f"int8 in {cells[1].strips} strips, int4 in {cells[3].strips} strips")
    assert wide.endswith("  -")
    assert blank == ""
    assert head == "78.0 KiB of RAM and 300.0 KiB of flash, with TFLM's own kernels:"
    assert int8.startswith(f"int8: FD-MobileNet 0.25x at 96x96 in {cells[1].strips} strips has the most MACs, ")
    assert int4.startswith("int4: ")
    assert "top-1" in note
    assert grid.table(cells, DeviceLimits(1, 1)).count("nothing fits") == 2


@pytest.mark.parametrize(
    ("alpha", "size", "classes", "word"), [(0, 96, 5, "alpha"), (1, 16, 5, "32x32"), (1, 96, 0, "classes")]
)
def test_impossible_networks_are_refused(alpha, size, classes, word):
    with pytest.raises(ValueError, match=word):
        list(grid.grid([MOBILE], [alpha], [size], classes, SMALL))
