"""Tests the stored frame against independent arithmetic."""

import numpy as np
import pytest
from PIL import Image

from fd_keras.tflite.mcu import reference


def test_rgb565_colors_span_the_whole_range():
    words = np.array([[0x0000, 0xFFFF, 0xF800, 0x07E0, 0x001F, 0x8410]], "uint16")
    expected = [[0, 0, 0], [255, 255, 255], [255, 0, 0], [0, 255, 0], [0, 0, 255], [132, 130, 132]]
    assert reference.TestFrame(words).rgb()[0].tolist() == expected


def test_bytes_begin_with_red():
    assert reference.TestFrame(np.array([[0xF81F, 0x07E0]], "uint16")).bytes == b"\xf8\x1f\x07\xe0"


def test_a_photo_loses_at_most_seven_levels(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (120, 160, 3), "uint8")
    Image.fromarray(pixels).resize((366, 274), Image.Resampling.NEAREST).save(tmp_path / "photo.png")
    from fd_keras.imagenet import load_image

    frame = reference.frame_of(str(tmp_path / "photo.png"), 640, 480)
    assert (frame.width, frame.height) == (160, 120)
    photo = load_image(tmp_path / "photo.png", (120, 160)).astype(int)
    assert np.abs(frame.rgb().astype(int) - photo).max() <= 7


def test_the_frame_is_not_larger_than_the_camera_s():
    frame = reference.frame_of(None, 96, 64)
    assert (frame.width, frame.height) == (96, 64)
    assert len(np.unique(frame.words)) > 100


@pytest.mark.parametrize(("data", "value"), [(b"", 0x811C9DC5), (b"a", 0xE40C292C), (b"foobar", 0xBF9CF968)])
def test_the_hash_is_fnv_1a(data, value):
    assert reference.fnv1a(data) == value
