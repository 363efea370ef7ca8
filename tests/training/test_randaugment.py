import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageOps

from fd_keras.training import randaugment


def _images(batch=4, size=6):
    return np.random.default_rng(0).random((batch, size, size, 3)).astype("float32")


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
    pixels = (40 + 150 * _images(1, 32)[0]).astype("uint8")
    auto, equal = (operation(tf.constant(pixels), 0.0, 1.0).numpy() for operation in randaugment.OPERATIONS[-2:])
    assert np.abs(auto.astype(int) - np.asarray(ImageOps.autocontrast(Image.fromarray(pixels)))).max() <= 1
    np.testing.assert_array_equal(equal, np.asarray(ImageOps.equalize(Image.fromarray(pixels))))
