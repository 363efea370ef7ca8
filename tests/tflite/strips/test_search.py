import re

import pytest

from fd_keras.tflite.format.flatbuffer import network_of, pack, parse
from fd_keras.tflite.memory.arena import plan, tflm_bytes
from fd_keras.tflite.strips.rewrite import MOST_STRIPS
from fd_keras.tflite.strips.search import facts, fitting, table, trade
from tests.tflite.strips.conftest import NETWORKS


@pytest.fixture(scope="module")
def front(parsed):
    return trade(parsed("fd_mobilenet"))


@pytest.mark.parametrize("name", NETWORKS)
def test_less_ram_costs_more_macs(parsed, answers, name):
    """The front begins with the whole network; the last plan has the same outputs, with less RAM for activations."""
    model = parsed(name)
    whole, *others = trade(model)
    assert whole.model is model
    for one, other in zip([whole, *others], others, strict=False):
        assert other.ram < one.ram
        assert other.macs >= one.macs
        assert 2 <= other.strips <= MOST_STRIPS
    assert others[-1].activations < whole.activations
    assert (answers(others[-1].model) == answers(model)).all()


def test_figures_are_those_of_the_file(front):
    for candidate in front:
        network = network_of(parse(pack(candidate.model)))
        assert candidate.activations == plan(network).arena
        assert candidate.tflm == tflm_bytes(network)
        assert candidate.macs == network.all_macs


def test_first_plan_that_fits_is_chosen(front):
    assert fitting(front, front[0].ram) is front[0]
    assert fitting(front, front[2].ram) is front[2]
    assert fitting(front, front[1].ram - 1) is front[2]


def test_minimum_ram_is_named_if_nothing_fits(front):
    with pytest.raises(ValueError, match=f"at least {front[-1].ram / 1024:.1f} KiB of RAM"):
        fitting(front, front[-1].ram - 1)


def test_trade_off_as_text_and_as_facts(front):
    lines = table(front, front[1]).splitlines()
    assert len(lines) == len(front) + 1
    assert [line.endswith("<- chosen") for line in lines] == [i == 2 for i in range(len(lines))]
    found = re.fullmatch(r" *(\d+)  ([\dx]+) +([\d.]+) \+ +([\d.]+) = +([\d.]+)  \+([\d.]+)%  <- chosen", lines[2])
    assert int(found[1]) == front[1].strips
    assert found[2] == "x".join(map(str, front[1].shape[1:]))
    assert lines[1].split()[0] == "none"
    assert abs(float(found[5]) * 1024 - front[1].ram) < 52
    told = facts(front, front[1])
    assert told["count"] == len(told["cuts"]) - 1
    assert told["activations"] < told["whole"]["activations"] == front[0].activations
