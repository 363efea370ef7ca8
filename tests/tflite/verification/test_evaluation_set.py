import re

import numpy as np
import pytest

from fd_keras.tflite.verification.evaluation_set import EvaluationSet


@pytest.mark.parametrize("count", [1, 32, 33])
def test_evaluation_yields_every_image_once_with_its_label(tmp_path, save_images, images, count):
    folder = save_images(tmp_path / "photos", np.resize(images, (count, *images.shape[1:])))
    lines = [f"{i:03}.png {i * 7 % 10}\n" for i in range(count)]
    (tmp_path / "labels.txt").write_text("".join(lines[::-1]) + "other.png 3\n")
    photos = EvaluationSet.load(str(folder), str(tmp_path / "labels.txt"), images.shape[1:3], 10, resize=False)
    arrays, labels = zip(*photos.batches(), strict=True)
    expected = np.resize(images, (count, *images.shape[1:])).astype("uint8")
    np.testing.assert_array_equal(np.concatenate(arrays), expected)
    assert np.concatenate(labels).tolist() == [i * 7 % 10 for i in range(count)]
    assert arrays[0].dtype == np.float32


def test_labels_are_none_without_a_file(tmp_path, save_images, images):
    photos = EvaluationSet.load(str(save_images(tmp_path, images[:3])), None, (32, 32), 10)
    assert [labels for _, labels in photos.batches()] == [None]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"000.png 1\n", r"labels\.txt: no line for 1 images of .* \(001\.png\); add lines"),
        (b"000.png 1\n001.png one\n", r"labels\.txt, line 2"),
        (b"000.png 1\n001.png 10\n", r"labels\.txt, line 2.*0 to 9"),
        (b"\xff\xfe\x00", r"labels\.txt: not valid UTF-8"),
    ],
)
def test_invalid_labels_are_named(tmp_path, save_images, images, content, message):
    folder = save_images(tmp_path / "photos", images[:2])
    (tmp_path / "labels.txt").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        EvaluationSet.load(str(folder), str(tmp_path / "labels.txt"), (32, 32), 10)


def test_labels_can_be_class_names(tmp_path, save_images, images):
    folder = save_images(tmp_path / "photos", images[:3])
    (tmp_path / "labels.txt").write_text("000.png rose\n\n001.png 0\n002.png daisy\n")
    names = ("daisy", "tulip", "rose")
    photos = EvaluationSet.load(str(folder), str(tmp_path / "labels.txt"), (32, 32), 3, names=names)
    assert photos.labels is not None
    assert photos.labels.tolist() == [2, 0, 0]


def test_missing_labels_are_named(tmp_path, save_images, images):
    folder = save_images(tmp_path / "photos", images[:2])
    with pytest.raises(OSError, match=re.escape("gone.txt: no such file; pass a text file")):
        EvaluationSet.load(str(folder), str(tmp_path / "gone.txt"), (32, 32), 10)
