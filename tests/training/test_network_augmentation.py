import keras
import numpy as np
import pytest

from fd_keras import spec, zoo
from fd_keras.training import network_augmentation, trainable_classifier
from fd_keras.training.recipes import WIDER_NETWORKS

NETWORKS = [("fd_mobilenet", 0.25), ("mobilenet", 0.125), ("shufflenet", 0.25), ("fd_shufflenet", 0.25)]


def _wider(model="fd_mobilenet", alpha=0.25, widest=3.0, seed=0):
    net = trainable_classifier.build_net(model, alpha, 32, 3)
    arch = zoo.get_arch(model)
    return net, network_augmentation.WiderNetworks(arch, spec.lower(arch, alpha, classes=3), net, widest, seed)


def _images():
    return keras.ops.array(np.random.default_rng(0).uniform(0, 255, (4, 32, 32, 3)).astype("float32"))


@pytest.mark.parametrize(("model", "alpha"), NETWORKS)
def test_wider_networks_contain_the_network(model, alpha):
    """If the extra channels are zero, a wider network computes the same as the network."""
    net, wider = _wider(model, alpha)
    own = np.asarray(net(_images(), training=True))  # both use the statistics of the batch
    numbers = (0, WIDER_NETWORKS - 1)
    assert all(np.abs(np.asarray(wider.logits(_images(), number)) - own).max() > 0.05 for number in numbers)
    for weights in wider.weights_of.values():
        for part in {"gamma", "beta"} & weights.keys():
            weights[part].assign(keras.ops.zeros(weights[part].shape))
    for number in numbers:
        # Rounding, which differs by processor and load, reached 2e-4: batch norms over few values amplify it.
        np.testing.assert_allclose(np.asarray(wider.logits(_images(), number)), own, atol=2e-3)


def test_joined_ops_share_a_block_and_networks_differ():
    _, wider = _wider("shufflenet")
    of = {name: wider.table[:, index] for name, index in wider.position.items()}
    for op in spec.lower(zoo.get_arch("shufflenet"), 0.25, classes=3):
        if op.kind in ("add", "concat"):
            assert all((of[name] == of[op.name]).all() for name in op.inputs)
    assert len({tuple(row) for row in wider.table.tolist()}) == WIDER_NETWORKS
    assert set(wider.table.ravel().tolist()) == set(range(network_augmentation.BLOCKS))
    assert (wider.table == _wider("shufflenet")[1].table).all()
    assert (wider.table != _wider("shufflenet", seed=1)[1].table).any()


def test_the_widest_network_has_the_requested_width():
    net, wider = _wider(widest=3.0)
    kernel = wider.weights_of["conv_pw_5"]
    assert net.get_layer("conv_pw_5").kernel.shape == (1, 1, 64, 64)
    assert kernel["columns"].shape == (4, 1, 1, 64, 32)  # 64 + 4 x 32 channels
    assert kernel["rows"].shape == (4, 1, 1, 32, 64)
    assert kernel["corner"].shape == (4, 4, 1, 1, 32, 32)


def test_without_a_wider_network_the_loss_is_zero():
    _, wider = _wider()
    called = []

    def criterion(logits):
        called.append(logits.shape)
        return keras.ops.mean(logits)

    assert float(wider.loss(_images(), keras.ops.array(WIDER_NETWORKS), criterion)) == 0
    assert called == []
    assert np.isfinite(float(wider.loss(_images(), keras.ops.array(0), criterion)))
    assert called == [(4, 3)]


def test_wider_networks_do_not_change_the_running_statistics():
    net, wider = _wider()
    before = net.get_weights()
    wider.logits(_images(), 5)
    for old, new in zip(before, net.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
