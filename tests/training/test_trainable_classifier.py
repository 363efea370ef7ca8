import keras
import numpy as np
import pytest

from fd_keras.training import recipes, trainable_classifier


def _images(batch=4, size=6):
    return np.random.default_rng(0).random((batch, size, size, 3)).astype("float32")


def test_mixup_averages_with_the_photo_before():
    images, own = _images(), np.full(4, 0.7, "float32")
    mixed = trainable_classifier.mix(keras.ops.array(images), own, np.zeros((4, 4), "int32"))
    expected = 0.7 * images + 0.3 * np.roll(images, 1, axis=0)
    np.testing.assert_allclose(keras.ops.convert_to_numpy(mixed), expected, atol=1e-6)


def test_cutmix_replaces_the_box():
    images, box = _images(), np.tile(np.array([[1, 2, 4, 6]], "int32"), (4, 1))
    mixed = keras.ops.convert_to_numpy(trainable_classifier.mix(keras.ops.array(images), np.ones(4, "float32"), box))
    expected = images.copy()
    expected[:, 1:4, 2:6] = np.roll(images, 1, axis=0)[:, 1:4, 2:6]
    np.testing.assert_array_equal(mixed, expected)


def test_mixed_labels_weigh_the_loss():
    recipe = recipes.PAPER.override(image_size=32, mixup=0.2)
    trainee = trainable_classifier.TrainableClassifier(
        trainable_classifier.build_net("fd_mobilenet", 0.25, 32, 2), recipe, 2
    )
    trainee.compile("sgd", keras.losses.CategoricalCrossentropy(from_logits=True))
    logits = np.array([[2.0, 0.0], [0.0, 1.0]], "float32")
    x = {"own": np.full(2, 0.75, "float32")}
    loss = trainee.compute_loss(x, np.array([0, 1]), keras.ops.array(logits), np.ones(2, "float32"), training=False)
    log = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    targets = np.array([[0.75, 0.25], [0.25, 0.75]])
    assert float(loss) == pytest.approx(-(targets * log).sum(1).mean(), abs=1e-6)


def test_averages_follow_the_weights():
    recipe = recipes.PAPER.override(image_size=32, ema_decay=0.5)
    trainee = trainable_classifier.TrainableClassifier(
        trainable_classifier.build_net("fd_mobilenet", 0.25, 32, 2), recipe, 2
    )
    start = trainee.net.weights[0].numpy()
    trainee.net.weights[0].assign(start + 1)
    trainee._note(keras.ops.array(1.0))  # the first step's decay is 1 / 10
    np.testing.assert_allclose(trainee.averages[0].numpy(), start + 0.9, atol=1e-6)
    assert (int(trainee.steps), int(trainee.bad_step)) == (1, -1)
    trainee._note(keras.ops.array(float("nan")))
    trainee._note(keras.ops.array(float("nan")))
    assert int(trainee.bad_step) == 1
