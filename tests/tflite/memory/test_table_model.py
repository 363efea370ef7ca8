"""Networks of tables in strips, against the files that `convert` makes."""

from pathlib import Path

import pytest

from fd_keras import zoo
from fd_keras.spec import lower
from fd_keras.tflite.format.flatbuffer import network_of, parse
from fd_keras.tflite.memory import estimate
from fd_keras.tflite.memory.table_model import model_of
from fd_keras.tflite.strips.search import trade


def of_table(name: str, size: tuple[int, int], classes: int):
    arch = zoo.get_arch(name)
    return estimate.converted(arch, lower(arch, 0.25, size, classes=classes), size)


@pytest.mark.parametrize("name", zoo.ARCHS)
@pytest.mark.parametrize("size", [(64, 96), (65, 65)])
def test_it_is_the_same_network(name, size):
    network = of_table(name, size, 10)
    assert network_of(model_of(network)) == network


def test_the_trade_is_that_of_the_file(converted):
    file = converted("fd_mobilenet", "int8")
    plans = [
        [(plan.strips, plan.cuts, plan.activations, plan.tflm, plan.macs) for plan in trade(model)]
        for model in (
            model_of(of_table("fd_mobilenet", file.model.input_shape[1:3], file.model.output_shape[1])),
            parse(Path(file.path).read_bytes()),
        )
    ]
    assert len(plans[0]) > 2
    assert plans[0] == plans[1]
