import pytest

from benchmarks import train_step
from fd_keras import cost


@pytest.mark.parametrize("title", train_step.NETWORKS)
def test_all_networks_are_built(title):
    model = train_step.NETWORKS[title](64)
    assert model.output_shape == (None, train_step.CLASSES)
    assert model.input_shape == (None, 64, 64, 3)


def test_a_grouped_op_equals_one_op_per_group():
    separate, grouped = (
        cost.profile(train_step.NETWORKS[f"ShuffleNet 0.25x, {kind}"](64)).macs
        for kind in ("one op per group", "grouped op")
    )
    assert separate == grouped
