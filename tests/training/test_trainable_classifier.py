import keras
import numpy as np
import pytest
import tensorflow as tf

from fd_keras.training import input_pipeline, randaugment, recipes, trainable_classifier


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


@pytest.mark.parametrize(("mixup", "cutmix"), [(0.2, 0.0), (0.0, 1.0), (0.2, 1.0)])
def test_own_share_is_the_share_of_pixels(mixup, cutmix):
    recipe, cuts = recipes.PAPER.override(image_size=32, mixup=mixup, cutmix=cutmix), []
    for step in range(30):
        drawn = input_pipeline._mixing(input_pipeline._seed(0, step, input_pipeline._MIX), recipe, 5)
        own, box = drawn["own"].numpy(), drawn["box"].numpy()
        assert own.shape == (5,)
        assert box.shape == (5, 4)
        assert 0 <= own[0] <= 1
        assert len(set(own)) == 1
        top, left, bottom, right = box[0]
        cuts.append(bottom > top)
        if cuts[-1]:
            assert own[0] == pytest.approx(1 - (bottom - top) * (right - left) / 32**2)
    assert (any(cuts), all(cuts)) == (cutmix > 0, not mixup)


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


@pytest.mark.parametrize("index", range(len(randaugment.OPERATIONS)))
def test_randaugment_operations_keep_the_photo_at_strength_zero(index):
    """Autocontrast and equalize have no strength; all others do nothing at 0 and something at 9."""
    image = tf.constant((40 + 150 * _images(1, 32)[0]).astype("uint8"))
    operation = randaugment.OPERATIONS[index]
    weak, strong = (operation(image, strength, 1.0).numpy().astype(int) for strength in (0.0, 0.9))
    assert strong.shape == (32, 32, 3)
    assert (np.abs(weak - image.numpy()).max() <= 1) or index >= len(randaugment.OPERATIONS) - 2
    assert (strong != image.numpy()).any() == (index > 0)


def test_equalize_and_autocontrast_are_pils():
    from PIL import Image, ImageOps

    pixels = (40 + 150 * _images(1, 32)[0]).astype("uint8")
    auto, equal = (operation(tf.constant(pixels), 0.0, 1.0).numpy() for operation in randaugment.OPERATIONS[-2:])
    assert np.abs(auto.astype(int) - np.asarray(ImageOps.autocontrast(Image.fromarray(pixels)))).max() <= 1
    np.testing.assert_array_equal(equal, np.asarray(ImageOps.equalize(Image.fromarray(pixels))))
