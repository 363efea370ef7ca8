"""Photos with and without persons, and the table of results."""

import numpy as np
import pytest
from PIL import Image

from benchmarks import wake_word
from fd_keras.training.voc.annotation import Annotation
from fd_keras.training.voc.devkit import CLASSES

OBJECT = """<object><name>{}</name><difficult>{}</difficult><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>{}</xmax>
<ymax>{}</ymax></bndbox></object>"""


def photo(*things: tuple[str, int, bool]) -> Annotation:
    """A photo of 100x100 pixels with square objects: (class, side, difficult)."""
    boxes = np.array([[0, 0, side - 1, side - 1] for _, side, _ in things], "float32").reshape(-1, 4)
    labels = np.array([CLASSES.index(name) for name, *_ in things], int)
    return Annotation("1", "1.jpg", 100, 100, boxes, labels, np.array([difficult for *_, difficult in things], bool))


@pytest.mark.parametrize(
    ("things", "label"),
    [
        ((), 0),
        ((("dog", 90, False),), 0),
        ((("person", 8, False),), 1),  # 64 of 10,000 pixels
        ((("person", 7, False),), None),  # 49
        ((("person", 50, True),), None),
        ((("person", 50, True), ("person", 8, False)), 1),
        ((("person", 7, False), ("dog", 50, False)), None),
    ],
)
def test_labels_are_those_of_visual_wake_words(things, label):
    assert wake_word.label_of(photo(*things)) == label


def test_photos_are_linked_into_class_folders(tmp_path):
    voc = tmp_path / "VOC2007"
    for folder in ("Annotations", "ImageSets/Main", "JPEGImages"):
        (voc / folder).mkdir(parents=True)
    for side, names in {"train": ["01", "02"], "val": ["03"]}.items():
        (voc / f"ImageSets/Main/{side}.txt").write_text("\n".join(names))
    for name, thing in {"01": ("person", 0, 50, 50), "02": ("cat", 0, 50, 50), "03": ("person", 1, 50, 50)}.items():
        Image.new("RGB", (64, 64)).save(voc / f"JPEGImages/{name}.jpg")
        size = "<size><width>64</width><height>64</height></size>"
        (voc / f"Annotations/{name}.xml").write_text(f"<annotation>{size}{OBJECT.format(*thing)}</annotation>")
    for _ in range(2):  # the second time, all links exist
        counts = wake_word.lay_out(voc, tmp_path / "out")
        assert counts == {"train": {"person": 1, "no_person": 1}, "val": {"skipped": 1}}
    linked = sorted(str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*.jpg"))
    assert linked == ["train/no_person/02.jpg", "train/person/01.jpg"]
    assert [label for _, label in wake_word.photos_of(tmp_path / "out" / "train")] == [0, 1]


def test_table_has_the_standard_error_and_sizes():
    rows = {
        "a": {"top1": 80.0, "tested": 400},
        "b": {"top1": 50.0, "tested": 100, "ram": 2048, "flash": 1536, "macs": 7e6},
    }
    lines = wake_word.table(rows).split("\n")
    assert lines[2:4] == ["| a | 80.0 +- 2.0 |  |  |  |", "| b | 50.0 +- 5.0 | 2.0 | 1.5 | 7.0 |"]
    assert "80%" in lines[-1]
