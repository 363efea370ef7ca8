import hashlib
import pathlib

import numpy as np
import pytest
from PIL import Image, ImageFilter

from fd_keras.training.finetune import inspection
from fd_keras.training.finetune.inspection import duplicate_groups, inspect, inspect_photo


def picture(seed: int, width: int = 120, height: int = 90) -> Image.Image:
    """Returns smooth blobs, which look the same at any size, as a photo does."""
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), "uint8")
    return Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(8)).point(lambda v: max(0, min(255, 6 * v - 640)))


@pytest.fixture
def save(tmp_path):
    def save(name: str, image: Image.Image, **options) -> str:
        image.save(tmp_path / name, **options)
        return str(tmp_path / name)

    return save


def groups_of(*paths: str) -> list[int]:
    return duplicate_groups(inspect(paths, [0] * len(paths))).tolist()


def test_a_photo_is_described(save):
    exif = Image.Exif()
    exif[0x0112] = 6
    path = save("a.jpg", picture(0), exif=exif)
    found = inspect_photo(path, 3)
    assert (found.path, found.label, found.width, found.height) == (path, 3, 120, 90)
    assert found.rotated
    assert not found.fault
    assert found.sha256 == hashlib.sha256(pathlib.Path(path).read_bytes()).hexdigest()
    assert np.linalg.norm(found.thumbnail) == pytest.approx(1, abs=1e-5)
    assert not inspect_photo(save("b.png", picture(0)), 0).rotated


@pytest.mark.parametrize("content", [b"", b"not a photo", b"\xff\xd8\xff\xe0 cut short"])
def test_a_broken_photo_has_a_fault_and_no_duplicates(tmp_path, save, content):
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / name).write_bytes(content)
    paths = (str(tmp_path / "a.jpg"), str(tmp_path / "b.jpg"), save("c.jpg", picture(0)))
    found = inspect(paths, [0, 1, 2])
    assert [bool(photo.fault) for photo in found] == [True, True, False]
    assert len(set(duplicate_groups(found).tolist())) == 3


def test_a_missing_photo_has_a_fault(tmp_path):
    assert "No such file" in inspect_photo(str(tmp_path / "gone.jpg"), 0).fault


def test_copies_and_reencoded_photos_are_duplicates(save):
    image = picture(1)
    original = save("a.jpg", image, quality=95)
    copies = save("b.jpg", image, quality=95), save("c.jpg", image, quality=50), save("d.png", image.resize((70, 52)))
    others = [save(f"{seed}.jpg", picture(seed)) for seed in range(2, 8)]
    assert groups_of(*others, original, *copies) == [*range(6), 6, 6, 6, 6]


def test_uniform_photos_are_duplicates_only_if_their_files_are_equal(save):
    paths = [save("a.png", Image.new("RGB", (50, 40), "white")), save("b.png", Image.new("RGB", (50, 40), "gray"))]
    assert groups_of(*paths, save("c.png", Image.new("RGB", (50, 40), "white"))) == [0, 1, 0]


def test_pairs_across_blocks_are_found_and_join_groups(save, monkeypatch):
    monkeypatch.setattr(inspection, "_BLOCK", 2)
    paths = [save(f"{n}.jpg", picture(seed), quality=60 + n) for n, seed in enumerate([0, 1, 2, 1, 0, 3, 1])]
    assert groups_of(*paths) == [0, 1, 2, 1, 0, 5, 1]


def test_different_photos_of_a_real_data_set_are_not_duplicates(data):
    folder = data / "imagenette128" / "train"
    paths = [str(path) for name in sorted(folder.iterdir()) for path in sorted(name.iterdir())[:60]]
    assert len(set(groups_of(*paths))) == len(paths)
