import json
import pathlib

import keras
import numpy as np
import pytest

from fd_keras.training import recipes
from fd_keras.training.optimizer import Schedule, TorchSGD, optimizer_of, schedule_of

FIXTURE = json.loads((pathlib.Path(__file__).parent / "fixtures" / "torch_sgd.json").read_text())


def _trained(run, optimizer):
    """Returns the weights after each step of the fixture's training, and the batch norm's running means."""
    dense, norm = keras.layers.Dense(3), keras.layers.BatchNormalization(epsilon=1e-5, momentum=0.9)
    net = keras.Sequential([keras.Input((5,)), dense, norm])
    for layer, values in ((dense, run["start"][:2]), (norm, [*run["start"][2:], np.zeros(3), np.ones(3)])):
        layer.set_weights([np.array(value, "float32") for value in values])
    net.compile(optimizer, "mse")
    steps, means = [], []
    for x, y in zip(run["inputs"], run["targets"], strict=True):
        net.train_on_batch(np.array(x, "float32"), np.array(y, "float32"))
        steps.append([value.numpy() for value in (*dense.weights, norm.gamma, norm.beta)])
        means.append(norm.moving_mean.numpy())
    return steps, means


@pytest.mark.parametrize("run", FIXTURE["runs"], ids=["plain", "nesterov"])
def test_steps_equal_torchs_across_a_drop_of_the_rate(run):
    rate = Schedule("step", 0.1, len(run["steps"]), drop_every=FIXTURE["drop"])
    optimizer = TorchSGD(rate, 0.9, run["nesterov"], FIXTURE["weight_decay"])
    steps, means = _trained(run, optimizer)
    for step, expected in zip(steps, run["steps"], strict=True):
        for value, reference in zip(step, expected, strict=True):
            # float32: each of the 8 steps adds a few rounding errors of 6e-8 to numbers of about 1
            np.testing.assert_allclose(value, reference, rtol=0, atol=2e-6)
    np.testing.assert_allclose(means, run["running_mean"], rtol=0, atol=2e-6)


def test_keras_sgd_differs_from_torchs():
    """The fixture is sensitive enough to distinguish them."""
    run = FIXTURE["runs"][0]
    rate = Schedule("step", 0.1, len(run["steps"]), drop_every=FIXTURE["drop"])
    steps, _ = _trained(run, keras.optimizers.SGD(rate, 0.9, weight_decay=FIXTURE["weight_decay"]))
    assert np.abs(steps[-1][0] - run["steps"][-1][0]).max() > 1e-3


def test_batch_norm_and_bias_can_be_excluded_from_decay():
    for decay_all in (True, False):
        kernel, bias = keras.Variable(np.ones((2, 2), "float32")), keras.Variable(np.ones(2, "float32"))
        optimizer = TorchSGD(0.5, 0.0, weight_decay=0.1, decay_all=decay_all)
        optimizer.apply([keras.ops.zeros((2, 2)), keras.ops.zeros(2)], [kernel, bias])
        np.testing.assert_allclose(kernel, 0.95)
        np.testing.assert_allclose(bias, 0.95 if decay_all else 1.0)


def test_variables_can_have_a_share_of_the_rate():
    """Their weight decay is reduced as well."""
    whole, tenth = (keras.Variable(np.ones(2, "float32")) for _ in range(2))
    optimizer = TorchSGD(0.5, 0.9, weight_decay=0.1)
    optimizer.shares = [1.0, 0.1]
    optimizer.apply([keras.ops.ones(2), keras.ops.ones(2)], [whole, tenth])
    np.testing.assert_allclose(whole, 1 - 0.5 * 1.1)
    np.testing.assert_allclose(tenth, 1 - 0.05 * 1.1)


def test_gradients_of_a_larger_norm_are_scaled_down():
    settings = {"schedule": "step", "learning_rate": 1.0, "momentum": 0.0, "weight_decay": 0.0, "warmup_epochs": 0.0}
    optimizer = optimizer_of(recipes.FINETUNE.override(clip_norm=5.0, **settings), steps_per_epoch=10)
    pair = [keras.Variable(np.zeros(2, "float32")), keras.Variable(np.float32(0))]
    for gradients, expected in (([[0.0, 0.3], 0.4], [0.3, 0.4]), ([[0.0, 30.0], 40.0], [3.3, 4.4])):
        optimizer.apply([keras.ops.convert_to_tensor(gradient) for gradient in gradients], pair)
        np.testing.assert_allclose([-pair[0][1], -pair[1]], expected, rtol=1e-6)


def test_the_optimizer_is_restored_from_its_config():
    copy = TorchSGD.from_config(TorchSGD(0.3, 0.8, True, 4e-5, False).get_config())
    assert (copy.momentum, copy.nesterov, copy.torch_weight_decay, copy.decay_all) == (0.8, True, 4e-5, False)


def test_the_paper_recipe_drops_the_rate_every_30_epochs():
    rate = schedule_of(recipes.PAPER, steps_per_epoch=5)
    assert [round(float(rate(step)), 7) for step in (0, 149, 150, 299, 300, 449)] == [
        0.1,
        0.1,
        0.01,
        0.01,
        0.001,
        0.001,
    ]


def test_cosine_warms_up_and_ends_near_zero():
    rate = schedule_of(recipes.TINY.override(learning_rate=0.1, epochs=20, warmup_epochs=2.0), steps_per_epoch=10)
    rates = [float(rate(step)) for step in range(200)]
    assert rates[0] == pytest.approx(0.1 / 20)
    assert max(rates) == pytest.approx(0.1, rel=0.01)
    assert rates.index(max(rates)) in (19, 20)
    assert 0 < rates[-1] < 1e-4
    assert all(a >= b for a, b in zip(rates[20:], rates[21:], strict=False))
