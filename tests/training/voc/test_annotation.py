import logging

import numpy as np
import pytest
from PIL import Image

from fd_keras import photos
from fd_keras.training import crops
from fd_keras.training.voc import annotation, dataset


@pytest.mark.parametrize(
    ("box", "kept", "kind"),
    [
        ((0, 0, 51, 41), [0, 0, 49, 39], annotation.CLIPPED),
        ((-20, 5, 10, 50), [0, 4, 9, 39], annotation.CLIPPED),
        ((60, 1, 70, 10), None, annotation.OUTSIDE),
        ((1, -9, 10, 0), None, annotation.OUTSIDE),
        ((20, 5, 10, 9), None, annotation.INVERTED),
        ((10, 9, 20, 5), None, annotation.INVERTED),
        ((10, 5, 10, 9), None, annotation.EMPTY),
        ((-5, 1, 1, 9), None, annotation.EMPTY),  # only its last column is inside
        ((1, 1, 50, 40), [0, 0, 49, 39], None),
    ],
)
def test_bad_boxes_are_clipped_or_dropped_and_counted(devkit, voc_object, caplog, box, kept, kind):
    devkit.add("a", voc_object("cat", *box), voc_object("dog", 1, 1, 9, 9))
    devkit.split("train", "a")
    with caplog.at_level(logging.WARNING):
        (image,) = dataset.open_split(str(devkit), "train")
    assert image.boxes.tolist() == ([kept] if kept else []) + [[0, 0, 8, 8]]
    assert len(image.labels) == len(image.difficult) == len(image.boxes)
    if kind is None:
        assert not caplog.messages
    else:
        (message,) = caplog.messages
        assert f"1 box {kind}: {devkit.xml('a')}" in message


def test_warnings_name_the_first_files(devkit, voc_object, caplog):
    for name in "abcde":
        devkit.add(name, *[voc_object("cat", 1, 1, 99, 9)] * 2)
    devkit.split("train", *"abcde")
    dataset.open_split(str(devkit), "train")
    assert f"10 boxes {annotation.CLIPPED}: {devkit.xml('a')}, " in caplog.text
    assert "and 2 more files" in caplog.text


@pytest.mark.parametrize("suffix", [".png", ".JPG", ".jpeg", ".bmp", ".webp", ".Tif", ".gif"])
def test_images_may_have_any_format_and_case(devkit, suffix):
    devkit.add("a")
    path = devkit.image("a").with_suffix(suffix)
    with Image.open(devkit.image("a")) as image:
        image.convert("L").save(path)
    if suffix != ".jpg":
        devkit.image("a").unlink()
    devkit.split("train", "a")
    (image,) = dataset.open_split(str(devkit), "train")
    assert image.path == str(path)
    assert annotation.read_image(image.path).shape == (40, 50, 3)
    assert np.array_equal(crops.decode(path.read_bytes()), annotation.read_image(image.path))


def test_an_image_with_too_many_pixels_is_named(devkit, monkeypatch):
    devkit.add("a")
    monkeypatch.setattr(photos, "MAX_PIXELS", 50 * 40 - 1)  # other readers would decode this JPEG at half its size
    devkit.split("train", "a")
    with pytest.raises(annotation.DataError, match="a.jpg: .*more than 1,999 pixels"):
        dataset.open_split(str(devkit), "train")


def test_boxes_may_be_kept_unchanged_and_images_missing(devkit, voc_object, caplog):
    devkit.add(
        "a", voc_object("cat", 0, -3, 51.0625, 41), voc_object("dog", 20, 5, 10, 9), voc_object("dog", 5, 5, 5, 5)
    )
    devkit.split("test", "a")
    (kept,) = dataset.open_split(str(devkit), "test", reading=annotation.TO_EVALUATE)
    assert kept.boxes.tolist() == [[-1, -4, 50.0625, 40], [19, 4, 9, 8], [4, 4, 4, 4]]
    devkit.image("a").unlink()
    with pytest.raises(annotation.DataError, match="a.jpg: no such image"):
        dataset.open_split(str(devkit), "test", reading=annotation.TO_EVALUATE)
    (scored,) = dataset.open_split(str(devkit), "test", reading=annotation.TO_SCORE_FILES)
    assert scored.boxes.tolist() == kept.boxes.tolist()
    assert (scored.height, scored.width) == (40, 50)
    assert not caplog.messages


def test_the_remedy_for_an_unknown_class_depends_on_the_detector(devkit, voc_object):
    devkit.add("a", voc_object("forklift", 1, 1, 9, 9))
    devkit.split("test", "a")
    remedies = {annotation.TO_TRAIN: "pass other classes", annotation.TO_EVALUATE: "was trained without"}
    for reading, remedy in remedies.items():
        with pytest.raises(annotation.DataError, match=f"'forklift', not one of the 20 classes; .*{remedy}"):
            dataset.open_split(str(devkit), "test", reading=reading)


@pytest.mark.parametrize("value", [None, True, "1", [], float("nan"), 10**400])
def test_invalid_numbers_are_named(value):
    with pytest.raises(annotation.DataError, match="a.json: 'x' is (missing|.*, not a number)"):
        annotation.number(value, "a.json: 'x'")
