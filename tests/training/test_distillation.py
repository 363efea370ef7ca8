import keras
import numpy as np
import pytest

from fd_keras import imagenet, weights
from fd_keras.applications import build_by_name
from fd_keras.training import distillation

CLASSES = ("one", "two", "three")
IDS = imagenet.wordnet_ids()
FEW = (IDS[217], IDS[0], IDS[999])


def _probabilities(outputs) -> np.ndarray:
    return np.asarray(keras.ops.softmax(outputs))


def _images(size: int) -> np.ndarray:
    return np.random.default_rng(0).uniform(0, 255, (2, size, size, 3)).astype("float32")


@pytest.mark.parametrize("activation", ["softmax", None])
@pytest.mark.parametrize("size", [32, 64])
def test_a_file_computes_logits_for_images_of_any_size(tmp_path, activation, size):
    arguments: dict = {"input_shape": (size, size, 3), "classes": 3, "classifier_activation": activation}
    model = build_by_name("fd_mobilenet", alpha=0.25, weights=None, **arguments)
    model.save(tmp_path / "teacher.keras")
    teacher = distillation.open_teacher(str(tmp_path / "teacher.keras"), CLASSES)
    images = np.ones((2, 32, 32, 3)) * np.array([200.0, 50.0]).reshape(2, 1, 1, 1)
    outputs = model(np.ones((2, size, size, 3)) * np.array([200.0, 50.0]).reshape(2, 1, 1, 1))
    expected = np.asarray(outputs) if activation else _probabilities(outputs)
    found = distillation.logits(teacher, keras.ops.convert_to_tensor(images, "float32"))
    np.testing.assert_allclose(_probabilities(found), expected, atol=1e-5)


def test_a_file_must_exist_and_have_the_same_classes(tmp_path):
    with pytest.raises(FileNotFoundError, match="--teacher=gone.keras: no such file"):
        distillation.open_teacher("gone.keras", CLASSES)
    path = str(tmp_path / "teacher.keras")
    build_by_name("fd_mobilenet", alpha=0.25, input_shape=(32, 32, 3), weights=None, classes=2).save(path)
    with pytest.raises(ValueError, match=r"teacher.keras: takes images of \(32, 32, 3\) and has 2 classes, but .* 3"):
        distillation.open_teacher(path, CLASSES)


@pytest.fixture
def at_hand(tmp_path, monkeypatch):
    """Puts random weights in the place of the published ones; returns the networks that were asked for."""
    asked, path = [], str(tmp_path / "weights.keras")
    build_by_name("fd_mobilenet", alpha=0.25, weights=None).save(path)

    def at_hand(arch, alpha):
        asked.append((arch.name, alpha))
        return path

    monkeypatch.setattr(weights, "at_hand", at_hand)
    return asked


def test_a_network_of_this_package_answers_for_the_classes_of_the_data(at_hand, tmp_path):
    teacher = distillation.open_teacher("fd_mobilenet_0.25", FEW)
    assert at_hand == [("fd_mobilenet", 0.25)]
    images = _images(224)
    whole = keras.saving.load_model(tmp_path / "weights.keras")(images)
    chosen = np.asarray(whole)[:, [217, 0, 999]]
    expected = chosen / chosen.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(_probabilities(distillation.logits(teacher, images)), expected, atol=1e-5)
    assert distillation.open_teacher("fd_mobilenet_0.25", IDS).output_shape == (None, 1000)
    names = tuple(imagenet.class_names()[i] for i in (217, 0, 999))
    by_name = distillation.open_teacher("fd_mobilenet_0.25", names)
    np.testing.assert_allclose(_probabilities(by_name(images)), expected, atol=1e-5)


@pytest.mark.parametrize("name", ["MobileNetV2", "MobileNetV3Small"])  # one takes -1..1, the other raw images
def test_a_network_of_keras_gets_its_own_preprocessing(monkeypatch, name):
    """A network whose logit of class n is n times the mean of its input, in the place of the downloaded one."""

    def make(weights, classifier_activation):
        assert (weights, classifier_activation) == ("imagenet", None)
        image = keras.Input((32, 32, 3))
        mean = keras.ops.mean(image, axis=(1, 2, 3), keepdims=True)[:, 0, 0]
        return keras.Model(image, mean * keras.ops.arange(1000, dtype="float32"))

    make.__module__ = getattr(keras.applications, name).__module__
    monkeypatch.setattr(keras.applications, name, make)
    images = _images(32)
    shown = images / 127.5 - 1 if name == "MobileNetV2" else images
    expected = shown.mean(axis=(1, 2, 3))[:, None] * np.array([217, 0, 999])
    found = distillation.logits(distillation.open_teacher(name, FEW), images)
    np.testing.assert_allclose(np.asarray(found), expected, rtol=1e-3)


@pytest.mark.parametrize(
    ("name", "classes", "words"),
    [
        (
            "fd_mobilenet_0.25",
            CLASSES,
            "'one' has neither the name nor the WordNet id of one of its classes. Pass",
        ),
        ("fd_mobilenet_0.25", ("tench", "my cat"), "folder 'my cat' is not a class of the model"),
        ("EfficientNetV2B9", FEW, "not a network trained on ImageNet; did you mean EfficientNetV2B"),
        ("fd_mobilenet_0.3", FEW, "no checkpoint of FD-MobileNet with alpha=0.3"),
        ("shapes", FEW, "Pass a .keras file, a network of this package with its width"),
    ],
)
def test_other_names_and_classes_are_rejected(monkeypatch, name, classes, words):
    monkeypatch.setattr(weights, "at_hand", lambda arch, alpha: None)
    with pytest.raises(ValueError, match=words) as caught:
        distillation.open_teacher(name, classes)
    assert str(caught.value).startswith(f"--teacher={name}: ")


def test_a_failed_download_names_the_network(monkeypatch):
    def make(weights, classifier_activation):
        raise Exception("URL fetch failure")

    monkeypatch.setattr(keras.applications, "VGG16", make)
    with pytest.raises(OSError, match=r"--teacher=VGG16: its weights cannot be downloaded \(URL fetch failure\)"):
        distillation.open_teacher("VGG16", FEW)


def test_classes_are_checked_before_a_download(monkeypatch):
    monkeypatch.setattr(keras.applications, "VGG16", lambda **_: pytest.fail("downloads"))
    with pytest.raises(ValueError, match="--teacher=VGG16: was trained on ImageNet, but 'one' has neither"):
        distillation.open_teacher("VGG16", CLASSES)
