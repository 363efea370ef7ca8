import sys

import numpy as np
import pytest
from PIL import Image, ImageOps

from fd_keras.training.voc import annotation, check_dataset, dataset, detection_pipeline
from fd_keras.training.voc.detector_recipe import PAPER
from fd_keras.training.voc.yolo_text import YoloText

CLASSES = ("hard hat", "cat")


def label_file(yolo):
    return yolo.path.parent / "labels" / "val" / "c.txt"


def test_boxes_are_in_pixels_and_polygons_become_boxes(yolo):
    c, d = dataset.open_split(str(yolo.path), "val", CLASSES, annotation.TO_EVALUATE)
    assert (c.id, c.path, c.height, c.width) == ("images/val/c", str(yolo.folder / "c.jpg"), 40, 50)
    np.testing.assert_allclose(c.boxes, [[20, 10, 29, 29], [5, 4, 14, 19]], atol=1e-9)
    assert c.labels.tolist() == [1, 0]
    assert (d.id, d.boxes.shape) == ("images/val/d", (0, 4))


@pytest.mark.parametrize(
    "names", ["names: [cat, hard hat]", "names: {0: cat, 1: hard hat}", "names:\n- cat\n- hard hat"]
)
def test_all_forms_of_data_yaml_are_read(yolo, names):
    (yolo.path.parent / "val.txt").write_text("./images/val/c.jpg\n\nimages/val/d.jpg\n")
    root = yolo.path.parent
    yolo.path.write_text(f"path: {root}\nval: val.txt\ntest: [../images/val]\n{names}\n")
    reader = YoloText(str(yolo.path))
    assert reader.classes == ("cat", "hard hat")
    assert reader.splits() == ["val", "test"]
    assert reader.names("val") == reader.names("test") == ["images/val/c", "images/val/d"]
    assert reader.is_annotated("val")


def test_classes_called_no_or_1_keep_their_names(yolo):
    yolo.path.write_text("val: images/val\nnames: [no, 1, 1.0]\n")
    assert YoloText(str(yolo.path)).classes == ("no", "1", "1.0")


def test_labels_are_found_from_the_folder_of_the_data_yaml(yolo, monkeypatch):
    monkeypatch.chdir(yolo.path.parent)
    c, _ = dataset.open_split("data.yaml", "val", CLASSES)
    assert len(c.labels) == 2


@pytest.mark.parametrize("orientation", range(1, 9))
def test_labels_refer_to_the_upright_photo(yolo, orientation):
    """The box of a red square in the rotated photo; the pipeline's pixels are compared with PIL's."""
    upright = Image.new("RGB", (96, 64), "gray")
    upright.paste("red", (12, 8, 36, 24))
    inverse = {6: 8, 8: 6}.get(orientation, orientation)
    exif = Image.Exif()
    exif[0x0112] = inverse
    upright.info["exif"] = exif.tobytes()
    stored = ImageOps.exif_transpose(upright)
    exif[0x0112] = orientation
    stored.save(yolo.folder / "c.jpg", exif=exif, quality=95)
    label_file(yolo).write_text("0 0.25 0.25 0.25 0.25\n")
    c, _ = images = dataset.open_split(str(yolo.path), "val", CLASSES, annotation.TO_EVALUATE)
    assert (c.height, c.width, c.boxes.tolist()) == (64, 96, [[12, 8, 35, 23]])
    assert (c.read().astype("int")[9:23, 13:35] - [254, 0, 0] < 9).all()
    recipe = PAPER.override(flip=0.0, short_side=64, long_side=96)
    (example,) = detection_pipeline.examples(detection_pipeline.Images("val", images), recipe, 0, 0)
    np.testing.assert_array_equal(example.image, c.read())


def test_yolo_data_can_be_checked(yolo, capsys):
    assert check_dataset.main([str(yolo.path), "--split=val"]) == 0
    assert "hard hat" in capsys.readouterr().out
    label_file(yolo).write_text("0 0.5 0.5 2 0.5\n")
    assert check_dataset.main([str(yolo.path), "--split=val"]) == 0
    assert f"1 box {annotation.CLIPPED}:\n  {label_file(yolo)}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("0 0.5 0.5 0.2", "expected a class and x, y, width, height, got 4 numbers"),
        ("0 0.5 0.5 0.2 0.2 0.1", "expected a class and x, y, width, height, got 6 numbers"),
        ("2 0.5 0.5 0.2 0.2", "class '2' is not one of 2 names"),
        ("-1 0.5 0.5 0.2 0.2", "class '-1' is not one of 2 names"),
        ("0 0.5 half 0.2 0.2", "'half' is not a number"),
        ("0 0.5 nan 0.2 0.2", "'nan' is not a number"),
        ("\x1b[2J 0 0 0 0", r"class '\x1b[2J' is not one of"),
    ],
)
def test_invalid_lines_are_named(yolo, line, message):
    label_file(yolo).write_text(f"0 0.5 0.5 0.2 0.5\n{line}\n")
    with pytest.raises(annotation.DataError) as caught:
        dataset.open_split(str(yolo.path), "val", CLASSES)
    assert str(caught.value).startswith(f"{label_file(yolo)}:2: {message}")


def test_data_without_labels_are_reported(yolo, capsys):
    label_file(yolo).unlink()
    assert check_dataset.main([str(yolo.path), "--split=val"]) == 1
    assert "no image of val has an object" in capsys.readouterr().out


BOMB = "\n".join(["a0: &a0 [x]", *(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 20))])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("val: [", "not valid YAML"),
        ("- val", "not a data.yaml"),
        ("val: images/val", "'names' must be a list"),
        ("val: images/val\nnames: {0: cat, 2: dog}", "'names' must be a list"),
        ("val: images/val\nnames: ['', cat]", "'names' has no name for class 0"),
        ("val: images/val\nnames: [cat, cat]", "'names': cat is listed more than once"),
        ("train: images/train\nnames: [cat]", "'val' is missing or not a folder; found train"),
        ("val: images/nowhere\nnames: [cat]", "'val' is images/nowhere, but "),
        ("path: {a: b}\nval: images/val\nnames: [cat]", "'path' is a dict, not a folder"),
        (f"{BOMB}\npath: *a19\nval: *a19\nnames: [cat]", "'path' is a list, not a folder"),
        (f"{BOMB}\nval: *a19\nnames: *a19", "'names' must be a list"),
        ("val: !!python/object/apply:os.getcwd []\nnames: [cat]", "'val' is missing or not a folder; found none"),
    ],
)
def test_invalid_yaml_is_named(yolo, content, message):
    yolo.path.write_text(content)
    with pytest.raises(annotation.DataError) as caught:
        YoloText(str(yolo.path)).names("val")
    assert str(caught.value).startswith(f"{yolo.path}: {message}")


def test_without_pyyaml_the_message_names_the_package(yolo, monkeypatch):
    monkeypatch.setitem(sys.modules, "yaml", None)
    with pytest.raises(annotation.DataError, match="data.yaml: reading it needs PyYAML: pip install pyyaml"):
        YoloText(str(yolo.path))
