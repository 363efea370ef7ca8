import keras
import numpy as np
import pytest

from fd_keras import zoo
from fd_keras.training import reparametrization, trainable_classifier


def _images(batch, size=32):
    return np.random.default_rng(0).uniform(0, 255, (batch, size, size, 3)).astype("float32")


def _trained(model, alpha):
    """Returns a network with branches and random statistics, scales and kernels."""
    net = trainable_classifier.build_net(model, alpha, 32, 3, reparam=True)
    random = np.random.default_rng(1)
    for weight in net.weights:
        if weight.name in ("gamma", "beta"):
            weight.assign(weight.numpy() + random.normal(0, 0.3, weight.shape))
    for _ in range(3):
        net(_images(8), training=True)
    return net


@pytest.mark.parametrize(
    ("model", "alpha"), [("fd_mobilenet", 0.25), ("mobilenet", 0.125), ("shufflenet", 0.25), ("fd_shufflenet", 0.25)]
)
def test_branches_fold_into_the_plain_network(model, alpha):
    net, plain = _trained(model, alpha), trainable_classifier.build_net(model, alpha, 32, 3)
    reparametrization.fold(net, net.get_weights(), plain)
    logits, folded = (np.asarray(each(_images(4))) for each in (net, plain))
    assert np.ptp(logits, axis=0).min() > 1e-3
    np.testing.assert_allclose(folded, logits, atol=1e-5 * np.abs(logits).max())
    assert len(net.weights) > 1.5 * len(plain.weights)


def test_the_folded_networks_statistics_are_those_of_its_own_features():
    """So further training starts with correct statistics."""
    net, plain = _trained("fd_mobilenet", 0.25), trainable_classifier.build_net("fd_mobilenet", 0.25, 32, 3)
    for layer in net.layers:
        norms = layer.norms if isinstance(layer, reparametrization.BranchedConv) else [layer]
        for norm in norms:
            if isinstance(norm, keras.layers.BatchNormalization):
                norm.momentum = 0.0  # the statistics become those of the next batch
    net(_images(8), training=True)
    reparametrization.fold(net, net.get_weights(), plain)
    before = keras.Model(plain.input, plain.get_layer("conv_pw_2").output)
    features = np.asarray(before(_images(8)))
    norm = plain.get_layer("conv_pw_2_bn")
    np.testing.assert_allclose(norm.moving_mean.numpy(), features.mean((0, 1, 2)), atol=1e-3 * features.std())


@pytest.mark.parametrize(("padding", "size", "strides"), [("same", 8, 1), ("valid", 9, 2), ("valid", 10, 2)])
@pytest.mark.parametrize("kind", ["Conv2D", "DepthwiseConv2D"])
def test_a_layer_equals_its_folded_kernel(kind, padding, size, strides):
    layers = reparametrization.BranchedLayers(zoo.FD_MOBILENET)
    filters = [4] if kind == "Conv2D" else []
    layer = getattr(layers, kind)(*filters, 3, strides, padding, use_bias=False, name="layer")
    x = keras.ops.array(np.random.default_rng(0).normal(2, 3, (2, size, size, 4)).astype("float32"))
    for _ in range(4):
        layer(x, training=True)
    kernel, offset = layer.folded(keras.ops.convert_to_tensor)
    convolve = keras.ops.conv if kind == "Conv2D" else keras.ops.depthwise_conv
    expected = convolve(x, kernel, strides, padding) + offset
    np.testing.assert_allclose(np.asarray(layer(x)), np.asarray(expected), atol=1e-4)
    assert len(layer.norms) == (3 if kind == "Conv2D" and strides == 1 else 2)
    assert layer.compute_output_shape(x.shape) == expected.shape
