import keras
import numpy as np
import pytest

from fd_keras import ChannelShuffle
from fd_keras.layers import GroupedConv2D


def shuffled(array: np.ndarray, groups: int) -> np.ndarray:
    """Channel g * n + i becomes channel i * groups + g (arXiv 1707.01083, section 3.1)."""
    count = array.shape[-1] // groups
    result = np.empty_like(array)
    for group in range(groups):
        for index in range(count):
            result[..., index * groups + group] = array[..., group * count + index]
    return result


@pytest.mark.parametrize(("groups", "channels"), [(1, 5), (2, 8), (3, 15), (4, 4), (8, 48)])
def test_channel_shuffle_of_a_fixed_size(groups, channels):
    array = np.arange(2 * 3 * 4 * channels, dtype="float32").reshape(2, 3, 4, channels)
    assert np.array_equal(ChannelShuffle(groups)(array), shuffled(array, groups))


def test_channel_shuffle_of_any_size(run):
    image = keras.Input((None, None, 6))
    model = keras.Model(image, ChannelShuffle(3)(image))
    assert model.output_shape == (None, None, None, 6)
    array = np.random.default_rng(0).random((2, 5, 7, 6), "float32")
    assert np.array_equal(run(model, array), shuffled(array, 3))


def test_groups_must_divide_the_channels():
    with pytest.raises(ValueError, match="3 groups do not divide the 8 channels"):
        ChannelShuffle(3)(keras.Input((4, 4, 8)))


def test_channel_shuffle_is_serializable():
    layer = ChannelShuffle(4, name="shuffle")
    restored = keras.layers.deserialize(keras.layers.serialize(layer))
    assert (restored.groups, restored.name) == (4, "shuffle")


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"kernel_size": 3, "padding": "same"},
        {"kernel_size": 3, "strides": 2, "activation": "relu"},
        {"use_bias": False},
    ],
)
def test_grouped_convolution_equals_keras_conv2d(arguments, training):
    arguments = {"filters": 6, "kernel_size": 1, "groups": 3, "bias_initializer": "random_normal"} | arguments
    image = np.random.default_rng(0).normal(size=(2, 5, 7, 9)).astype("float32")
    grouped, plain = GroupedConv2D(**arguments), keras.layers.Conv2D(**arguments)
    grouped.build(image.shape)
    plain.build(image.shape)
    plain.set_weights(grouped.get_weights())
    expected = keras.ops.convert_to_numpy(plain(image))
    np.testing.assert_allclose(keras.ops.convert_to_numpy(grouped(image, training=training)), expected, atol=1e-5)


def test_grouped_convolution_is_serializable():
    layer = GroupedConv2D(8, 1, groups=4, name="grouped")
    restored = keras.layers.deserialize(keras.layers.serialize(layer))
    assert (restored.groups, restored.filters, restored.name) == (4, 8, "grouped")


def ranks_in_tensorflow(model) -> set[int]:
    import tensorflow as tf

    function = tf.function(lambda x: model(x, training=False))
    graph = function.get_concrete_function(tf.TensorSpec((2, 64, 64, 3))).graph
    return {output.shape.rank for operation in graph.get_operations() for output in operation.outputs}


def ranks_in_jax(model) -> set[int]:
    import jax

    jaxpr = jax.make_jaxpr(lambda x: model(x, training=False))(np.zeros((2, 64, 64, 3), "float32"))
    return set(_ranks(jaxpr.jaxpr))


def _ranks(jaxpr):
    for equation in jaxpr.eqns:
        yield from (variable.aval.ndim for variable in equation.outvars)
        for parameter in equation.params.values():
            if hasattr(parameter, "jaxpr"):  # a nested function
                yield from _ranks(parameter.jaxpr)


def test_no_tensor_of_shufflenet_has_five_dimensions(small):
    ranks = {"tensorflow": ranks_in_tensorflow, "jax": ranks_in_jax}[keras.backend.backend()](small("shufflenet"))
    assert 4 in ranks
    assert max(ranks) == 4
