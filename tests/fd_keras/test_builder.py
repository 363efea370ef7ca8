import dataclasses

import keras
import numpy as np
import pytest

from fd_keras import applications, builder, layers, zoo
from fd_keras.spec import Arch, Stage, lower, output_layer

STRIDED = Arch(
    "strided",
    "Strided",
    (Stage("conv", 4, stride=2), Stage("max_pool", 4, stride=2), Stage("separable", 6, stride=2)),
)
SIZES = [(32, 32), (33, 47), (64, 50)]


def windows(array: np.ndarray, before: int, after: tuple[int, int], stride: int) -> np.ndarray:
    """All 3x3 windows of a zero-padded batch: (batch, rows, columns, channels, 3, 3)."""
    padded = np.pad(array, ((0, 0), (before, after[0]), (before, after[1]), (0, 0)))
    return np.lib.stride_tricks.sliding_window_view(padded, (3, 3), (1, 2))[:, ::stride, ::stride]


def torch_windows(array: np.ndarray, stride: int = 2) -> np.ndarray:
    return windows(array, 1, (1, 1), stride)


def model_of(arch: Arch, size: tuple[int, int]) -> tuple[keras.Model, dict[str, np.ndarray]]:
    """A network without preprocessing, and the outputs of all its layers for a random image."""
    image = keras.Input((*size, 3))
    ops = lower(arch, 1.0, size, include_top=False)
    model = keras.Model(image, builder.build(arch, ops, image, include_preprocessing=False))
    values = np.random.default_rng(0).normal(size=(2, *size, 3)).astype("float32")
    every = keras.Model(image, {layer.name: layer.output for layer in model.layers[1:]})
    return model, {"image": values, **{name: np.asarray(array) for name, array in every(values).items()}}


@pytest.mark.parametrize("size", SIZES)
def test_strided_windows_are_padded_as_in_torch(size):
    model, given = model_of(STRIDED, size)
    conv = np.einsum("brcixy,xyio->brco", torch_windows(given["image"]), model.get_layer("conv1").get_weights()[0])
    assert np.allclose(given["conv1"], conv, atol=1e-5)
    assert np.array_equal(given["pool1"], torch_windows(given["conv1_relu"]).max((-1, -2)))
    depthwise = model.get_layer("conv_dw_1").get_weights()[0][..., 0]
    expected = np.einsum("brcixy,xyi->brci", torch_windows(given["pool1"]), depthwise)
    assert np.allclose(given["conv_dw_1"], expected, atol=1e-5)


@pytest.mark.parametrize("size", SIZES)
def test_same_padding_is_tensorflows(size):
    model, given = model_of(dataclasses.replace(STRIDED, padding="same"), size)
    before, after = 0, tuple(1 + side % 2 for side in size)  # an even side is padded on the right only
    if all(side % 2 for side in size):
        before, after = 1, (1, 1)
    kernel = model.get_layer("conv1").get_weights()[0]
    expected = np.einsum("brcixy,xyio->brco", windows(given["image"], before, after, 2), kernel)
    assert np.allclose(given["conv1"], expected, atol=1e-5)


def test_windows_with_stride_1_are_padded_symmetrically():
    arch = Arch("plain", "Plain", (Stage("conv", 4), Stage("separable", 4)))
    model, given = model_of(arch, (32, 40))
    kernel = model.get_layer("conv1").get_weights()[0]
    expected = np.einsum("brcixy,xyio->brco", torch_windows(given["image"], 1), kernel)
    assert np.allclose(given["conv1"], expected, atol=1e-5)


def test_convolutions_are_followed_by_batch_normalization_and_activation():
    model, given = model_of(STRIDED, (32, 32))
    rng = np.random.default_rng(1)
    constants = [rng.uniform(0.5, 1.5, 4).astype("float32") for _ in range(4)]
    norm = model.get_layer("conv1_bn")
    norm.set_weights(constants)
    gamma, beta, mean, variance = constants
    expected = gamma * (given["conv1"] - mean) / np.sqrt(variance + STRIDED.bn_epsilon) + beta
    assert np.allclose(norm(given["conv1"]), expected, atol=1e-5)
    assert norm.momentum == STRIDED.bn_momentum
    assert np.array_equal(given["conv1_relu"], np.maximum(given["conv1_bn"], 0))


def test_average_pooling_includes_the_padding_as_in_torch():
    arch = Arch("pooled", "Pooled", (Stage("conv", 4), Stage("shuffle", 8, stride=2)))
    _, given = model_of(arch, (33, 48))
    expected = torch_windows(given["conv1_relu"]).mean((-1, -2))
    assert np.allclose(given["stage1_unit1_pool"], expected, atol=1e-5)


@pytest.mark.parametrize("name", zoo.ARCHS)
def test_layers_have_the_shapes_of_their_ops_at_an_odd_size(name, build):
    model = build(name, input_shape=(33, 47, 3))
    for op in lower(zoo.get_arch(name), 0.25, (33, 47), classes=10):
        shape = model.get_layer(output_layer(op)).output.shape
        assert shape == ((None, op.cout) if op.size == (1, 1) and len(shape) == 2 else (None, *op.size, op.cout))
        if op.kernel_shape:
            assert model.get_layer(op.name).get_weights()[0].shape == op.kernel_shape


@pytest.mark.parametrize("alpha", [0.01, 0.33, 1.7])
@pytest.mark.parametrize("name", zoo.ARCHS)
def test_layers_have_the_channels_of_the_table_for_any_alpha(name, alpha, build):
    model = build(name, alpha=alpha)
    assert model.output_shape == (None, 10)
    parameters = sum(int(np.prod(weight.shape)) for weight in model.trainable_weights)
    assert parameters == sum(op.parameters for op in lower(zoo.get_arch(name), alpha, (64, 64), classes=10))


def test_only_layers_with_weights_are_trainable(small):
    for layer in small("fd_mobilenet").layers:
        kinds = (keras.layers.Conv2D, keras.layers.DepthwiseConv2D, keras.layers.BatchNormalization, keras.layers.Dense)
        assert bool(layer.trainable_weights) == isinstance(layer, kinds)


@pytest.mark.tensorflow_only(reason="on JAX, tests draw initial weights with NumPy")
def test_weights_are_initialized_as_in_the_authors_code(build):
    """Normal with variance 2 / fan-out; for a depthwise kernel 2 / 9. Tolerances are four standard errors."""
    keras.utils.set_random_seed(0)
    model = build("fd_mobilenet")
    pointwise, depthwise = (model.get_layer(name).get_weights()[0] for name in ("conv_pw_11", "conv_dw_11"))
    assert pointwise.std() == pytest.approx((2 / 256) ** 0.5, rel=4 / (2 * pointwise.size) ** 0.5)
    assert depthwise.std() == pytest.approx((2 / 9) ** 0.5, rel=4 / (2 * depthwise.size) ** 0.5)
    assert not model.get_layer("predictions").get_weights()[1].any()


@pytest.mark.parametrize("classes", [2, 3, 10, 1000])
@pytest.mark.parametrize("name", zoo.ARCHS)
def test_the_loss_of_an_untrained_network_is_the_log_of_the_classes(name, classes):
    """With He initialization, the loss was up to 0.9 above ln(3) for 3 classes."""
    keras.utils.set_random_seed(1)
    model = applications.build_by_name(name, alpha=0.25, input_shape=(64, 64, 3), weights=None, classes=classes)
    images = np.random.default_rng(0).integers(0, 256, (8, 64, 64, 3)).astype("float32")
    for training in (False, True):
        losses = -np.log(keras.ops.convert_to_numpy(model(images, training=training))).mean(-1)
        # Random numbers differ between backends: up to 4% in a ShuffleNet, and 12% with 1000 classes, for which the
        # classifier is initialized as in the authors' code.
        tolerance = 0.2 if classes == 1000 else 0.08
        assert losses.mean() == pytest.approx(np.log(classes), rel=tolerance)


def test_layers_come_from_the_given_namespace():
    made = []

    class Recorder:
        def __getattr__(self, name):
            made.append(name)
            return getattr(layers, name)

    image = keras.Input((32, 32, 3))
    arch = zoo.get_arch("shufflenet")
    builder.build(arch, lower(arch, 0.25, (32, 32), classes=10), image, layers=Recorder(), dropout=0.5)
    assert set(made) == set(layers.__all__) - {"Input", "Model", "GlobalMaxPooling2D"}
