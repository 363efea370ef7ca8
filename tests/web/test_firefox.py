"""The page in Firefox, against LiteRT in Python and Pillow. test_app.py has the complete tests, in Chromium."""

import numpy as np
import pytest

from fd_keras import imagenet
from fd_keras.image_classifier import open_classifier
from tests import firefox
from tests.web.camera_page import ERROR, SHOWN, choose, look
from tests.web.conftest import NAMES, SIZE, photo


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    with firefox.started(tmp_path_factory.mktemp("profile")) as browser:
        yield browser


@pytest.fixture
def tab(opened, serve):
    """A tab with the loaded page."""
    opened.open(serve().address)
    return opened


def test_pixels_equal_those_of_pillow_and_probabilities_those_of_litert(tab, page, sources, tmp_path):
    paths = [tmp_path / f"{number}.png" for number in range(4)]
    for number, path in enumerate(paths):
        photo(number, (320 - 60 * number, 200 + 71 * number)).save(path)
    images = np.stack([imagenet.load_image(path, SIZE) for path in paths])
    expected = open_classifier(str(sources[0].path))(images)
    for image, probabilities, (pixels, found) in zip(images, expected, look(tab, page, paths), strict=True):
        assert np.abs(pixels.astype("float32") - image).max() <= 1
        np.testing.assert_allclose(found, probabilities, atol=0.01)


def test_a_chosen_photo_is_classified_by_each_model(tab, tmp_path):
    photo(2, (200, 200)).save(tmp_path / "photo.png")
    assert [card[0].split("\n")[0] for card in choose(tab, tmp_path / "photo.png")] == [NAMES[2]] * 2


def test_camera_frames_are_classified(tab):
    tab.wait("!document.getElementById('camera').disabled")
    tab.run("document.getElementById('camera').click()")
    tab.wait("Number(document.documentElement.dataset.frames) > 4")
    assert tab.run(f"{ERROR}.hidden")
    assert len(tab.run(SHOWN)) == 2


def test_the_page_works_without_its_server(opened, serve, tmp_path):
    server = serve()
    opened.open(server.address)
    opened.wait("document.getElementById('offline').textContent")
    server.shutdown()
    server.server_close()
    opened.open(server.address)
    photo(0, (99, 99)).save(tmp_path / "photo.png")
    assert choose(opened, tmp_path / "photo.png")[0][0].startswith(NAMES[0])
