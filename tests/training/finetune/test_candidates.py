import dataclasses
import os
import shutil

import keras
import numpy as np
import pytest

from fd_keras import imagenet
from fd_keras.training.finetune import candidates, linear_head
from fd_keras.training.finetune.candidates import FinetuneNetwork
from fd_keras.training.recipes import RECIPES
from tests import small_network

CLASSES = ("amber", "blue", "cyan")


@pytest.fixture(scope="module")
def weights(small, tmp_path_factory) -> str:
    """A file of random weights with batch-norm statistics that make features of photos differ."""
    keras.utils.set_random_seed(3)
    net = FinetuneNetwork(small_network.NAME, 0.25, 32, tuple("abcde"), None).build()
    for layer in net.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.0
    net(np.random.default_rng(0).uniform(0, 255, (16, 32, 32, 3)).astype("float32"), training=True)
    path = str(tmp_path_factory.mktemp("weights") / "w.keras")
    net.save(path)
    return path


@pytest.fixture(scope="module")
def network(weights) -> FinetuneNetwork:
    return FinetuneNetwork(small_network.NAME, 0.25, 32, CLASSES, weights)


def labeled(photos, side: str, count: int) -> list[tuple[str, int]]:
    return [
        (str(path), label)
        for label, name in enumerate(CLASSES)
        for path in sorted((photos / side / name).iterdir())[:count]
    ]


@pytest.fixture(scope="module")
def train(photos):
    return labeled(photos, "train", 6)


@pytest.fixture(scope="module")
def head(network, train):
    values = candidates.pooled_features(network, [path for path, _ in train], 2)
    return linear_head.fit(values, np.array([label for _, label in train]), 3)


def test_features_are_computed_once_for_each_network(network, monkeypatch):
    asked = []

    def pooled_features(one, paths, views):
        asked.append((one.seed, views))
        return np.arange(len(paths) * views * 2, dtype="float32").reshape(len(paths), views, 2)

    monkeypatch.setattr(candidates, "pooled_features", pooled_features)
    features, other = candidates.PhotoFeatures(["a.jpg", "b.jpg"]), dataclasses.replace(network, seed=5)
    first = features.of(network, 3)
    np.testing.assert_array_equal(features.of(network, 2), first[:, :2])
    assert features.of(other, 1).shape == (2, 1, 2)
    assert features.of(network, 4).shape == (2, 4, 2)
    assert asked == [(0, 3), (5, 1), (0, 4)]


def test_a_network_is_named_and_loads_its_weights(network, weights):
    assert network.name == "small_0.25_32"
    net, saved = network.build(), keras.saving.load_model(weights)
    assert net.output_shape == (None, 3)
    first = next(layer.name for layer in saved.layers if layer.weights)
    np.testing.assert_array_equal(net.get_layer(first).get_weights()[0], saved.get_layer(first).get_weights()[0])


def test_a_head_in_the_network_predicts_as_on_features(network, head, photos):
    """So metrics of the head on features are valid for the saved network."""
    val = labeled(photos, "val", 3)
    values = candidates.pooled_features(network, [path for path, _ in val], 1)[:, 0]
    on_features = candidates.measure_head(head, values, val)
    net = candidates.with_head(network, head)
    measured = candidates.measure(net, val)
    assert measured.paths == [path for path, _ in val]
    assert measured.labels.tolist() == on_features.labels.tolist() == [0] * 3 + [1] * 3 + [2] * 3
    np.testing.assert_allclose(measured.probabilities, on_features.probabilities, atol=1e-3)
    assert measured.probabilities.sum(-1) == pytest.approx(np.ones(9), abs=1e-5)


def test_cross_validation_names_the_photos_that_were_left_out(head, train):
    measured = candidates.cross_validated(head, train)
    assert sorted(zip(measured.paths, measured.labels.tolist(), strict=True)) == sorted(train)
    assert measured.probabilities.shape == (18, 3)
    assert measured.probabilities.sum(-1) == pytest.approx(np.ones(18), abs=1e-5)


def test_a_shrunk_head_has_the_same_directions(head):
    found = candidates.shrunk(head)
    assert found.kernel.std() <= 0.0100001
    kernels = [kernel - kernel.mean(-1, keepdims=True) for kernel in (head.kernel, found.kernel)]
    assert np.corrcoef(kernels[0].ravel(), kernels[1].ravel())[0, 1] > 0.9999
    again = candidates.shrunk(found)
    np.testing.assert_allclose(again.kernel, found.kernel, atol=1e-8)  # a small one is not changed


def test_pixels_are_small_evaluation_crops(train):
    values = candidates.pixels(16, train[:2])
    assert values.shape == (2, 1, 16 * 16 * 3)
    np.testing.assert_array_equal(values[0].reshape(16, 16, 3), imagenet.load_image(train[0][0], (16, 16)))


def test_tuning_starts_from_the_head_and_is_not_repeated(network, head, train, photos, tmp_path):
    recipe = RECIPES["finetune"].override(image_size=32, batch_size=6, epochs=1)
    said = []
    arguments = (network, recipe, train, labeled(photos, "val", 2), str(tmp_path / "run"))
    first = candidates.tune(*arguments, start=head, threads=1, say=said.append)
    start = keras.saving.load_model(str(tmp_path / "run" / "start.keras"))
    np.testing.assert_allclose(candidates.classifier_of(start).get_weights()[0], candidates.shrunk(head).kernel)
    assert any((one != other).any() for one, other in zip(first.get_weights(), start.get_weights(), strict=True))
    again = candidates.tune(*arguments, start=head, threads=1, say=said.append)
    assert any("resumed at step 3 of 3" in line for line in said)
    for one, other in zip(first.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_tuning_resumes_in_a_folder_that_was_moved_with_its_copies(network, head, train, photos, tmp_path):
    recipe = RECIPES["finetune"].override(image_size=32, batch_size=6, epochs=1)
    said = []

    def tune(out, recipe):
        moved = [(str(out / f"{label}-{os.path.basename(path)}"), label) for path, label in train]
        if not out.exists():
            out.mkdir()
            for (path, _), (copy, _) in zip(train, moved, strict=True):
                shutil.copy(path, copy)
        arguments = (network, recipe, moved, labeled(photos, "val", 2), str(out / "work" / "tune"))
        teacher = str(out / "work" / "tune" / "start.keras")
        candidates.tune(*arguments, start=head, teacher=teacher, threads=1, say=said.append)

    tune(tmp_path / "one", recipe)
    (tmp_path / "one").rename(tmp_path / "two")
    tune(tmp_path / "two", recipe)
    assert any("resumed at step 3 of 3" in line for line in said)
    with pytest.raises(ValueError, match=r"--momentum was 0\.9, now 0\.8\. Pass the same .* another --output_dir"):
        tune(tmp_path / "two", recipe.override(momentum=0.8))


def test_images_are_enlarged_before_the_network(weights):
    network = FinetuneNetwork(small_network.NAME, 0.25, 32, CLASSES, weights, enlarged_to=64)
    larger = dataclasses.replace(network, image_size=64, enlarged_to=None)
    images = np.random.default_rng(0).uniform(0, 255, (2, 32, 32, 3)).astype("float32")
    nets = [network.build(), larger.build()]
    found, expected = (keras.Model(net.input, candidates.classifier_of(net).input) for net in nets)
    np.testing.assert_allclose(found(images), expected(keras.ops.image.resize(images, (64, 64))), atol=1e-4)
