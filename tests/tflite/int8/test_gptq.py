import numpy as np
import pytest

from fd_keras.tflite.int8.equalize import equalize, fold_input
from fd_keras.tflite.int8.fold import fold
from fd_keras.tflite.int8.gptq import (
    Correction,
    correct,
    fit,
    grid_ends,
    nearest,
    on_grid,
    round_to_four_bits,
    round_weights,
)
from fd_keras.tflite.int8.graph import Conv, Dense, DepthwiseConv, Node, Softmax, walk

# --- roundings -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def regression():
    """Correlated inputs of 12 numbers, as neighbouring pixels are, and weights to four outputs."""
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(500, 3)) @ rng.normal(size=(3, 12)) + 0.1 * rng.normal(size=(500, 12))
    return inputs - inputs.mean(axis=0), rng.normal(size=(12, 4)) * [1, 10, 0.1, 1]


def steps_of(rounded: np.ndarray, weights: np.ndarray) -> np.ndarray:
    return rounded / (np.abs(weights).max(axis=0) / 127)


def rounded_by(how: str, inputs: np.ndarray, weights: np.ndarray) -> np.ndarray:
    return nearest(weights) if how == "nearest" else round_weights(weights, inputs.T @ inputs)


@pytest.mark.parametrize("how", ["nearest", "round_weights"])
def test_weights_become_whole_steps_and_the_largest_stays(regression, how):
    inputs, weights = regression
    steps = steps_of(rounded_by(how, inputs, weights), weights)
    np.testing.assert_allclose(steps, np.round(steps), atol=1e-6)
    largest = np.abs(weights).argmax(axis=0)
    np.testing.assert_allclose(np.abs(steps[largest, range(4)]), 127)
    assert np.abs(steps).max() <= 127 + 1e-9


def test_weights_of_four_bits_are_on_fifteen_levels_and_err_less_than_the_nearest(regression):
    """Each output uses its outermost level, from which the converter takes the scale."""
    inputs, weights = regression
    rounded = round_to_four_bits(weights, inputs.T @ inputs)
    steps = rounded / (np.abs(rounded).max(axis=0) / 7)
    np.testing.assert_allclose(steps, np.round(steps), atol=1e-6)
    errors = [np.sum((inputs @ (found - weights)) ** 2) for found in (rounded, nearest(weights, 7))]
    assert errors[0] < 0.5 * errors[1]


def test_no_single_weight_of_four_bits_could_move_to_a_better_level():
    """Each but the largest of its output, which sets the scale; greedy rounding alone leaves better levels."""
    rng = np.random.default_rng(0)
    inputs, weights = rng.normal(size=(300, 64)), rng.normal(size=(64, 32))
    gram = inputs.T @ inputs
    rounded = round_to_four_bits(weights, gram)
    scale = np.abs(rounded).max(axis=0) / 7
    np.testing.assert_allclose(rounded / scale, np.round(rounded / scale), atol=1e-6)
    inner = np.abs(rounded / scale) < 6.5  # others can only move inwards, or are the largest
    slopes = gram @ (rounded - weights)
    for row, column in np.argwhere(inner):
        for step in (-scale[column], scale[column]):
            change = 2 * step * slopes[row, column] + step**2 * gram[row, row]
            assert change > -1e-9 * gram[row, row]


def test_nearest_is_off_by_half_a_step_at_most(regression):
    _, weights = regression
    assert np.abs(steps_of(nearest(weights) - weights, weights)).max() <= 0.5 + 1e-9


def test_roundings_that_make_up_for_each_other_err_less(regression):
    inputs, weights = regression
    plain, clever = (
        np.sum((inputs @ (rounded_by(how, inputs, weights) - weights)) ** 2, axis=0)
        for how in ("nearest", "round_weights")
    )
    assert clever.sum() < 0.5 * plain.sum()


@pytest.mark.parametrize("rounding", [nearest, lambda w: round_weights(w, np.eye(3))])
def test_output_without_weights_stays_zero(rounding):
    weights = np.array([[0.0, 1.0], [0.0, -0.5], [0.0, 0.25]])
    assert not rounding(weights)[:, 0].any()


def test_fit_without_a_ridge_is_least_squares(regression):
    inputs, weights = regression
    wanted = inputs @ weights + np.random.default_rng(1).normal(size=(500, 4))
    start = weights + 0.5
    fitted = fit(start, inputs.T @ inputs, inputs.T @ (wanted - inputs @ start), 1e-12)
    np.testing.assert_allclose(fitted, np.linalg.lstsq(inputs, wanted, rcond=None)[0], rtol=1e-4)


def test_a_strong_ridge_holds_the_weights(regression):
    inputs, weights = regression
    wanted = inputs @ (weights + 1)
    fitted = fit(weights, inputs.T @ inputs, inputs.T @ (wanted - inputs @ weights), 1e9)
    np.testing.assert_allclose(fitted, weights, atol=1e-4)


# --- grids of outputs ------------------------------------------------------------------------------------


def test_an_output_is_rounded_to_256_levels_of_which_zero_is_one():
    values = np.array([[-1.0, -0.3, 0.0, 2.0]], "float32")
    node = Dense("dense", ("image",), 4, np.eye(4), np.zeros(4))
    assert grid_ends(node, values) == (-1.0, 2.0)
    steps = on_grid(node, values).numpy() / (3 / 255)
    np.testing.assert_allclose(steps, [[-85, np.round(-0.3 * 85), 0, 170]], atol=1e-4)


@pytest.mark.parametrize(("cap", "end"), [(None, 2.0), (6.0, 6.0)])
def test_the_grid_of_a_relu_ends_at_its_cap_or_the_largest_output(cap, end):
    node = Dense("dense", ("image",), 2, np.eye(2), np.zeros(2), relu=True, cap=cap)
    assert grid_ends(node, np.array([[0.5, 2.0]], "float32")) == (0.0, end)


def test_what_only_moves_numbers_does_not_round_them():
    values = np.array([[0.123, 0.877]], "float32")
    assert on_grid(Softmax("softmax", ("dense",), 2), values) is values


# --- whole graphs ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def graphs(network, calibration):
    """FD-MobileNet equalized, and the images it was equalized on."""
    images = calibration.images.astype("float32")
    return equalize(fold_input(fold(network("fd_mobilenet"))), images), images


def outputs_before_relus(graph, images) -> dict[str, np.ndarray]:
    """What the convolutions put out before their ReLUs, by name, as (rows, channels)."""
    found = {}

    def output(node: Node, inputs: list):
        before = node.compute(inputs)
        if isinstance(node, Conv | DepthwiseConv):
            found[node.name] = before.numpy().reshape(-1, node.channels)
        return node.activate(before)

    for _ in walk(graph, images, output):
        pass
    return found


def mean_errors(exact, graph, images) -> list[float]:
    """How far each layer's mean output per channel is from the exact one, in parts of the channels' deviation."""
    wanted, got = (outputs_before_relus(network, images) for network in (exact, graph))
    return [float(np.abs((got[name] - wanted[name]).mean(axis=0)).max() / wanted[name].std()) for name in wanted]


def test_bias_correction_restores_the_means(graphs):
    exact, images = graphs
    without, corrected = (
        mean_errors(exact, correct(exact, exact, images, Correction(fit=0, compensate=False, bias=bias)), images)
        for bias in (False, True)
    )
    assert np.mean(corrected) < 0.6 * np.mean(without)


@pytest.mark.parametrize("how", [Correction(), Correction(fit=0), Correction(fit=0, compensate=False, bias=False)])
def test_corrected_weights_are_whole_steps(graphs, how):
    exact, images = graphs
    for node in correct(exact, exact, images[:8], how).weighted:
        steps = node.matrix / (np.abs(node.matrix).max(axis=0) / 127)
        np.testing.assert_allclose(steps, np.round(steps), atol=1e-3, err_msg=node.name)


def test_layers_that_are_too_large_to_solve_are_rounded_to_nearest(graphs, monkeypatch):
    from fd_keras.tflite.int8 import gptq

    monkeypatch.setattr(gptq, "_LARGEST_FAN_IN", 0)
    exact, images = graphs
    rounded = correct(exact, exact, images[:8], Correction())
    for node in exact.weighted:
        expected = nearest(node.matrix).reshape(node.kernel.shape)
        np.testing.assert_allclose(rounded.nodes[node.name].kernel, expected, rtol=1e-6, atol=1e-9)
