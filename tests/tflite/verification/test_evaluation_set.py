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
        (b"000.png 1\n", r"labels\.txt: no line for 1 photo \(001\.png\); add lines"),
        (b"000.png 1\n001.png one\n", r"labels\.txt, line 2"),
        (b"000.png 1\n001.png 10\n", r"labels\.txt, line 2.*0 to 9"),
        (b"000.png 1\n000.png 2\n", r"labels\.txt, line 2: 000\.png already has another label"),
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


def test_names_may_have_spaces_and_start_with_a_byte_order_mark(tmp_path, save_images, images):
    folder = save_images(tmp_path / "photos", images[:4])
    (folder / "003.png").rename(folder / "my dog.png")
    lines = "000.png golden dog\n001.png dog\n002.png 0\nmy dog.png golden dog\n"
    (tmp_path / "labels.txt").write_text(lines, encoding="utf-8-sig")
    photos = EvaluationSet.load(
        str(folder), str(tmp_path / "labels.txt"), (32, 32), 3, names=("cat", "dog", "golden dog")
    )
    assert photos.labels is not None
    assert photos.labels.tolist() == [2, 1, 0, 2]


def test_equal_file_names_need_their_paths(tmp_path, save_images, images):
    for folder in "ab":
        save_images(tmp_path / "photos" / folder, images[:1])
    labels = tmp_path / "labels.txt"
    labels.write_text("a/000.png 1\nb/000.png 2\n")
    photos = EvaluationSet.load(str(tmp_path / "photos"), str(labels), (32, 32), 3)
    assert photos.labels is not None
    assert photos.labels.tolist() == [1, 2]
    labels.write_text("000.png 1\n")
    with pytest.raises(ValueError, match=r"labels\.txt: the file names of 2 photos .* are not unique"):
        EvaluationSet.load(str(tmp_path / "photos"), str(labels), (32, 32), 3)


def test_undecodable_photos_are_skipped_and_named(tmp_path, save_images, images, caplog):
    folder = save_images(tmp_path / "photos", images[:3])
    (folder / "001.png").write_bytes(b"not an image")
    ((found, _),) = EvaluationSet.load(str(folder), None, images.shape[1:3], 3, resize=False).batches()
    np.testing.assert_array_equal(found, images[[0, 2]].astype("uint8"))
    assert "001.png" in caplog.text


def test_missing_labels_are_named(tmp_path, save_images, images):
    folder = save_images(tmp_path / "photos", images[:2])
    with pytest.raises(OSError, match=re.escape("gone.txt: no such file; pass a text file")):
        EvaluationSet.load(str(folder), str(tmp_path / "gone.txt"), (32, 32), 10)
