import json

import pytest

from fd_keras.training.voc import annotation, check_dataset, dataset
from fd_keras.training.voc.coco_json import CocoJson


def test_boxes_include_the_last_pixels_and_crowds_are_difficult(coco):
    a, b = dataset.open_split(str(coco.path), "any", ("dog", "cat"), annotation.TO_EVALUATE)
    assert (a.id, a.path, a.height, a.width) == ("a", str(coco.folder / "a.jpg"), 40, 50)
    assert a.boxes.tolist() == [[1, 2.5, 10, 21.5], [0, 0, 49, 39]]
    assert (a.labels.tolist(), a.difficult.tolist()) == ([1, 0], [False, True])
    assert (b.id, b.path, b.boxes.shape) == ("sub/b", str(coco.folder / "sub" / "b.png"), (0, 4))


@pytest.mark.parametrize("folder", ["annotations", "annotations/images", "annotations/instances_val", "images", "."])
def test_images_are_found_in_all_usual_folders(coco, folder):
    coco.folder.rename(coco.folder.parent / "moved")
    place = coco.folder.parent / folder
    place.mkdir(exist_ok=True)
    for path in (coco.folder.parent / "moved").iterdir():
        path.rename(place / path.name)
    if folder == "annotations/instances_val":
        place.rename(place.parent / "val")
    for image in dataset.open_split(str(coco.path), "val", ("dog", "cat")):
        assert image.path.endswith((".jpg", ".png"))


def test_image_files_are_not_needed_for_scores(coco):
    (coco.folder / "a.jpg").unlink()
    with pytest.raises(annotation.DataError, match="a.jpg: no such image"):
        dataset.open_split(str(coco.path), "val", ("dog", "cat"))
    assert len(dataset.open_split(str(coco.path), "val", ("dog", "cat"), annotation.TO_SCORE_FILES)) == 2


def test_the_file_is_its_own_split_and_can_be_checked(coco, capsys):
    assert CocoJson(str(coco.path)).splits() == ["instances_val"]
    assert check_dataset.main([str(coco.path)]) == 0
    assert "usable as it is" in capsys.readouterr().out


# The place of a value in the file, a wrong value, and how the message goes on after the file's name.
WRONG = {
    "no list": (("images",), {}, ": 'images' is not a list of objects"),
    "no images": (("images",), [], ": no image listed"),
    "no file name": (("images", 0, "file_name"), None, ": images[0] needs an 'id' and a text 'file_name'"),
    "elsewhere": (("images", 1, "file_name"), "../b.png", ": images[1]: 'file_name' is outside the folder: ../b.png"),
    "absolute": (("images", 1, "file_name"), "/b.png", ": images[1]: 'file_name' is outside the folder: /b.png"),
    "same name": (("images", 1, "file_name"), "a.png", ": a is listed more than once"),
    "same id": (("images", 1, "id"), 17, ": two images have the same id"),
    "width": (("images", 1, "width"), "30", ": image 18: 'width' is '30', not a number"),
    "other size": (("images", 0, "width"), 40, ": the size of a is 40x40, but "),
    "category id": (("categories", 0, "id"), "7", ": categories[0] needs a number 'id' and a text 'name'"),
    "same category id": (("categories", 1, "id"), 7, ": categories[1] has the id 7 of"),
    "category": (("annotations", 1, "category_id"), 4, ": annotations[1]: 'category_id' is 4, which the file"),
    "image": (("annotations", 0, "image_id"), [17], ": annotations[0]: 'image_id' is [17], which the file"),
    "box": (("annotations", 0, "bbox"), [1, 2, 3], ": annotations[0]: 'bbox' is [1, 2, 3], not [x, y, width"),
    "number": (("annotations", 0, "bbox"), [1, 2, 3, 1e999], ": annotations[0]: 'bbox' is inf, not a number"),
    "crowd": (("annotations", 0, "iscrowd"), 2, ": annotations[0]: 'iscrowd' is 2, not 0 or 1"),
    "class": (("categories", 0, "name"), "Cat", ": annotations[0] is 'Cat', not one of the 2 classes"),
}


@pytest.mark.parametrize("how", WRONG)
def test_invalid_values_are_named(coco, how):
    (*keys, last), value, message = WRONG[how]
    place = content = json.loads(coco.path.read_text())
    for key in keys:
        place = place[key]
    place[last] = value
    coco.path.write_text(json.dumps(content))
    with pytest.raises(annotation.DataError) as caught:
        dataset.open_split(str(coco.path), "val", ("dog", "cat"))
    assert str(caught.value).startswith(f"{coco.path}{message}")


@pytest.mark.parametrize(
    ("content", "message"), [(b"{", "not valid JSON"), (b"[]", "is a list, not a dict"), (b"[" * 99999, "not valid"),
                         (b"\xff", "not valid JSON")]
)  # fmt: skip
def test_other_files_are_rejected(tmp_path, content, message):
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(annotation.DataError, match=f"a.json: .*{message}"):
        CocoJson(str(tmp_path / "a.json"))
