import os

import pytest
from PIL import Image

from fd_keras.training.finetune.photo_folder import open_folder
from fd_keras.training.finetune.preparation import prepare
from tests.training.finetune.test_inspection import picture

ORIENTATION = 0x0112


def write(root, side: str = "", counts=(6, 6), seed: int = 0) -> None:
    """Writes different images, `counts` of them for the classes a, b, ..."""
    for label, count in enumerate(counts):
        (root / side / "abc"[label]).mkdir(parents=True, exist_ok=True)
        for n in range(count):
            picture(1000 * seed + 100 * label + n).save(root / side / "abc"[label] / f"{n}.jpg")


def prepared(root, size: int = 64, fraction: float = 0.2, said: list | None = None):
    said = [] if said is None else said
    return prepare(open_folder(str(root)), size, fraction, str(root.parent / "mine"), said.append)


def names(side) -> set[str]:
    return {f"{os.path.basename(os.path.dirname(path))}/{os.path.basename(path)}" for path, _ in side}


@pytest.fixture
def root(tmp_path):
    return tmp_path / "photos"


def test_a_share_of_every_class_is_held_out(root):
    write(root, counts=(5, 10, 15))
    said = []
    found = prepared(root, said=said)
    assert said == ["inspecting 30 photos of 3 classes"]
    assert [sum(label == wanted for _, label in found.split.held_out) for wanted in range(3)] == [1, 2, 3]
    assert len(names(found.split.train) | names(found.split.held_out)) == 30
    assert (found.given, found.split.classes, found.split.refit) == (False, ("a", "b", "c"), False)
    assert found.originals == {path: path for path, _ in (*found.split.train, *found.split.held_out)}


def test_a_folder_without_a_photo_that_can_be_decoded_is_rejected(root):
    for name in "ab":
        (root / name).mkdir(parents=True)
        (root / name / "broken.jpg").write_bytes(b"not a photo")
    with pytest.raises(ValueError, match=rf"{root}: no photo can be decoded; .* a/broken\.jpg, b/broken\.jpg"):
        prepared(root)


def test_unusual_photos_are_noted_and_broken_ones_skipped(root):
    write(root, counts=(4, 13))
    (root / "a" / "bro\nken.jpg").write_bytes(b"\xff\xd8 not a photo")
    picture(50).resize((20, 15)).save(root / "a" / "tiny.jpg")
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    picture(51).save(root / "b" / "lying.jpg", exif=exif)
    picture(100).save(root / "b" / "again.png")  # as b/0.jpg
    picture(1).save(root / "b" / "wrong.png")  # as a/1.jpg
    found = prepared(root)
    notes = "\n".join(found.notes)
    assert "Skipped photos that cannot be decoded: 1 (a/bro\\nken.jpg)." in notes
    assert "Photos smaller than half of the network's 64 pixels: 1 (a/tiny.jpg); they are used, but" in notes
    assert "Photos stored rotated or mirrored: 1 (b/lying.jpg); upright copies are used." in notes
    assert "Duplicates of other photos: 2, such as" in notes
    assert "Duplicates in several classes: 1, such as a/1.jpg, b/wrong.png;" in notes
    assert "Classes are uneven: 16 photos of b, 5 of a." in notes
    everything = (*found.split.train, *found.split.held_out)
    assert len(everything) == 21
    assert not any("ken.jpg" in path for path, _ in everything)
    (copy,) = (path for path, _ in everything if path.startswith(str(root.parent / "mine")))
    assert found.originals[copy] == str(root / "b" / "lying.jpg")
    sides = [names(side) for side in (found.split.train, found.split.held_out)]
    assert any({"b/0.jpg", "b/again.png"} <= side for side in sides)
    assert {"a/1.jpg", "b/wrong.png"} <= sides[0]


def test_an_ordinary_folder_has_no_notes(root):
    write(root)
    assert prepared(root).notes == ()


def test_a_given_split_is_kept_and_duplicates_of_held_out_photos_are_skipped(root):
    write(root, "train")
    write(root, "val", counts=(2, 2), seed=1)
    picture(1000).save(root / "train" / "a" / "leak.png")  # as val/a/0.jpg
    found = prepared(root)
    assert found.given
    assert (len(found.split.train), len(found.split.held_out)) == (12, 4)
    assert all(f"{root}/val/" in path for path, _ in found.split.held_out)
    expected = "Skipped training photos that duplicate held-out ones: 1 (train/a/leak.png)."
    assert found.notes[-1] == expected


def test_two_classes_of_two_photos_are_enough(root):
    write(root, counts=(2, 2))
    found = prepared(root)
    assert [label for _, label in found.split.train] == [label for _, label in found.split.held_out] == [0, 1]


def test_a_class_with_too_few_photos_is_rejected(root):
    write(root, counts=(6, 1))
    (root / "b" / "broken.jpg").write_bytes(b"nothing")
    with pytest.raises(ValueError, match="class 'b' has 1 usable training photos; add photos .at least 2"):
        prepared(root)


def test_a_class_of_duplicates_is_trained_on_and_named(root):
    write(root, counts=(6, 0))
    for n in range(4):
        picture(100).save(root / "b" / f"{n}.jpg", quality=70 + 5 * n)
    found = prepared(root)
    assert {label for _, label in found.split.held_out} == {0}
    assert "Classes without held-out photos, which are not measured: b." in found.notes


def test_photos_that_are_all_duplicates_are_rejected(root):
    for name, seed in (("a", 1), ("b", 2)):
        (root / name).mkdir(parents=True)
        for n in range(3):
            picture(seed).save(root / name / f"{n}.png")
    with pytest.raises(ValueError, match="no photo can be held out; each class needs at least two different photos"):
        prepared(root)


def test_held_out_photos_that_contain_all_training_photos_of_a_class_are_rejected(root):
    write(root, "train", counts=(3, 6))
    write(root, "val", counts=(4, 2))
    with pytest.raises(ValueError, match="all 3 training photos of 'a' are also in val/; remove them from one of"):
        prepared(root)


def test_broken_held_out_photos_are_rejected(root):
    write(root, "train")
    (root / "val" / "a").mkdir(parents=True)
    (root / "val" / "a" / "x.jpg").write_bytes(b"nothing")
    with pytest.raises(ValueError, match=rf"{root}/val: no photo can be decoded; .* val/a/x\.jpg"):
        prepared(root)
