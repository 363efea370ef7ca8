import pytest

from fd_keras.training.voc import annotation, dataset


def test_other_classes_can_be_used(devkit, voc_object, tmp_path):
    devkit.add("a", voc_object("forklift", 1, 1, 9, 9), voc_object("hard hat", 1, 1, 9, 9))
    devkit.split("train", "a")
    (tmp_path / "classes.txt").write_text("hard hat\n\nforklift\n")
    classes = dataset.read_classes(str(tmp_path / "classes.txt"))
    assert classes == dataset.read_classes("hard hat, forklift") == ("hard hat", "forklift")
    assert dataset.open_split([str(devkit)], "train", classes)[0].labels.tolist() == [1, 0]


@pytest.mark.parametrize(
    ("text", "message"), [("a,b,a", "a is listed more than once"), (",", "no class"), ("no/such.txt", "no such file")]
)
def test_invalid_class_lists_are_named(text, message):
    with pytest.raises(ValueError, match=f"--classes={text}.*{message}"):
        dataset.read_classes(text)


def test_several_years_are_concatenated(devkit, voc_object, tmp_path):
    other = type(devkit)(tmp_path / "VOC2012")
    for kit, name in ((devkit, "000001"), (other, "2008_000001")):
        kit.add(name, voc_object("cat", 1, 1, 9, 9))
        kit.split("trainval", name)
    both = f"{devkit},{other}"
    assert [image.id for image in dataset.open_split(both, "trainval")] == ["000001", "2008_000001"]
    with pytest.raises(annotation.DataError, match="both have an image '000001'"):
        dataset.open_split([str(devkit), str(devkit)], "trainval")


def test_formats_can_be_mixed(devkit, voc_object, coco, yolo):
    devkit.add("v", voc_object("cat", 1, 1, 9, 9))
    devkit.split("val", "v")
    mixed = f"{coco.path},{devkit},{yolo.path}"
    images = dataset.open_split(mixed, "val", ("dog", "cat", "hard hat"))
    assert [image.id for image in images] == ["a", "sub/b", "v", "images/val/c", "images/val/d"]
    assert [image.labels.tolist() for image in images] == [[1, 0], [], [1], [1, 2], []]


def test_classes_are_from_the_data_by_default(devkit, coco, yolo):
    assert dataset.classes_of(str(devkit)) == dataset.CLASSES
    assert dataset.classes_of(str(coco.path)) == ("dog", "cat")
    assert dataset.classes_of(str(yolo.path)) == ("cat", "hard hat")
    assert dataset.classes_of(f"{coco.path},{yolo.path}", "cat,dog") == ("cat", "dog")
    with pytest.raises(ValueError, match="data.yaml: its classes differ from .*val.json; pass"):
        dataset.classes_of(f"{coco.path},{yolo.path}")
