import os
import re

import numpy as np
import pytest

from fd_keras.training.voc import detections, metric
from fd_keras.training.voc.detections import Detections

CLASSES = ("cat", "hard hat")


@pytest.fixture
def results(tmp_path):
    """A folder with a result file per class, and a function that writes the first file."""
    (tmp_path / "comp4_det_test_hard hat.txt").write_text("")
    path = tmp_path / "comp4_det_test_cat.txt"
    return tmp_path, lambda *lines: path.write_text("\n".join(lines))


def random_detections(seed: int, count: int) -> Detections:
    random = np.random.default_rng(seed)
    corner = random.uniform(0, 400, (count, 2))
    boxes = np.concatenate([corner, corner + random.uniform(0, 99, (count, 2))], -1).astype("float32")
    return Detections(boxes, random.random(count).astype("float32"), random.integers(0, 2, count))


def test_written_files_are_read_unchanged(tmp_path):
    found = {"000001": random_detections(1, 30), "my photo 2": random_detections(2, 5), "c": Detections.empty()}
    paths = detections.write(str(tmp_path / "new" / "folder"), "test", CLASSES, found.items())
    assert [os.path.basename(path) for path in paths] == ["comp4_det_test_cat.txt", "comp4_det_test_hard hat.txt"]
    back = detections.read(str(tmp_path / "new" / "folder"), "test", CLASSES, found)
    assert list(back) == list(found)
    for name, image in found.items():
        by_label = np.argsort(image.labels, kind="stable")  # one file per class
        assert (back[name].labels == image.labels[by_label]).all()
        assert (back[name].scores.astype("float32") == image.scores[by_label]).all()
        np.testing.assert_allclose(back[name].boxes, image.boxes[by_label], rtol=0, atol=2e-6)


def test_class_names_can_contain_slashes(tmp_path):
    classes = ("tv/monitor", "tv_monitor")
    found = {"a": random_detections(3, 9)}
    (path, _) = detections.write(str(tmp_path), "test", classes, found.items())
    assert os.path.basename(path) == "comp4_det_test_tv%2Fmonitor.txt"
    assert sorted(detections.read(str(tmp_path), "test", classes, found)["a"].labels) == sorted(found["a"].labels)


def test_files_have_one_based_pixels(results):
    folder, write = results
    write("a 0.5 1 1 10.5 20", "", "a 0.25 3 4 5 6  ")
    found = detections.read(str(folder), "test", CLASSES, ["a", "b"])
    assert found["a"].boxes.tolist() == [[0, 0, 9.5, 19], [2, 3, 4, 5]]
    assert found["a"].order.tolist() == [1, 3]
    assert len(found["b"]) == 0
    detections.write(str(folder), "test", CLASSES, [("a", found["a"][:1])])
    assert (folder / "comp4_det_test_cat.txt").read_text() == "a 0.5 1 1 10.5 20\n"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("b 0.5 1 1 9 9", "image 'b' is not in the split test"),
        ("a 0.5 1 1 9", "expected an image, a score and a box (xmin ymin xmax ymax), got 'a 0.5 1 1 9'"),
        ("a 0.5 1 1 9 9 9", "image 'a 0.5' is not in the split"),
        ("a high 1 1 9 9", "could not convert string to float: 'high'"),
        ("a nan 1 1 9 9", "not finite"),
        ("a 0.5 1 1 inf 9", "not finite"),
        ("a 0.5 9 1 1 9", "xmin > xmax"),
    ],
)
def test_malformed_lines_are_named(results, line, message):
    folder, write = results
    path = folder / "comp4_det_test_cat.txt"
    write("a 0.5 1 1 9 9", line, "a 0.5 1 1 9 9")
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        detections.read(str(folder), "test", CLASSES, ["a"])
    assert str(caught.value).startswith(f"{path}:2: ")


def test_missing_and_duplicate_files_are_named(results):
    folder, write = results
    with pytest.raises(FileNotFoundError, match="no file comp4_det_test_cat.txt"):
        detections.read(str(folder), "test", CLASSES, ["a"])
    write("a 0.5 1 1 9 9")
    with pytest.raises(FileNotFoundError, match="no file comp4_det_val_cat.txt"):
        detections.read(str(folder), "val", CLASSES, ["a"])
    (folder / "comp4_1234-5678_det_test_cat.txt").write_text("")  # with py-faster-rcnn's salt
    with pytest.raises(ValueError, match="has both .* and .*; remove one"):
        detections.read(str(folder), "test", CLASSES, ["a"])
    with pytest.raises(FileNotFoundError, match="no such folder"):
        detections.read(str(folder / "nowhere"), "test", CLASSES, ["a"])


def test_files_are_written_atomically(results, monkeypatch):
    folder, write = results
    write("a 0.5 1 1 9 9")

    def fail(*arguments):
        raise OSError("disk full")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        detections.write(str(folder), "test", CLASSES, [("a", random_detections(0, 9))])
    assert (folder / "comp4_det_test_cat.txt").read_text() == "a 0.5 1 1 9 9"
    assert sorted(os.listdir(folder)) == ["comp4_det_test_cat.txt", "comp4_det_test_hard hat.txt"]


def test_the_objects_as_detections_have_a_perfect_score(data, tmp_path):
    from fd_keras.training.voc import dataset as voc

    images = voc.open_split(str(data / "VOCdevkit" / "VOC2007"), "val")
    truth = [(i.id, Detections(i.boxes, np.ones(len(i.boxes), "float32"), i.labels)) for i in images]
    detections.write(str(tmp_path), "val", voc.CLASSES, truth)
    found = detections.read(str(tmp_path), "val", voc.CLASSES, [image.id for image in images])
    evaluator = metric.VocMetric(voc.CLASSES)
    for image in images:
        evaluator.process(image, found[image.id])
    result = evaluator.evaluate()
    assert not result.empty
    assert [c.ap11 for c in result.classes] == [1] * 20
    assert result.map_area == 1
    assert sum(c.objects for c in result.classes) == 546
