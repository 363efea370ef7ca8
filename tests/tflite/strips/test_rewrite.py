"""Files whose first layers run in strips answer as before, to the bit."""

import numpy as np
import pytest

from fd_keras.tflite.format.flatbuffer import network_of, pack, parse
from fd_keras.tflite.strips.rewrite import in_strips, regions
from tests.tflite.strips.conftest import NETWORKS, OWN

every_network = pytest.mark.parametrize("name", NETWORKS)


@every_network
def test_answers_in_strips_are_the_same_to_the_bit(parsed, answers, name):
    """Through each of some depths, in uneven strips down to a single row."""
    model = parsed(name)
    expected, found = answers(model), regions(model)
    assert len(np.unique(expected)) > 4  # answers that could differ
    for region in found[:: max(1, len(found) // 6)]:
        cuts = sorted({0, 1, region.height // 2 + 1, region.height})
        changed = in_strips(model, region, cuts)
        np.testing.assert_array_equal(answers(changed), expected)


@every_network
def test_strips_of_one_row_each(parsed, answers, name):
    model = parsed(name)
    region = next(region for region in regions(model)[::-1] if region.height <= 10)
    np.testing.assert_array_equal(answers(in_strips(model, region, range(region.height + 1))), answers(model))


def test_regions_go_as_far_as_rows_do(parsed):
    """To the mean: no operation in between needs the whole image, and a shortcut is not cut off."""
    model = parsed(OWN)
    ops = network_of(model).ops
    last = regions(model)[-1]
    assert ops[last.first + len(last.layers)].kind == "MEAN"
    inside = max(time for time, op in enumerate(ops) if op.kind == "ADD")
    depths = {region.first + len(region.layers) for region in regions(model)}
    assert inside not in depths
    assert inside + 1 in depths


def test_a_packed_file_in_strips_can_be_read_and_the_model_stays_as_it_is(parsed):
    model = parsed("fd_mobilenet")
    before = pack(model)
    changed = pack(in_strips(model, regions(model)[1], [0, 2, 32]))
    assert pack(model) == before
    assert network_of(parse(changed)).all_macs > network_of(model).all_macs
