import keras
import numpy as np
import pytest

from fd_keras import zoo
from fd_keras.tflite.int8.equalize import equalize
from fd_keras.tflite.int8.fold import UnsupportedModelError, fold
from fd_keras.tflite.int8.graph import Affine, Input, run
from fd_keras.tflite.int8.xnnpack_ops import arrange

layers = keras.layers
SHAPE = (16, 24, 3)


@pytest.fixture(scope="module")
def batch(images) -> np.ndarray:
    return images[:8]


def outputs(graph, batch) -> np.ndarray:
    return run(graph, batch).numpy()


# --- the zoo ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", zoo.ARCHS)
def test_folded_network_computes_the_same(network, batch, name):
    graph = fold(network(name))
    np.testing.assert_allclose(outputs(graph, batch), network(name).predict_on_batch(batch), rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", zoo.ARCHS)
def test_only_the_normalization_of_the_image_remains(network, name):
    image, normalization, *others = fold(network(name))
    assert isinstance(image, Input)
    assert isinstance(normalization, Affine)
    assert not [node.name for node in others if isinstance(node, Affine)]


# --- layers of other models ------------------------------------------------------------------------------


LAYERS = {
    "same-padded average pooling": layers.AveragePooling2D(3, 2, "same"),
    "same-padded max pooling": layers.MaxPooling2D(3, 2, "same"),
    "average pooling": layers.AveragePooling2D(2),
    "oblong average pooling": layers.AveragePooling2D((1, 2)),
    "oblong max pooling": layers.MaxPooling2D((4, 2)),
    "pooling with uneven strides": layers.MaxPooling2D(2, (1, 2)),
    "uneven padding": layers.ZeroPadding2D(((0, 1), (2, 0))),
    "normalization without scale": layers.BatchNormalization(scale=False),
    "normalization without center": layers.BatchNormalization(center=False),
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
    """Builds a classifier with an unusual layer in the middle and nonzero random weights."""
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


# Layers of `LAYERS` that the recipe does not support; it folds all others.
UNKNOWN = {
    "oblong average pooling",
    "oblong max pooling",
    "pooling with uneven strides",
    "normalization of rows",
    "leaky ReLU",
    "swish",
    "dilated convolution",
    "convolution with uneven strides",
    "separable convolution",
    "softmax of rows",
    "concatenation of rows",
    "sum that spreads",
    "product",
    "pooling to 1x1 maps",
}


@pytest.mark.parametrize("title", sorted(LAYERS.keys() - UNKNOWN))
def test_other_layers_compute_the_same_in_every_form(title):
    model = odd_model(LAYERS[title])
    batch = np.random.default_rng(1).normal(size=(5, *SHAPE)).astype("float32")
    expected, graph = model.predict_on_batch(batch), fold(model)
    np.testing.assert_allclose(outputs(graph, batch), expected, rtol=0, atol=1e-5)
    np.testing.assert_allclose(outputs(arrange(graph), batch), expected, rtol=0, atol=1e-5)
    scaled = equalize(graph, batch, clip=False)
    np.testing.assert_allclose(outputs(scaled, batch), expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("title", sorted(UNKNOWN))
def test_unsupported_layers_are_rejected(title):
    """They must not be folded incorrectly: the result would look like a quantization error."""
    with pytest.raises(UnsupportedModelError, match="int8_plain"):
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
    [
        (layers.LeakyReLU(name="mine"), "mine"),
        (layers.UnitNormalization(name="mine"), "mine"),
        (layers.Activation("sigmoid"), "sigmoid"),
        (layers.Conv2D(4, 1, activation="gelu"), "gelu"),
    ],
)
def test_unknown_layer_is_named_with_an_alternative(layer, name):
    with pytest.raises(UnsupportedModelError, match=f"{name}.*int8_plain"):
        fold(odd_model(layer))


def test_layer_used_twice_is_refused():
    conv = layers.Conv2D(6, 3, padding="same", name="twice")
    with pytest.raises(UnsupportedModelError, match="twice"):
        fold(odd_model(lambda x: conv(conv(x))))
