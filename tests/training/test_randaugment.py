import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageEnhance, ImageOps

from fd_keras.training import randaugment

PIXELS = (40 + 150 * np.random.default_rng(0).random((32, 32, 3))).astype("uint8")
PHOTO = Image.fromarray(PIXELS)
INDEPENDENT_OF_STRENGTH = (randaugment.auto_contrast, randaugment.equalize)


def changed(operation, strength: float) -> np.ndarray:
    """Applies an operation to the photo, int (32, 32, 3)."""
    photo = operation(strength)(tf.constant(PIXELS[None], tf.float32))
    return np.clip(np.round(photo.numpy()[0]), 0, 255).astype(int)


@pytest.mark.parametrize("index", range(len(randaugment.OPERATIONS)))
def test_operations_of_strength_zero_keep_the_photo(index):
    """Autocontrast and equalize have no strength; all others except the identity change the photo only above 0."""
    operation = randaugment.OPERATIONS[index]
    assert np.abs(changed(operation, 0.0) - PIXELS).max() <= 1 or operation in INDEPENDENT_OF_STRENGTH
    for strength in (0.9, -0.9):
        assert (changed(operation, strength) != PIXELS).any() == (index > 0)


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize(
    ("operation", "pil"),
    [
        (randaugment.brightness, lambda sign: ImageEnhance.Brightness(PHOTO).enhance(1 + sign * 0.81)),
        (randaugment.color, lambda sign: ImageEnhance.Color(PHOTO).enhance(1 + sign * 0.81)),
        (randaugment.sharpness, lambda sign: ImageEnhance.Sharpness(PHOTO).enhance(1 + sign * 0.81)),
        (randaugment.posterize, lambda sign: ImageOps.posterize(PHOTO, 4)),
        (randaugment.solarize, lambda sign: ImageOps.solarize(PHOTO, 26)),
        (randaugment.auto_contrast, lambda sign: ImageOps.autocontrast(PHOTO)),
        (randaugment.equalize, lambda sign: ImageOps.equalize(PHOTO)),
    ],
)
def test_color_operations_equal_pils(operation, pil, sign):
    inner = np.s_[1:-1, 1:-1]  # PIL does not smooth the border
    assert np.abs(changed(operation, 0.9 * sign) - np.asarray(pil(sign), int))[inner].max() <= 2


@pytest.mark.parametrize(
    ("operation", "matrix"),
    [(randaugment.shear_x, (1, 0.27, 0, 0, 1, 0)), (randaugment.shear_y, (1, 0, 0, 0.27, 1, 0)),
     (randaugment.translate_x, (1, 0, -13, 0, 1, 0)), (randaugment.translate_y, (1, 0, 0, 0, 1, -13))],
)  # fmt: skip
def test_photos_are_moved_like_pils_and_filled_with_the_mean_color(operation, matrix):
    ours = changed(operation, 0.9)
    theirs = np.asarray(
        PHOTO.transform(PHOTO.size, Image.Transform.AFFINE, matrix, Image.Resampling.NEAREST, fillcolor=(1, 2, 3)), int
    )
    outside = (theirs == (1, 2, 3)).all(-1)
    edge = np.abs(ours - randaugment.FILL).max(-1) == 0
    assert outside.any()
    assert (edge == outside).mean() > 0.95
    if matrix[1] == matrix[3] == 0:
        assert (ours[~outside] == theirs[~outside]).all()


def test_rotation_is_by_27_degrees_about_the_center():
    ours = changed(randaugment.rotate, 0.9)
    theirs = np.asarray(PHOTO.rotate(27, Image.Resampling.BILINEAR, fillcolor=randaugment.FILL), int)
    assert np.abs(ours - theirs)[8:-8, 8:-8].mean() < 4
    assert np.abs(ours - PIXELS)[8:-8, 8:-8].mean() > 30
    assert (ours[0, 0] == randaugment.FILL).all()


def test_a_photo_is_a_pure_function_of_its_seed_in_any_pipeline():
    def photos(start: int) -> list[np.ndarray]:
        augment = randaugment.RandAugment(2, 9.0)
        numbers = tf.data.Dataset.range(start, 24)
        found = numbers.map(lambda number: augment(PIXELS, tf.stack([number, 5])), num_parallel_calls=2)
        return list(found.as_numpy_iterator())

    whole, resumed = photos(0), photos(9)
    assert all((a == b).all() for a, b in zip(whole[9:], resumed, strict=True))
    assert len({photo.tobytes() for photo in whole}) > 12
    assert whole[0].dtype == np.uint8
