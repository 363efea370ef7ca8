import base64
import io

import numpy as np
import pytest
from PIL import Image

from fd_keras.training.finetune import page_photos
from fd_keras.training.finetune.results import Measured
from tests.page_probe import ParsedPage

NAMES = ["a", "<b>", "c"]


@pytest.fixture
def photo(tmp_path):
    """A photo with an EXIF rotation, a blue top, and a red frame that the central crop removes."""
    pixels = np.full((200, 320, 3), 255, "uint8")
    pixels[:, :] = (255, 0, 0)
    pixels[12:-12, 60:-60] = (0, 200, 0)
    pixels[12:-12, 60:100] = (0, 0, 255)
    turned = Image.Exif()
    turned[0x0112] = 6  # rotate by 90 degrees clockwise: left becomes top
    path = tmp_path / "photo.jpg"
    Image.fromarray(pixels).save(path, exif=turned, quality=95)
    return str(path)


def shown(image: dict) -> np.ndarray:
    with Image.open(io.BytesIO(base64.b64decode(image["src"].split(",")[1]))) as picture:
        return np.asarray(picture)


def test_a_thumbnail_is_the_upright_central_crop(photo):
    measured = Measured([photo], np.array([0]), np.array([[0.1, 0.7, 0.2]], "float32"))
    page = ParsedPage(page_photos.confident_mistakes(measured, NAMES))
    (image,) = page.images
    assert image["alt"] == "photo of a"
    pixels = shown(image)
    assert pixels.shape == (128, 128, 3)
    assert pixels[4:-4, 4:-4, 0].max() < 90  # no red frame
    assert pixels[5, 64].argmax() == 2
    assert pixels[100, 64].argmax() == 1
    assert page.texts["span"] == ["a → <b> 70%"]
    assert page.texts["small"][0].endswith("/photo.jpg")


def test_uncertain_photos_have_two_predictions_and_are_not_repeated(photo):
    probabilities = np.array([[0.1, 0.7, 0.2], [0.4, 0.36, 0.24], [0.9, 0.1, 0]], "float32")
    measured = Measured([photo, "x/1.jpg", "x/2.jpg"], np.array([0, 0, 0]), probabilities)
    page = ParsedPage(page_photos.least_certain(measured, NAMES))
    captions = [text for text in page.texts["span"] if "→" in text]
    assert captions == ["a → a 40%, <b> 36%", "a → a 90%, <b> 10%"]


def test_missing_and_broken_photos_are_marked(tmp_path):
    (tmp_path / "broken.jpg").write_bytes(b"no photo")
    paths = [str(tmp_path / "gone.jpg"), str(tmp_path / "broken.jpg"), str(tmp_path)]
    measured = Measured(paths, np.array([1, 1, 1]), np.array([[0.9, 0.1, 0], [0.8, 0.2, 0], [0.7, 0.3, 0]], "float32"))
    page = ParsedPage(page_photos.confident_mistakes(measured, NAMES))
    assert not page.images
    assert page.texts["span"][0::2] == ["The file is missing.", *["The file cannot be read."] * 2]


def test_without_mistakes_a_sentence_is_shown():
    measured = Measured(["x.jpg"], np.array([0]), np.array([[1, 0, 0]], "float32"))
    assert "No mistakes in 1 photos" in page_photos.confident_mistakes(measured, NAMES)
