import keras
import numpy as np
import pytest

from fd_keras import imagenet, zoo
from fd_keras.tflite.int8.equalize import equalize, fold_input, split_ranges
from fd_keras.tflite.int8.fold import UnsupportedModel, fold
from fd_keras.tflite.int8.gptq import uncapped
from fd_keras.tflite.int8.graph import run
from fd_keras.tflite.int8.xnnpack_ops import arrange

layers = keras.layers
SHAPE = (16, 24, 3)


@pytest.fixture(scope="module")
def batch(images) -> np.ndarray:
    return images[:8]


def outputs(graph, batch) -> np.ndarray:
    return run(graph, batch).numpy()


# --- the zoo -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", zoo.ARCHS)
def test_folded_network_computes_the_same(network, batch, name):
    graph = fold(network(name))
    np.testing.assert_allclose(outputs(graph, batch), network(name).predict_on_batch(batch), rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", zoo.ARCHS)
def test_no_normalization_is_left_but_the_image_s(network, name):
    kinds = [node.kind for node in fold(network(name))]
    assert kinds[:2] == ["input", "affine"]
    assert "affine" not in kinds[2:]


@pytest.mark.parametrize("name", zoo.ARCHS)
def test_form_for_delegates_computes_the_same(network, batch, name):
    graph = fold(network(name))
    np.testing.assert_allclose(outputs(arrange(graph), batch), outputs(graph, batch), rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", zoo.ARCHS)
def test_folded_normalization_takes_raw_pixels(network, batch, name):
    graph = fold(network(name))
    folded = fold_input(graph)
    assert "affine" not in [node.kind for node in folded]
    np.testing.assert_allclose(outputs(folded, batch), outputs(graph, batch), rtol=0, atol=1e-5)


def test_folded_normalization_is_exact_where_nothing_is_padded(batch):
    image = keras.Input(batch.shape[1:])
    x = layers.Rescaling(**imagenet.rescaling())(image)
    x = layers.GlobalAveragePooling2D()(layers.Conv2D(5, 3, activation="relu")(x))
    graph = fold(keras.Model(image, x))
    np.testing.assert_allclose(outputs(fold_input(graph), batch), outputs(graph, batch), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("arguments", [(3, 2), (5, 3), (3, 1), (2, 2)])
def test_a_padded_convolution_gets_the_mean_colour_too(batch, arguments):
    """Keras pads less above than below where a stride leaves an odd number of rows."""
    image = keras.Input(batch.shape[1:])
    x = layers.Rescaling(**imagenet.rescaling())(image)
    x = layers.Conv2D(4, *arguments, padding="same", activation="relu", bias_initializer="random_normal")(x)
    graph = fold(keras.Model(image, layers.GlobalMaxPooling2D()(x)))
    folded = fold_input(graph)
    assert [node.kind for node in folded][:3] == ["input", "pad", "conv"]
    np.testing.assert_allclose(outputs(folded, batch), outputs(graph, batch), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("power", [None, 0.0, 0.75, 1.0])
@pytest.mark.parametrize("name", zoo.ARCHS)
def test_equalized_network_computes_the_same(network, batch, name, power):
    graph = fold(network(name))
    scaled = equalize(graph, batch, power=power, clip=False)
    np.testing.assert_allclose(outputs(scaled, batch), outputs(graph, batch), rtol=0, atol=1e-4)


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
    factors = [scaled.nodes[n.name].bias / n.bias for n in graph if n.kind == "depthwise"]
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
    doubled = [node for node in split if node.split is not None]
    assert len(doubled) == 3
    assert all(node.channels == 2 * graph.nodes[node.name].channels for node in doubled)
    np.testing.assert_allclose(outputs(split, batch), outputs(graph, batch), rtol=0, atol=1e-4)


# --- layers that others' models have -----------------------------------------------------------------------

LAYERS = {
    "same-padded average pooling": layers.AveragePooling2D(3, 2, "same"),
    "same-padded max pooling": layers.MaxPooling2D(3, 2, "same"),
    "average pooling": layers.AveragePooling2D(2),
    "oblong average pooling": layers.AveragePooling2D((1, 2)),
    "oblong max pooling": layers.MaxPooling2D((4, 2)),
    "pooling with uneven strides": layers.MaxPooling2D(2, (1, 2)),
    "uneven padding": layers.ZeroPadding2D(((0, 1), (2, 0))),
    "normalization without scale": layers.BatchNormalization(scale=False),
    "normalization without centre": layers.BatchNormalization(center=False),
    "normalization of rows": layers.BatchNormalization(axis=1),
    "activation": layers.Activation("relu6"),
    "capped ReLU": layers.ReLU(0.5),
    "leaky ReLU": layers.ReLU(negative_slope=0.1),
    "swish": layers.Activation("swish"),
    "convolution": layers.Conv2D(5, 3, 2, "same", activation="relu6"),
    "oblong convolution": layers.Conv2D(5, (1, 3)),
    "grouped convolution": layers.Conv2D(8, 3, groups=2, activation="relu"),
    "dilated convolution": layers.Conv2D(5, 3, dilation_rate=2),
    "convolution with uneven strides": layers.Conv2D(5, 3, (1, 2)),
    "depthwise with a multiplier": layers.DepthwiseConv2D(3, depth_multiplier=2, activation="relu"),
    "separable convolution": layers.SeparableConv2D(5, 3),
    "dense on maps": layers.Dense(5, "relu"),
    "softmax of maps": layers.Softmax(),
    "softmax of rows": layers.Softmax(axis=1),
    "rescaling": layers.Rescaling(2.0, -0.5),
    "rescaling by channel": layers.Rescaling([1.0, 2.0, 3.0, 1.0, 0.5, -1.0], 0.1),
    "dropout": layers.Dropout(0.5),
    "nested model": keras.Sequential([layers.Conv2D(5, 3), layers.BatchNormalization(), layers.ReLU()]),
    "concatenation": lambda x: layers.Concatenate()([x, layers.Conv2D(2, 1, activation="relu")(x)]),
    "concatenation of rows": lambda x: layers.Concatenate(axis=1)([x, x]),
    "sum with ReLU": lambda x: layers.ReLU()(layers.Add()([x, layers.Conv2D(6, 1)(x)])),
    "sum of three": lambda x: layers.Add()([x, layers.Conv2D(6, 1)(x), layers.ReLU()(x)]),
    "sum with itself": lambda x: layers.Add()([x, x]),
    "sum that spreads": lambda x: layers.Add()([x, layers.GlobalAveragePooling2D(keepdims=True)(x)]),
    "product": lambda x: layers.Multiply()([x, x]),
    "pooling to 1x1 maps": lambda x: layers.Conv2D(5, 1)(layers.GlobalAveragePooling2D(keepdims=True)(x)),
    "normalization after ReLU": lambda x: layers.BatchNormalization()(layers.ReLU()(x)),
}


def odd_model(build) -> keras.Model:
    """A classifier with an odd layer in the middle, and weights that are all something."""
    keras.utils.set_random_seed(4)
    image = keras.Input(SHAPE)
    x = layers.Conv2D(6, 3, padding="same", bias_initializer="random_normal")(image)
    x = layers.Conv2D(7, 2, padding="same", activation="relu")(build(x))  # so that it matters what is where
    x = layers.GlobalAveragePooling2D()(x)
    model = keras.Model(image, layers.Dense(4, "softmax", bias_initializer="random_normal")(x))
    rng = np.random.default_rng(0)
    for weight in model.weights:
        if weight.name in ("gamma", "moving_variance"):
            weight.assign(rng.uniform(0.5, 1.5, weight.shape))
        elif weight.name in ("beta", "moving_mean", "bias"):
            weight.assign(rng.normal(0, 0.3, weight.shape))
    return model


@pytest.mark.parametrize("title", LAYERS)
def test_other_layers_are_folded_rightly_or_refused(title):
    """Never wrongly: an int8 file of another function would look like one that quantization has spoilt."""
    model = odd_model(LAYERS[title])
    batch = np.random.default_rng(1).normal(size=(5, *SHAPE)).astype("float32")
    try:
        graph = fold(model)
    except UnsupportedModel as error:
        assert "int8_plain" in str(error)
        return
    expected = model.predict_on_batch(batch)
    np.testing.assert_allclose(outputs(graph, batch), expected, rtol=0, atol=1e-5)
    np.testing.assert_allclose(outputs(arrange(graph), batch), expected, rtol=0, atol=1e-5)
    scaled = equalize(graph, batch, clip=False)
    np.testing.assert_allclose(outputs(scaled, batch), expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    "title",
    ["average pooling", "capped ReLU", "convolution", "grouped convolution", "depthwise with a multiplier", "dropout",
     "nested model", "concatenation", "sum with ReLU", "uneven padding", "normalization after ReLU"],
)  # fmt: skip
def test_common_layers_are_not_refused(title):
    fold(odd_model(LAYERS[title]))


def test_flattened_maps_keep_their_order():
    image = keras.Input(SHAPE)
    x = layers.Flatten()(layers.Conv2D(3, 3, 4, activation="relu")(image))
    model = keras.Model(image, layers.Dense(4, "softmax")(layers.Dense(8, "relu")(x)))
    batch = np.random.default_rng(1).normal(size=(5, *SHAPE)).astype("float32")
    expected = model.predict_on_batch(batch)
    graph = fold(model)
    np.testing.assert_allclose(outputs(graph, batch), expected, rtol=0, atol=1e-5)
    np.testing.assert_allclose(outputs(equalize(graph, batch, clip=False), batch), expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("layer", "name"),
    [(layers.LeakyReLU(name="mine"), "mine"), (layers.UnitNormalization(name="mine"), "mine"),
     (layers.Activation("sigmoid"), "sigmoid"), (layers.Conv2D(4, 1, activation="gelu"), "gelu")],
)  # fmt: skip
def test_unknown_layer_is_named_with_the_way_out(layer, name):
    with pytest.raises(UnsupportedModel, match=f"{name}.*int8_plain"):
        fold(odd_model(layer))


def test_layer_used_twice_is_refused():
    conv = layers.Conv2D(6, 3, padding="same", name="twice")
    with pytest.raises(UnsupportedModel, match="twice"):
        fold(odd_model(lambda x: conv(conv(x))))
