import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.needs import package

jax = package("jax")
cv2 = package("cv2")

from benchmarks import device_loop  # noqa: E402
from benchmarks.device_loop import DeviceTraining, Photos  # noqa: E402
from fd_keras.training import batch_statistics, crops, recipes  # noqa: E402
from fd_keras.training.recipes import RECIPES  # noqa: E402

SIDE, CLASSES, BATCH = 48, 3, 4

on_jax = pytest.mark.skipif(keras.backend.backend() != "jax", reason="needs the JAX backend: export KERAS_BACKEND=jax")


def photos(count, seed=0):
    rng = np.random.default_rng(seed)
    images = np.stack(
        [cv2.GaussianBlur(image, (5, 5), 1) for image in rng.integers(0, 256, (count, SIDE, SIDE, 3), "uint8")]
    )
    return Photos(images, rng.integers(0, CLASSES, count).astype("int32"))


@pytest.mark.parametrize("crop_scale", [0.05, 0.36, 1.0])
def test_boxes_are_those_of_the_input_pipeline(crop_scale):
    draws = crops.draw_boxes(200, [1, 2], crop_scale)
    expected = [crops.random_box(tf.constant([SIDE, SIDE]), draw).numpy() for draw in draws]
    np.testing.assert_array_equal(device_loop.boxes(draws.numpy(), SIDE), expected)


def test_a_photo_that_no_box_fits_is_kept_whole():
    draws = np.full((1, 4, recipes.TRIES), 0.5, "float32")
    draws[:, :2] = 1.5  # larger than the photo
    np.testing.assert_array_equal(device_loop.boxes(draws, SIDE), [[0, 0, SIDE, SIDE]])


def test_draws_are_distributed_as_in_the_input_pipeline():
    ours = np.asarray(device_loop.draw_boxes(jax.random.key(0), 20_000, 0.36))
    expected = crops.draw_boxes(20_000, [3, 4], 0.36).numpy()
    levels = [0.01, 0.25, 0.5, 0.75, 0.99]
    for part in range(4):
        np.testing.assert_allclose(
            np.quantile(ours[:, part], levels), np.quantile(expected[:, part], levels), atol=0.01
        )


@pytest.mark.parametrize("size", [32, 64])
def test_crops_equal_those_of_opencv(size):
    images = photos(50).images
    boxes = device_loop.boxes(crops.draw_boxes(50, [5, 6], 0.2).numpy(), SIDE)
    ours = np.asarray(device_loop.crop(images, boxes, size)).astype(int)
    for image, box, crop in zip(images, np.asarray(boxes, int), ours, strict=True):
        top, left, height, width = box
        part = image[top : top + height, left : left + width]
        expected = cv2.resize(part, (size, size), interpolation=cv2.INTER_LINEAR)
        assert np.abs(crop - expected).max() <= 1  # OpenCV's weights have 11 bits


def recipe(**changes):
    return RECIPES["authors"].override(image_size=32, batch_size=BATCH, epochs=1, **changes)


@on_jax
@pytest.mark.parametrize(("rate", "steps"), [(0.1, 1), (0.0, 3)])  # later steps would amplify the first one's rounding
def test_a_loop_does_the_steps_of_keras(rate, steps):
    def training():
        return DeviceTraining("fd_mobilenet", 0.25, recipe(learning_rate=rate), photos(steps * BATCH), CLASSES)

    looped, single = training(), training()
    order = np.arange(steps * BATCH).reshape(steps, BATCH)
    means = looped.train_steps(order, 0)
    losses = []
    for number, indices in enumerate(order):
        batch = jax.tree.map(np.asarray, single._batch(single._photos, single._key, indices, number, False))
        losses.append(float(single.trainee.train_on_batch(*batch, return_dict=True)["loss"]))
    assert means["loss"] == pytest.approx(np.mean(losses), rel=1e-4)
    for ours, theirs in zip(looped.trainee.get_weights(), single.trainee.get_weights(), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-3)  # XLA fuses the loop differently
    assert int(looped.trainee.steps.numpy()) == steps


@on_jax
def test_the_statistics_after_the_last_epoch_are_those_of_the_photos():
    training = DeviceTraining("fd_mobilenet", 0.25, recipe(bn_batches=2), photos(2 * BATCH), CLASSES)
    training.update_model(last=True)
    expected = keras.models.clone_model(training.model)
    expected.set_weights(training.trainee.net.get_weights())
    rng = np.random.default_rng([0, 1])
    batches = []
    for number in (2, 3):  # the steps after the epoch's two
        indices = rng.choice(2 * BATCH, BATCH, replace=False)
        inputs, _, _ = training._batch(training._photos, training._key, indices, number, False)
        batches.append(np.asarray(inputs["image"], "float32"))
    batch_statistics.estimate(expected, batches)
    for weight, other in zip(training.model.weights, expected.weights, strict=True):
        np.testing.assert_allclose(weight.numpy(), other.numpy(), rtol=1e-3, atol=1e-3)
    scores = training.score(photos(5), batch=3)  # the last batch is padded
    probabilities = training.model.predict(photos(5).images.astype("float32"), verbose=0)
    assert scores["val_top1"] == pytest.approx((probabilities.argmax(-1) == photos(5).labels).mean())


@on_jax
@pytest.mark.parametrize(
    "changes", [{"mixup": 0.2}, {"randaugment": 2}, {"antialias": True}, {"progressive_size": 0.5}, {"patience": 3}]
)
def test_what_the_loop_lacks_is_rejected(changes):
    with pytest.raises(ValueError, match="not available for photos in the device's memory"):
        DeviceTraining("fd_mobilenet", 0.25, recipe(**changes), photos(BATCH), CLASSES)
