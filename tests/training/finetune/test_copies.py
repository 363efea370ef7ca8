import os

import numpy as np
import pytest
from PIL import Image, ImageOps

from fd_keras import imagenet
from fd_keras.training.finetune import copies
from fd_keras.training.finetune.inspection import inspect
from tests.training.finetune.test_inspection import picture

ORIENTATION = 0x0112
CLASSES = ("ant <1>", "bé e")


def write(path, orientation: int = 1, seed: int = 0, width: int = 120, height: int = 90) -> str:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    picture(seed, width, height).save(path, exif=exif, quality=95)
    return str(path)


def copied(paths, tmp_path, size: int) -> list[str]:
    return copies.paths_of(inspect(paths, [0] * len(paths)), CLASSES, size, str(tmp_path / "copies"))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_copy_is_upright(tmp_path, orientation):
    path = write(tmp_path / "a.jpg", orientation)
    (found,) = copied([path], tmp_path, 32)
    assert (found == path) == (orientation == 1)
    with Image.open(path) as photo, Image.open(found) as copy:
        upright = ImageOps.exif_transpose(photo).resize(copy.size)
        assert copy.getexif().get(ORIENTATION, 1) == 1
        assert (copy.width > copy.height) == (orientation < 5)
        assert np.abs(np.asarray(copy, "float32") - np.asarray(upright, "float32")).mean() < 4


def test_a_large_photo_is_shrunk_and_a_small_one_is_not_copied(tmp_path):
    paths = [write(tmp_path / "large.jpg", width=600, height=400), write(tmp_path / "small.jpg", seed=1)]
    found = copied(paths, tmp_path, 64)
    assert found[1] == paths[1]
    with Image.open(found[0]) as copy:
        assert copy.width / copy.height == pytest.approx(1.5, abs=0.02)
        # A copy is larger than the evaluation crop, so that random crops are possible.
        assert 64 < min(copy.size) < 200
    assert os.path.dirname(found[0]) == str(tmp_path / "copies" / CLASSES[0])


def test_a_rotated_photo_is_never_enlarged(tmp_path):
    (found,) = copied([write(tmp_path / "a.jpg", 6)], tmp_path, 224)
    with Image.open(found) as copy:
        assert copy.size == (90, 120)


def test_a_png_keeps_its_pixels_and_loses_its_transparency(tmp_path):
    image = picture(3, 200, 150)
    image.putalpha(77)
    exif = Image.Exif()
    exif[ORIENTATION] = 3
    image.save(tmp_path / "a.png", exif=exif)
    (found,) = copied([str(tmp_path / "a.png")], tmp_path, 224)
    assert found.endswith(".png")
    with Image.open(found) as copy:
        np.testing.assert_array_equal(np.asarray(copy), np.asarray(picture(3, 200, 150))[::-1, ::-1])


def test_copies_are_kept_and_photos_with_equal_names_have_different_copies(tmp_path):
    for name in ("x", "y"):
        (tmp_path / name).mkdir()
    paths = [write(tmp_path / "x" / "a.jpg", 3, seed=0), write(tmp_path / "y" / "a.jpg", 3, seed=1)]
    found = copied(paths, tmp_path, 32)
    assert len(set(found)) == 2
    before = [os.stat(path).st_mtime_ns for path in found]
    assert copied(paths, tmp_path, 32) == found
    assert [os.stat(path).st_mtime_ns for path in found] == before


def test_copies_for_another_image_size_are_not_reused(tmp_path):
    paths = [write(tmp_path / "large.jpg", width=600, height=400)]
    for size in (32, 64, 32):
        with Image.open(copied(paths, tmp_path, size)[0]) as copy:
            assert min(copy.size) == 2 * imagenet.resize_target((size, size))[0]


@pytest.mark.parametrize("letter", ["a", "é"])
def test_copies_of_photos_with_long_names_are_written_and_distinct(tmp_path, letter):
    stem = letter * (248 // len(letter.encode()))
    paths = [write(tmp_path / f"{stem}{n}.jpg", 3, seed=n) for n in range(2)]
    found = copied(paths, tmp_path, 32)
    assert len({path for path in found if os.path.isfile(path)}) == 2
    assert all(os.path.basename(path).startswith(50 * letter) for path in found)


def test_an_unfinished_copy_is_removed(tmp_path, monkeypatch):
    path = write(tmp_path / "a.jpg", 3)
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="No space left"):
        copied([path], tmp_path, 32)
    assert not list((tmp_path / "copies").rglob("*.jpg"))
