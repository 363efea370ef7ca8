"""Tests strips of networks that were estimated from tables, against converted files."""

from pathlib import Path

import pytest

from fd_keras import zoo
from fd_keras.spec import lower
from fd_keras.tflite.format.flatbuffer import network_of, parse
from fd_keras.tflite.memory import estimate
from fd_keras.tflite.memory.table_model import model_of
from fd_keras.tflite.strips.search import trade
from tests.tflite.conftest import CLASSES, SIZE


def of_table(name: str, size: tuple[int, int], four_bits: bool = False):
    arch = zoo.get_arch(name)
    return estimate.converted(arch, lower(arch, 0.25, size, classes=CLASSES), size, four_bits=four_bits)


@pytest.mark.parametrize("name", zoo.ARCHS)
@pytest.mark.parametrize("size", [(64, 96), (65, 65)])
def test_conversion_to_the_schema_keeps_the_network(name, size):
    network = of_table(name, size)
    assert network_of(model_of(network)) == network


@pytest.mark.parametrize(
    ("name", "recipe"), [("fd_mobilenet", "int8"), ("mobilenet", "int8"), ("fd_mobilenet", "int4")]
)
def test_strips_match_those_of_the_file(converted, name, recipe):
    data = Path(converted(name, recipe).path).read_bytes()
    plans = [
        [(plan.strips, plan.cuts, plan.activations, plan.tflm, plan.macs) for plan in trade(model)]
        for model in (model_of(of_table(name, SIZE, recipe == "int4")), parse(data))
    ]
    assert len(plans[0]) > 2 or recipe == "int4"  # which unpacks kernels in more RAM than these images take
    assert plans[0] == plans[1]
