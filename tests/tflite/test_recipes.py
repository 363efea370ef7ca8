import math
import os
import shutil

import numpy as np
import pytest
from PIL import Image

from fd_keras.tflite.recipes import (
    IO_TYPES,
    MIN_CALIBRATION,
    RECIPES,
    get_recipes,
    load_calibration,
    read_ids,
)

SIZE = (32, 48)
COUNT = 100


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Images 000.png to 099.png in two folders; image i has gray level i."""
    folder = tmp_path_factory.mktemp("photos")
    for i in range(COUNT):
        path = folder / ("first" if i < 40 else "second") / f"{i:03}.png"
        path.parent.mkdir(exist_ok=True)
        Image.new("RGB", (8, 8), (i, i, i)).save(path)
    return str(folder)


# --- recipes -----------------------------------------------------------------------------------------------


def test_recipes_are_found_by_name_in_the_order_asked_for():
    assert get_recipes(["int8", "float32"]) == [RECIPES["int8"], RECIPES["float32"]]


def test_repeated_recipe_is_used_once():
    assert get_recipes(["int8", "float32", "int8"]) == [RECIPES["int8"], RECIPES["float32"]]


def test_unknown_recipe_is_named_with_the_known_ones():
    with pytest.raises(ValueError, match="--recipes=int2: .*did you mean int8") as error:
        get_recipes(["float32", "int4", "int2"])
    assert all(name in str(error.value) for name in RECIPES)


def test_no_recipe_is_an_error():
    with pytest.raises(ValueError, match="--recipes is empty.*float32"):
        get_recipes([])


@pytest.mark.parametrize("name", RECIPES)
def test_recipe_is_well_formed(name):
    recipe = RECIPES[name]
    assert recipe.name == name == name.lower()
    assert recipe.summary
    assert recipe.weights in ("float32", "float16", "int8", "int4")
    assert recipe.activations in ("float32", "int8")
    assert recipe.calibrated == (recipe.activations == "int8")
    assert recipe.calibrated or recipe.settings is None  # preparation needs images


def test_the_four_documented_recipes_exist():
    assert {"float32", "float16", "dynamic", "int8"} <= RECIPES.keys()
    assert IO_TYPES[0] == "uint8"


# --- calibration images ------------------------------------------------------------------------------------


def indices(ids) -> list[int]:
    return [int(os.path.basename(name).removesuffix(".png")) for name in ids]


@pytest.mark.parametrize("count", [8, 9, 33, 50, 64, 99, 100, 101, 5000])
def test_images_are_taken_evenly(folder, count):
    chosen = indices(load_calibration(folder, SIZE, count).ids)
    assert len(chosen) == min(count, COUNT)
    gaps = np.diff(chosen)
    assert chosen[0] == 0
    assert chosen[-1] >= COUNT - math.ceil(COUNT / len(chosen))
    assert gaps.min() >= 1
    assert gaps.max() - gaps.min() <= 1


def test_an_undecodable_image_does_not_drop_another(folder, tmp_path, caplog):
    copy = shutil.copytree(folder, tmp_path / "images")
    (copy / "first" / "._000.png").write_bytes(b"of macOS")
    paths = sorted(copy.glob("*/[0-9]*.png"))
    paths[1].write_bytes(b"no image")
    loaded = load_calibration(str(copy), SIZE, COUNT)
    assert indices(loaded.ids) == [0, *range(2, COUNT)]
    assert [int(image[0, 0, 0]) for image in loaded.images] == indices(loaded.ids)
    assert "skipped hidden or system files: 1" in caplog.text
    skipped = f"skipped photos that cannot be decoded: 1 ({paths[1]}: not a readable image (unknown format))"
    assert skipped in caplog.text
    for path in paths[7:]:
        path.write_bytes(b"no image")
    with pytest.raises(ValueError, match=f"^need at least 8 images, found 6; skipped photos that .*: 94 .{paths[1]}"):
        load_calibration(str(copy), SIZE, COUNT)


def test_choice_does_not_depend_on_the_order_of_the_folder(folder, monkeypatch):
    expected = load_calibration(folder, SIZE, 10)
    walk = os.walk
    monkeypatch.setattr(os, "walk", lambda path: [(top, d, names[::-1]) for top, d, names in list(walk(path))[::-1]])
    again = load_calibration(folder, SIZE, 10)
    assert again.ids == expected.ids
    np.testing.assert_array_equal(again.images, expected.images)


def test_ids_are_relative_to_the_folder(folder, monkeypatch):
    expected = [f"{'first' if i < 40 else 'second'}/{i:03}.png" for i in range(0, COUNT, 10)]
    assert list(load_calibration(folder, SIZE, 10).ids) == expected
    monkeypatch.chdir(os.path.dirname(folder))
    assert list(load_calibration(os.path.basename(folder) + "/", SIZE, 10).ids) == expected


def test_images_belong_to_their_ids(folder):
    calibration = load_calibration(folder, SIZE, 10)
    assert calibration.images.shape == (10, *SIZE, 3)
    assert calibration.images.dtype == np.uint8
    assert calibration.images.reshape(10, -1).std(axis=1).max() == 0
    assert calibration.images[:, 0, 0, 0].tolist() == indices(calibration.ids)


def test_ids_can_be_given(folder):
    ids = [f"second/{i:03}.png" for i in (77, 50, 51, 52, 99, 40, 41, 42)]
    calibration = load_calibration(folder, SIZE, 3, ids)
    assert list(calibration.ids) == ids
    assert calibration.images[:, 0, 0, 0].tolist() == indices(ids)


def test_the_ids_of_a_calibration_reproduce_it(folder):
    first = load_calibration(folder, SIZE, 20)
    again = load_calibration(folder, SIZE, 1, first.ids)
    assert again.ids == first.ids
    np.testing.assert_array_equal(again.images, first.images)


def test_missing_image_is_named(folder):
    with pytest.raises(OSError, match="gone.png"):
        load_calibration(folder, SIZE, 8, [f"first/{i:03}.png" for i in range(9)] + ["first/gone.png"])


def test_ids_are_read_from_lines(tmp_path):
    (tmp_path / "ids.txt").write_text("a/b c.jpg\n\n  d.png \r\ne.jpg")
    assert read_ids(str(tmp_path / "ids.txt")) == ["a/b c.jpg", "d.png", "e.jpg"]


@pytest.mark.parametrize("count", [0, 1, MIN_CALIBRATION - 1])
def test_too_small_count_is_rejected(folder, count):
    with pytest.raises(ValueError, match=f"at least {MIN_CALIBRATION}"):
        load_calibration(folder, SIZE, count)


@pytest.mark.parametrize("there", [1, MIN_CALIBRATION - 1])
def test_folder_with_too_few_images_is_rejected_and_named(tmp_path, there):
    for i in range(there):
        Image.new("RGB", (8, 8)).save(tmp_path / f"{i}.png")
    with pytest.raises(ValueError, match=f"{tmp_path.name}.*{there} images.*at least {MIN_CALIBRATION}"):
        load_calibration(str(tmp_path), SIZE, 128)


def test_the_minimum_number_of_images_is_accepted(tmp_path):
    for i in range(MIN_CALIBRATION):
        Image.new("RGB", (8, 8)).save(tmp_path / f"{i}.png")
    assert len(load_calibration(str(tmp_path), SIZE, 128).ids) == MIN_CALIBRATION


def test_missing_folder_is_named(tmp_path):
    with pytest.raises(OSError, match="no-such-folder"):
        load_calibration(str(tmp_path / "no-such-folder"), SIZE, 128)


def save_all_but_one(folder, name: str, image: Image.Image | None) -> None:
    for i in range(MIN_CALIBRATION):
        Image.new("RGB", (8, 8)).save(folder / f"{i}.png")
    if image:
        image.save(folder / name)


@pytest.mark.parametrize("content", [b"", b"no image", b"<html></html>"])
def test_image_that_cannot_be_read_is_named(tmp_path, caplog, content):
    save_all_but_one(tmp_path, "x.jpg", None)
    (tmp_path / "broken.jpg").write_bytes(content)
    assert "broken.jpg" not in load_calibration(str(tmp_path), SIZE, 128).ids
    assert "broken.jpg: not a readable image" in caplog.text


def test_truncated_image_is_named(tmp_path, caplog):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype="uint8")
    save_all_but_one(tmp_path, "cut.jpg", Image.fromarray(noise))
    whole = (tmp_path / "cut.jpg").read_bytes()
    (tmp_path / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    assert "cut.jpg" not in load_calibration(str(tmp_path), SIZE, 128).ids
    assert "cut.jpg: not a readable image" in caplog.text


@pytest.mark.parametrize(
    ("mode", "color", "name"),
    [
        ("L", 200, "x.jpg"),
        ("CMYK", (0, 0, 0, 55), "x.jpg"),
        ("P", 200, "x.gif"),
        ("LA", (200, 0), "x.png"),
        ("RGBA", (200, 200, 200, 0), "x.png"),
        ("I;16", 51_400, "x.png"),
    ],
)
def test_images_in_other_color_modes_become_rgb(tmp_path, mode, color, name):
    """All of these are light gray, level 200."""
    image = Image.new(mode, (8, 8), color)
    if mode == "P":
        image.putpalette([level for level in range(256) for _ in range(3)])
    save_all_but_one(tmp_path, name, image)
    calibration = load_calibration(str(tmp_path), SIZE, 128)
    assert calibration.ids[-1] == name
    assert calibration.images.shape[1:] == (*SIZE, 3)
    np.testing.assert_allclose(calibration.images[-1].astype(int), 200, atol=1)  # JPEG rounds


@pytest.mark.parametrize("size", [(1, 1), (3, 900), (900, 3), (5000, 3000)])
def test_tiny_narrow_and_huge_images_are_cropped_too(tmp_path, size):
    save_all_but_one(tmp_path, "x.png", Image.new("RGB", size, (9, 99, 199)))
    image = load_calibration(str(tmp_path), SIZE, 128).images[-1]
    assert image.shape == (*SIZE, 3)
    assert (image == (9, 99, 199)).all()


@pytest.mark.parametrize("orientation", range(2, 9))
def test_photos_are_not_rotated_by_exif(tmp_path, orientation):
    """The networks were trained on ImageNet's pixels as stored, without EXIF rotation."""
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 48, 3), dtype="uint8"))
    exif = Image.Exif()
    exif[0x0112] = orientation
    save_all_but_one(tmp_path, "x.png", image)
    stored = load_calibration(str(tmp_path), SIZE, 128).images[-1]
    image.save(tmp_path / "x.png", exif=exif)
    assert (load_calibration(str(tmp_path), SIZE, 128).images[-1] == stored).all()


def test_calibration_images_are_cropped_like_for_evaluation(tmp_path):
    """A mark in the middle of a wide photo stays in the middle; the parts beside the square are cropped."""
    save_all_but_one(tmp_path, "x.png", None)
    pixels = np.zeros((256, 512, 3), "uint8")
    pixels[128:, 256:] = 255
    pixels[:, :100] = pixels[:, -100:] = (255, 0, 0)
    Image.fromarray(pixels).save(tmp_path / "x.png")
    image = load_calibration(str(tmp_path), (224, 224), 128).images[-1]
    assert not np.any((image[..., 0] == 255) & (image[..., 1] == 0))
    assert image[120:, 120:].min() == 255
    assert image[:104].max() == image[:, :104].max() == 0
