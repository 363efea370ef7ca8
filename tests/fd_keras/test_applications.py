import functools
import importlib.util
import inspect
import os
import subprocess
import sys
import warnings

import keras
import numpy as np
import pytest

import fd_keras
from fd_keras import applications, zoo
from fd_keras.spec import lower, model_name

APPLICATIONS = (fd_keras.FDMobileNet, fd_keras.MobileNet, fd_keras.ShuffleNet, fd_keras.FDShuffleNet)
every_network = pytest.mark.parametrize("name", zoo.ARCHS)

# Tolerances for rounding in some twenty float32 layers.
CLOSE = {"rtol": 1e-4, "atol": 1e-6}


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


@pytest.fixture(scope="session")
def saved(build, images, run, tmp_path_factory):
    """A function from a network's name to a small saved model: (model, path of its .keras file).

    No batch-norm parameter or bias is 0 or 1, so that omitting one changes the output. Logits differ by about 1, so
    that the softmax does not hide differences.
    """
    folder = tmp_path_factory.mktemp("saved")

    @functools.cache
    def save(name: str):
        model, rng = build(name), np.random.default_rng(2)
        for layer in model.layers:
            if isinstance(layer, keras.layers.BatchNormalization):
                ranges = (0.5, 1.5), (-0.3, 0.3), (-0.3, 0.3), (0.5, 1.5)
                layer.set_weights([rng.uniform(*limits, layer.gamma.shape) for limits in ranges])
        classifier = model.get_layer("predictions")
        features = run(keras.Model(model.input, classifier.input), images)
        kernel = rng.normal(size=(features.shape[-1], 10))
        kernel /= (features @ kernel).std(0).mean()
        classifier.set_weights([kernel, rng.normal(size=10) - (features @ kernel).mean(0)])
        model.save(folder / f"{name}.keras")
        return model, str(folder / f"{name}.keras")

    return save


@every_network
def test_scores_of_the_saved_models_are_neither_uniform_nor_saturated(name, saved, images, run):
    scores = run(saved(name)[0], images)
    assert 0.15 < scores.max() < 0.95
    assert np.abs(scores[0] - scores[1]).max() > 0.05


@every_network
def test_outputs_are_probabilities(name, small, images, run):
    scores = run(small(name), images)
    assert scores.shape == (2, 10)
    assert np.allclose(scores.sum(-1), 1, atol=1e-5)
    assert np.all(scores > 0)
    assert np.abs(scores[0] - scores[1]).max() > 1e-6  # initial weights of the classifier are small


@every_network
def test_default_name_has_network_alpha_and_size(name, small, build):
    assert small(name).name == model_name(zoo.get_arch(name), 0.25, (64, 64))
    assert build(name, name="mine").name == "mine"


@every_network
def test_output_without_top_is_the_input_of_the_top(name, saved, images, run, build):
    model, path = saved(name)
    trunk = build(name, weights=path, include_top=False, pooling="avg")
    kernel, bias = model.get_layer("predictions").get_weights()
    assert np.allclose(softmax(run(trunk, images) @ kernel + bias), run(model, images), **CLOSE)


def test_pooling_is_the_mean_or_maximum_of_the_feature_map(saved, images, run, build):
    _, path = saved("fd_mobilenet")
    plain, average, maximum = (
        run(build("fd_mobilenet", weights=path, include_top=False, pooling=pooling), images)
        for pooling in (None, "avg", "max")
    )
    assert plain.shape == (2, 2, 2, average.shape[-1])
    assert np.allclose(average, plain.mean((1, 2)), **CLOSE)
    assert np.allclose(maximum, plain.max((1, 2)), **CLOSE)


@every_network
def test_a_network_without_top_accepts_any_size(name, run, build):
    trunk = build(name, include_top=False, input_shape=None)
    assert trunk.input_shape == (None, None, None, 3)
    assert trunk.output_shape[:3] == (None, None, None)
    assert run(trunk, np.zeros((1, 70, 97, 3), "float32")).shape == (1, 3, 4, trunk.output_shape[-1])


def test_probabilities_are_the_softmax_of_the_logits(saved, images, run, build):
    model, path = saved("fd_mobilenet")
    logits = build("fd_mobilenet", weights=path, classifier_activation=None)
    assert np.allclose(softmax(run(logits, images)), run(model, images), **CLOSE)


def test_preprocessing_inside_and_outside_the_model_agree(saved, images, run, build):
    model, path = saved("fd_mobilenet")
    bare = build("fd_mobilenet", weights=path, include_preprocessing=False)
    outside = fd_keras.preprocess_input(images, include_preprocessing=False)
    # The reference is torchvision's ToTensor and Normalize, in float64.
    expected = (images.astype("float64") / 255 - (0.485, 0.456, 0.406)) / (0.229, 0.224, 0.225)
    assert np.allclose(outside, expected, atol=1e-5)
    assert np.allclose(run(bare, expected.astype("float32")), run(model, images), rtol=1e-3, atol=1e-4)


def test_preprocess_input_leaves_raw_pixels_to_the_model(images):
    assert fd_keras.preprocess_input(images) is images


@every_network
def test_a_loaded_model_gives_equal_scores(name, saved, images, run, quick_start):
    model, path = saved(name)
    with quick_start():
        loaded = keras.saving.load_model(path)
    assert np.array_equal(run(loaded, images), run(model, images))


def test_loads_in_a_fresh_process_after_import_fd_keras(saved, images, run, tmp_path):
    model, path = saved("shufflenet")
    np.save(tmp_path / "images.npy", images)
    script = (
        "import sys, fd_keras, keras, numpy as np\n"
        "model = keras.saving.load_model(sys.argv[1])\n"
        "np.save(sys.argv[3], model.predict(np.load(sys.argv[2]), verbose=0))\n"
    )
    paths = [path, str(tmp_path / "images.npy"), str(tmp_path / "scores.npy")]
    subprocess.run([sys.executable, "-c", script, *paths], check=True, capture_output=True)
    assert np.allclose(np.load(tmp_path / "scores.npy"), run(model, images), **CLOSE)


@every_network
@pytest.mark.parametrize("suffix", [".keras", ".weights.h5"])
def test_saved_weights_are_restored(name, suffix, saved, build, tmp_path):
    model, path = saved(name)
    if suffix == ".weights.h5":
        path = tmp_path / "some.weights.h5"
        model.save_weights(path)
    restored = build(name, weights=path)
    for before, after in zip(model.get_weights(), restored.get_weights(), strict=True):
        assert np.array_equal(before, after)


def test_weights_of_a_compiled_model_with_dropout_are_restored(build, tmp_path):
    model = build("fd_mobilenet", dropout=0.5)
    model.compile("adam")
    model.optimizer.build(model.trainable_variables)  # so that the file has optimizer variables
    model.save(tmp_path / "trained.keras")
    restored = build("fd_mobilenet", weights=tmp_path / "trained.keras")
    for before, after in zip(model.get_weights(), restored.get_weights(), strict=True):
        assert np.array_equal(before, after)


def test_a_keras_tensor_is_accepted_as_input(saved, images, run, build):
    model, path = saved("fd_mobilenet")
    image = keras.Input((64, 64, 3))
    inverted = keras.layers.Rescaling(-1.0, offset=255.0)(image)
    whole = build("fd_mobilenet", weights=path, input_shape=None, input_tensor=inverted)
    assert whole.input_shape == (None, 64, 64, 3)
    assert np.allclose(run(whole, 255 - images), run(model, images), **CLOSE)


def test_model_on_a_keras_tensor_causes_no_warning(images, build, run):
    model = build("fd_mobilenet", input_shape=None, input_tensor=keras.Input((64, 64, 3)))
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="The structure of `inputs`")
        run(model, images)


def test_dropout_is_only_active_in_training(saved, images, run, build):
    model, path = saved("fd_mobilenet")
    with_dropout = build("fd_mobilenet", weights=path, dropout=0.5)
    assert with_dropout.get_layer("dropout").rate == 0.5
    assert not any(isinstance(layer, keras.layers.Dropout) for layer in model.layers)
    assert np.allclose(run(with_dropout, images), run(model, images), **CLOSE)


# Keras's own tests of its applications cover the same: with and without top, pooling, other channels and sizes.


@pytest.mark.parametrize("function", APPLICATIONS)
def test_an_application_has_a_thousand_classes_by_default(function):
    model = function(alpha=0.25, weights=None)
    assert model.output_shape == (None, 1000)
    assert model.input_shape == (None, 224, 224, 3)


@pytest.mark.parametrize("pooling", [None, "avg", "max"])
@pytest.mark.parametrize("function", APPLICATIONS)
def test_an_application_without_top_accepts_any_size(function, pooling):
    model = function(alpha=0.25, weights=None, include_top=False, pooling=pooling)
    channels = model.output_shape[-1]
    assert model.output_shape == ((None, None, None, channels) if pooling is None else (None, channels))


@pytest.mark.parametrize("channels", [1, 4])
@pytest.mark.parametrize("function", APPLICATIONS)
def test_an_application_accepts_other_channels(function, channels, run):
    model = function((None, None, channels), alpha=0.25, weights=None, include_top=False)
    assert model.input_shape == (None, None, None, channels)
    assert run(model, np.zeros((1, 64, 64, channels), "float32")).shape[:3] == (1, 2, 2)


@pytest.mark.parametrize("channels", [1, 2, 4])
def test_other_channels_are_normalized_with_mean_and_std_averaged_over_rgb(channels, run):
    model = fd_keras.FDMobileNet((64, 64, channels), alpha=0.25, weights=None, include_top=False)
    pixels = np.random.default_rng(0).integers(0, 256, (2, 64, 64, channels)).astype("float32")
    expected = (pixels / 255 - 0.449) / 0.226
    assert np.allclose(
        run(keras.Model(model.input, model.get_layer("preprocessing").output), pixels), expected, atol=1e-5
    )
    assert np.allclose(fd_keras.preprocess_input(pixels, include_preprocessing=False), expected, atol=1e-5)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_channels_first_shape_is_rejected_with_the_channels_last_shape(channels):
    keras.config.set_image_data_format("channels_first")
    with pytest.raises(ValueError, match=rf"looks like channels_first; .*pass \(64, 96, {channels}\)"):
        fd_keras.FDMobileNet((channels, 64, 96), alpha=0.25, weights=None)


TORCH = """
import sys
import keras, numpy as np, fd_keras
images = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3)).astype("float32")
for name in ("FDMobileNet", "MobileNet", "ShuffleNet", "FDShuffleNet"):
    model = getattr(fd_keras, name)((64, 64, 3), alpha=0.25, weights=None, classes=10)
    model.save(f"{sys.argv[1]}/{name}.keras")
    scores, loaded = model.predict(images, verbose=0), keras.models.load_model(f"{sys.argv[1]}/{name}.keras")
    assert np.allclose(loaded.predict(images, verbose=0), scores, atol=1e-5)
    np.save(f"{sys.argv[1]}/{name}.npy", scores)
"""


@pytest.mark.tensorflow_only(reason="torch is compared with it")
def test_networks_build_predict_and_save_on_torch(tmp_path, run):
    if not importlib.util.find_spec("torch"):
        pytest.skip("needs torch: pip install torch")
    command = [sys.executable, "-c", TORCH, str(tmp_path)]
    subprocess.run(command, check=True, env={**os.environ, "KERAS_BACKEND": "torch"})
    images = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3)).astype("float32")
    for function in APPLICATIONS:
        model = keras.models.load_model(tmp_path / f"{function.__name__}.keras")
        assert np.allclose(run(model, images), np.load(tmp_path / f"{function.__name__}.npy"), rtol=1e-3, atol=1e-4)


@every_network
def test_the_image_data_format_of_keras_has_no_effect(name, saved, images, run, build):
    model, path = saved(name)
    expected = run(model, images)
    keras.config.set_image_data_format("channels_first")
    assert np.allclose(run(build(name, weights=path), images), expected, **CLOSE)


@pytest.mark.parametrize("name", ["fd_mobilenet", "fd_shufflenet"])  # together they have all kinds of ops
def test_mixed_precision_computes_in_bfloat16(name, images, run, build):
    keras.config.set_dtype_policy("mixed_bfloat16")
    model = build(name)
    scores = run(model, images).astype("float32")
    assert {weight.dtype for weight in model.trainable_weights} == {"float32"}
    assert model.get_layer(lower(zoo.get_arch(name))[0].name).compute_dtype == "bfloat16"
    assert np.allclose(scores.sum(-1), 1, atol=0.02)  # bfloat16 has 8 bits


@pytest.mark.parametrize("size", [(64, 64), (33, 47)])
@every_network
def test_feature_layers_have_the_stated_strides(name, size, build):
    trunk = build(name, include_top=False, input_shape=(*size, 3))
    names = fd_keras.feature_layers(name)
    assert list(names) == [2, 4, 8, 16, 32]
    for stride, layer in names.items():
        assert trunk.get_layer(layer).output.shape[1:3] == tuple(-(-side // stride) for side in size)
    assert trunk.get_layer(names[32]).output is trunk.output


def test_feature_layers_accept_groups_only_for_shufflenet():
    assert fd_keras.feature_layers("shufflenet", groups=8) == fd_keras.feature_layers("shufflenet")
    with pytest.raises(ValueError, match="groups"):
        fd_keras.feature_layers("fd_mobilenet", groups=3)


@pytest.mark.parametrize("function", APPLICATIONS)
def test_applications_have_the_same_parameters(function):
    shared = list(inspect.signature(fd_keras.FDMobileNet).parameters)
    found = list(inspect.signature(function).parameters)
    assert found in (shared, [*shared, "groups", "stem_multiplier"])
    assert set(shared) == set(inspect.signature(applications.application).parameters) - {"arch"}


@pytest.mark.parametrize("function", APPLICATIONS)
def test_every_argument_is_documented(function):
    documented = inspect.getdoc(function)
    for name in inspect.signature(function).parameters:
        assert f"\n    {name}: " in documented


@pytest.mark.parametrize(("function", "name"), list(zip(APPLICATIONS, zoo.ARCHS, strict=True)))
def test_applications_pass_their_arguments_on(function, name, monkeypatch):
    monkeypatch.setattr(applications, "application", lambda arch, **arguments: (arch, arguments))
    defaults = inspect.signature(function).parameters
    arch, arguments = function(alpha=0.3, pooling="max")
    assert arch == zoo.get_arch(name)
    assert arguments.keys() == inspect.signature(fd_keras.FDMobileNet).parameters.keys()
    for argument, value in arguments.items():
        assert value == {"alpha": 0.3, "pooling": "max"}.get(argument, defaults[argument].default)


@pytest.mark.parametrize(
    ("function", "name"), list(zip(APPLICATIONS[2:], ["shufflenet", "fd_shufflenet"], strict=True))
)
def test_shufflenets_accept_groups_and_stem_multiplier(function, name, monkeypatch):
    monkeypatch.setattr(applications, "application", lambda arch, **arguments: arch)
    assert function(groups=3, stem_multiplier=0.7) == zoo.get_arch(name, 3, 0.7)


def test_defaults_are_those_of_imagenet(build):
    parameters = inspect.signature(fd_keras.FDMobileNet).parameters
    assert parameters["classes"].default == 1000
    assert parameters["weights"].default == "imagenet"
    assert build("fd_mobilenet", input_shape=None).input_shape == (None, 224, 224, 3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"input_shape": (64, 64)}, r"input_shape must be \(height, width, channels\)"),
        ({"input_shape": 64}, r"input_shape must be \(height, width, channels\)"),
        ({"input_shape": (64, 64, None)}, r"input_shape must be \(height, width, channels\)"),
        ({"input_shape": (64, 64, 0), "include_preprocessing": False}, "input_shape must be"),
        ({"input_shape": (31, 64, 3)}, "at least 32x32"),
        ({"input_shape": (None, None, 3)}, "input_shape=.*include_top=False"),
        ({"input_shape": (3, 64, 64)}, r"channels_first.*pass \(64, 64, 3\)"),
        ({"input_tensor": np.zeros((1, 64, 64, 3))}, "input_tensor must be a Keras tensor"),
        ({"input_tensor": keras.Input((10,))}, "input_tensor"),
        ({"input_tensor": keras.Input((64, 64, None)), "include_preprocessing": False}, "input_tensor|channels"),
        ({"input_tensor": keras.Input((64, 64, 3)), "input_shape": (32, 32, 3)}, "input_shape=.*contradicts"),
        ({"alpha": 0}, "alpha must be"),
        ({"alpha": "x"}, "alpha must be"),
        ({"classes": 0}, "classes must be"),
        ({"pooling": "mean", "include_top": False}, 'pooling must be None, "avg" or "max", got'),
        ({"dropout": 1.0}, "dropout must be"),
        ({"dropout": -0.1}, "dropout must be"),
        ({"classifier_activation": "no such"}, "activation"),
        ({"weights": "imagenet2"}, "weights='imagenet2': no such file; use None, 'imagenet'"),
        ({"weights": "/no/such/file.keras"}, "weights='/no/such/file.keras': no such file"),
        ({"weights": "imagenet", "classes": 10}, "1000 classes, not 10.*include_top=False"),
        ({"weights": "imagenet", "classifier_activation": "sigmoid"}, 'classifier_activation="softmax"'),
        ({"weights": "imagenet", "alpha": 0.33}, "no checkpoint of FD-MobileNet with alpha=0.33"),
        ({"weights": "imagenet_authors", "alpha": 0.75}, "alpha=0.75. It has: alpha=1.0; alpha=0.5; alpha=0.25"),
    ],
    ids=str,
)
def test_invalid_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        fd_keras.FDMobileNet(**{"alpha": 0.25, "weights": None, **arguments})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"groups": 5}, "does not support groups=5; supported are 1, 2, 3, 4, 8"),
        ({"stem_multiplier": 0}, "stem_multiplier must be"),
        ({"stem_multiplier": float("inf")}, "stem_multiplier must be"),
        ({"stem_multiplier": "x"}, "stem_multiplier must be"),
        ({"weights": "imagenet", "alpha": 0.25}, "It has: alpha=0.25, groups=3, stem_multiplier=0.25"),
    ],
    ids=str,
)
def test_invalid_arguments_of_shufflenet_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        fd_keras.ShuffleNet(**{"alpha": 0.25, "weights": None, **arguments})


def test_fd_shufflenet_reports_that_there_are_no_weights():
    with pytest.raises(ValueError, match="none for this network"):
        fd_keras.FDShuffleNet(weights="imagenet")


def test_weights_are_read_before_anything_is_built(monkeypatch, tmp_path):
    (tmp_path / "broken.keras").write_bytes(b"not weights")

    def build(*_, **__):
        raise AssertionError("built although the weights are broken")

    monkeypatch.setattr(applications.builder, "build", build)
    with pytest.raises(ValueError, match="broken.keras"):
        fd_keras.FDMobileNet(alpha=0.25, weights=tmp_path / "broken.keras")


@pytest.mark.parametrize(
    "shape",
    [[64, 96, 3], np.array([64, 96, 3]), keras.ops.zeros((1, 64, 96, 3)).shape[1:], (np.int64(64), np.int32(96), 3)],
    ids=["list", "array", "tensor", "numpy integers"],
)
def test_input_shape_may_be_any_sequence_of_integers(shape):
    model = fd_keras.FDMobileNet(shape, alpha=0.25, weights=None, include_top=False)
    assert model.input_shape == (None, 64, 96, 3)
