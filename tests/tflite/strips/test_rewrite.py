"""Tests that files whose first layers run in strips have bit-identical outputs."""

import numpy as np
import pytest

from fd_keras.tflite.format.flatbuffer import network_of, pack, parse
from fd_keras.tflite.strips.rewrite import in_strips, regions
from tests.tflite.strips.conftest import NETWORKS, OWN

every_network = pytest.mark.parametrize("name", NETWORKS)


@every_network
def test_outputs_in_strips_are_bit_identical(parsed, answers, name):
    """Covers several regions, and uneven strips down to a single row."""
    model = parsed(name)
    expected, found = answers(model), regions(model)
    assert len(np.unique(expected)) > 4  # the outputs differ between images
    for region in found[:: max(1, len(found) // 6)]:
        cuts = sorted({0, 1, region.height // 2 + 1, region.height})
        changed = in_strips(model, region, cuts)
        np.testing.assert_array_equal(answers(changed), expected)


@every_network
def test_strips_of_one_row_each(parsed, answers, name):
    model = parsed(name)
    region = next(region for region in regions(model)[::-1] if region.height <= 10)
    np.testing.assert_array_equal(answers(in_strips(model, region, range(region.height + 1))), answers(model))


def test_regions_extend_to_the_mean(parsed):
    """They end before the mean, since no earlier operation needs the whole image, and include whole shortcuts."""
    model = parsed(OWN)
    ops = network_of(model).ops
    last = regions(model)[-1]
    assert ops[last.first + len(last.layers)].kind == "MEAN"
    inside = max(time for time, op in enumerate(ops) if op.kind == "ADD")
    depths = {region.first + len(region.layers) for region in regions(model)}
    assert inside not in depths
    assert inside + 1 in depths


def test_a_packed_file_in_strips_can_be_read_and_the_model_does_not_change(parsed):
    model = parsed("fd_mobilenet")
    before = pack(model)
    changed = pack(in_strips(model, regions(model)[1], [0, 2, 32]))
    assert pack(model) == before
    assert network_of(parse(changed)).all_macs > network_of(model).all_macs
