import os
import shutil

import keras
import numpy as np
import pytest
from PIL import Image

from fd_keras import imagenet
from fd_keras.training.finetune import features


@pytest.fixture
def trunk() -> keras.Model:
    """A trunk that computes means of 4x4 pixels, which differ for mirror images and crops."""
    image = keras.Input((32, 32, 3))
    return keras.Model(image, keras.layers.Flatten()(keras.layers.AveragePooling2D(4)(image)))


@pytest.fixture(scope="module")
def paths(photos) -> list[str]:
    return sorted(map(str, (photos / "train").glob("*/*.jpg")))


def test_the_first_views_are_the_evaluation_crop_and_its_mirror_image(trunk, paths):
    found = features.pooled(trunk, paths[:5], 2, 0.5, 0)
    images = np.stack([imagenet.load_image(path, (32, 32)) for path in paths[:5]]).astype("float32")
    assert found.shape == (5, 2, trunk.output_shape[-1])
    for view, expected in enumerate((images, images[:, :, ::-1])):
        np.testing.assert_allclose(found[:, view], trunk.predict_on_batch(expected), atol=1)
    np.testing.assert_allclose(features.pooled(trunk, paths[:5], 1, 0.5, 0)[:, 0], found[:, 0], atol=1e-2)


def test_other_views_are_random_crops_that_depend_on_the_seed(trunk, paths):
    first, again, other = (features.pooled(trunk, paths[:4], 5, 0.5, seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    np.testing.assert_allclose(first[:, :2], other[:, :2], atol=1e-2)
    assert not np.allclose(first[:, 2:], other[:, 2:], atol=1)
    for photo in first:
        assert len(np.unique(photo.round(3), axis=0)) == 5


def test_the_trunk_is_traced_once_for_any_number_of_photos(trunk, paths):
    whole = features.pooled(trunk, paths, 3, 0.5, 0)  # two batches and a part of one
    np.testing.assert_allclose(features.pooled(trunk, paths[:3], 3, 0.5, 0), whole[:3], atol=1e-2)
    assert trunk.predict_function.experimental_get_tracing_count() == 1


def test_photos_may_have_any_name_and_size(trunk, paths, tmp_path):
    odd = str(tmp_path / "caf\udce9.jpg")  # Latin-1, as from an old archive
    shutil.copy(paths[0], os.fsencode(odd))
    Image.new("RGB", (9, 5), "red").save(tmp_path / "tiny.png")
    found = features.pooled(trunk, [paths[0], odd, str(tmp_path / "tiny.png")], 4, 0.5, 0)
    np.testing.assert_allclose(found[0, :2], found[1, :2], atol=1e-2)
    assert np.isfinite(found).all()
