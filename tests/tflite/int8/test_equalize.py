import keras
import numpy as np
import pytest

from fd_keras import imagenet, zoo
from fd_keras.tflite.int8.equalize import best_clip, best_cut, equalize, fold_input, split_ranges
from fd_keras.tflite.int8.fold import fold
from fd_keras.tflite.int8.gptq import uncapped
from fd_keras.tflite.int8.graph import Affine, Conv, Dense, DepthwiseConv, Input, Pad, run

layers = keras.layers


@pytest.fixture(scope="module")
def batch(images) -> np.ndarray:
    return images[:8]


def outputs(graph, batch) -> np.ndarray:
    return run(graph, batch).numpy()


# --- raw pixels ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", zoo.ARCHS)
def test_folded_normalization_takes_raw_pixels(network, batch, name):
    graph = fold(network(name))
    folded = fold_input(graph)
    assert not [node.name for node in folded if isinstance(node, Affine)]
    np.testing.assert_allclose(outputs(folded, batch), outputs(graph, batch), rtol=0, atol=1e-5)


def test_folded_normalization_is_exact_where_nothing_is_padded(batch):
    image = keras.Input(batch.shape[1:])
    x = layers.Rescaling(**imagenet.rescaling())(image)
    x = layers.GlobalAveragePooling2D()(layers.Conv2D(5, 3, activation="relu")(x))
    graph = fold(keras.Model(image, x))
    np.testing.assert_allclose(outputs(fold_input(graph), batch), outputs(graph, batch), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("arguments", [(3, 2), (5, 3), (3, 1), (2, 2)])
def test_a_padded_convolution_gets_the_mean_color_too(batch, arguments):
    """Keras pads less above than below where a stride leaves an odd number of rows."""
    image = keras.Input(batch.shape[1:])
    x = layers.Rescaling(**imagenet.rescaling())(image)
    x = layers.Conv2D(4, *arguments, padding="same", activation="relu", bias_initializer="random_normal")(x)
    graph = fold(keras.Model(image, layers.GlobalMaxPooling2D()(x)))
    folded = fold_input(graph)
    assert [type(node) for node in folded][:3] == [Input, Pad, Conv]
    np.testing.assert_allclose(outputs(folded, batch), outputs(graph, batch), rtol=1e-4, atol=1e-5)


def test_a_normalization_that_something_else_takes_too_stays(batch):
    image = keras.Input(batch.shape[1:])
    x = layers.Rescaling(**imagenet.rescaling())(image)
    both = layers.Add()([layers.Conv2D(3, 1, activation="relu")(x), x])
    graph = fold(keras.Model(image, layers.GlobalAveragePooling2D()(both)))
    assert fold_input(graph) is graph


# --- choices of ranges -----------------------------------------------------------------------------------


def rounding_error(values: np.ndarray, end: float) -> float:
    """Squared error of 256 levels from 0 to `end`, by doing it."""
    step = end / 255
    return float(np.mean((np.clip(np.round(values / step), 0, 255) * step - values) ** 2))


@pytest.mark.parametrize("tail", [0.0, 0.001, 0.02])
def test_best_clip_errs_no_more_than_any_other(tail):
    rng = np.random.default_rng(0)
    values = np.abs(rng.normal(size=40_000))
    values[rng.random(40_000) < tail] *= 8
    chosen = rounding_error(values, best_clip(values))
    others = [rounding_error(values, values.max() * part) for part in np.linspace(0.05, 1, 60)]
    assert chosen <= 1.05 * min(others)  # it counts in a histogram


def test_best_clip_keeps_what_is_even_and_drops_a_giant_among_very_many():
    even = np.linspace(0, 3, 2_000_000)
    assert best_clip(even) > 2.9
    # n (c / 255)^2 / 12 + (1000 - c)^2 is least at c = 1000 / (1 + n / 780300)
    assert best_clip(np.append(even, 1000.0)) == pytest.approx(1000 / (1 + len(even) / 780_300), rel=0.05)


@pytest.mark.parametrize("values", [np.zeros(5), -np.ones(5), np.zeros(0)])
def test_nothing_positive_needs_no_range(values):
    assert best_clip(values) == 0


def test_best_cut_leaves_the_smaller_part_to_the_crowd():
    crowd = np.random.default_rng(0).uniform(0, 1, 10_000)
    assert best_cut(np.append(crowd, [6.0])) < 1.5
    assert best_cut(6 - crowd) > 4.5


# --- whole graphs ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("power", [None, 0.0, 0.75, 1.0])
@pytest.mark.parametrize("name", zoo.ARCHS)
def test_equalized_network_computes_the_same(network, batch, name, power):
    graph = fold(network(name))
    scaled = equalize(graph, batch, power=power, clip=False)
    np.testing.assert_allclose(outputs(scaled, batch), outputs(graph, batch), rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", zoo.ARCHS)
def test_kernels_of_coarse_layers_are_only_scaled_as_a_whole(network, batch, name):
    graph = fold(network(name))
    last = next(node for node in reversed(list(graph)) if isinstance(node, Dense))
    scaled = equalize(graph, batch, coarse=[last.name])
    ratio = scaled.nodes[last.name].kernel / last.kernel
    np.testing.assert_allclose(ratio, ratio[0, 0], rtol=1e-4)
    equal = equalize(graph, batch).nodes[last.name].kernel / last.kernel
    assert equal.max() > 1.1 * equal.min()
    np.testing.assert_allclose(
        outputs(equalize(graph, batch, clip=False, coarse=[last.name]), batch), outputs(graph, batch), rtol=0, atol=1e-4
    )


@pytest.mark.parametrize("name", zoo.ARCHS)
def test_equalized_activations_end_at_six(network, batch, name):
    relus = [node for node in equalize(fold(network(name)), batch) if node.relu]
    assert relus
    assert {node.cap for node in relus} == {6.0}


@pytest.fixture(scope="module")
def capped(batch) -> keras.Model:
    """Keras's MobileNet, whose ReLUs end at 6, with activations that reach that in some channels."""
    keras.utils.set_random_seed(2)
    shape = batch.shape[1:]
    trunk = keras.applications.MobileNet(shape, alpha=0.25, include_top=False, weights=None, pooling="avg")
    model = keras.Sequential([keras.Input(shape), trunk, layers.Dense(4, "softmax")])
    rng = np.random.default_rng(0)
    for layer in trunk.layers:
        if isinstance(layer, layers.BatchNormalization):
            layer.momentum = 0.0
            layer.gamma.assign(rng.uniform(0.3, 2.5, layer.gamma.shape))
    model(batch, training=True)
    return model


@pytest.mark.parametrize("clip", [False, True])
def test_relus_that_end_at_six_are_equalized_too(capped, batch, clip):
    graph = fold(capped)
    scaled = equalize(graph, batch, clip=clip)
    factors = [scaled.nodes[n.name].bias / n.bias for n in graph if isinstance(n, DepthwiseConv)]
    assert min(factor[np.isfinite(factor)].max() for factor in factors) > 1.05  # the quieter channels are louder
    assert {node.cap for node in scaled if node.relu} == {6.0}
    exact = scaled if not clip else uncapped(scaled)
    # 27 layers that amplify what float32 rounds.
    np.testing.assert_allclose(outputs(exact, batch), outputs(graph, batch), rtol=0, atol=5e-4)


def test_a_relu_s_own_end_survives_where_something_larger_joins_it(batch):
    image = keras.Input(batch.shape[1:])
    low = layers.ReLU(6.0)(layers.Conv2D(3, 1, kernel_initializer="ones")(image))
    high = layers.Conv2D(3, 1, kernel_initializer="ones", activation="relu")(image)
    x = layers.GlobalAveragePooling2D()(layers.Conv2D(5, 1)(layers.Concatenate()([low, high])))
    graph = fold(keras.Model(image, x))
    expected = outputs(graph, batch)
    np.testing.assert_allclose(outputs(equalize(graph, batch, clip=False), batch), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["fd_mobilenet", "mobilenet"])
def test_split_network_computes_the_same(network, batch, name):
    graph = equalize(fold(network(name)), batch, clip=False)
    split = split_ranges(graph, batch, count=3)
    doubled = [node for node in split if isinstance(node, DepthwiseConv) and node.split is not None]
    assert len(doubled) == 3
    assert all(node.channels == 2 * graph.nodes[node.name].channels for node in doubled)
    np.testing.assert_allclose(outputs(split, batch), outputs(graph, batch), rtol=0, atol=1e-4)


def test_what_cannot_be_split_stays(network, batch):
    """No pointwise convolution follows ShuffleNet's depthwise ones without a concatenation or groups."""
    graph = equalize(fold(network("shufflenet")), batch, clip=False)
    assert list(split_ranges(graph, batch, count=3)) == list(graph)
