import os

import pytest

from fd_keras.training.finetune.photo_folder import open_folder


def write(root, *names: str) -> str:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return str(root)


def names_of(photos) -> list[tuple[str, int]]:
    return [(os.path.basename(path), label) for path, label in photos]


def test_class_folders_are_classes(photos):
    found = open_folder(str(photos / "train"))
    assert found.classes == ("amber", "blue", "cyan")
    assert found.held_out is None
    assert len(found.train) == 48
    assert all(os.path.isfile(path) and f"/{found.classes[label]}/" in path for path, label in found.train)
    assert found.notes == ()


@pytest.mark.parametrize("side", ["val", "valid", "Validation", "test"])
def test_train_and_val_folders_are_recognized(tmp_path, side):
    found = open_folder(write(tmp_path, "Train/a/1.jpg", "Train/b/2.jpg", f"{side}/b/3.jpg"))
    assert found.classes == ("a", "b")
    assert names_of(found.train) == [("1.jpg", 0), ("2.jpg", 1)]
    assert names_of(found.held_out) == [("3.jpg", 1)]


def test_a_val_folder_without_train_is_rejected(tmp_path):
    folder = write(tmp_path, "a/1.jpg", "b/2.jpg", "val/a/3.jpg")
    with pytest.raises(ValueError, match=r"found val/ but no train/; sort .* into train/CLASS/, or pass .*/val"):
        open_folder(folder)


def test_a_train_folder_without_val_has_no_held_out_photos(tmp_path):
    found = open_folder(write(tmp_path, "train/a/1.jpg", "train/b/2.jpg"))
    assert (len(found.train), found.held_out) == (2, None)


def test_unused_files_are_noted(tmp_path):
    found = open_folder(
        write(tmp_path, "train/a/1.jpg", "train/b/2.jpg", "train/b/x.txt", "val/a/3.jpg", "test/a/4.jpg")
    )
    assert names_of(found.held_out) == [("3.jpg", 0)]
    assert found.notes == (
        "The photos in test/ were not used; val/ is held out.",
        "Skipped files that are not photos: 1 (b/x.txt).",
    )


@pytest.mark.parametrize("val", [("val/a/3.jpg",), ()])
def test_everything_beside_train_and_val_is_noted(tmp_path, val):
    sides = ("train/a/1.jpg", "train/b/2.jpg", *val)
    beside = ("testing/a/4.jpg", "extra/5.jpg", "loose.jpg", "data.yaml", ".hidden/6.jpg")
    assert open_folder(write(tmp_path, *sides, *beside)).notes == (
        "Skipped files that are not photos: 1 (data.yaml), folders beside the training photos: 2 (extra/, testing/), "
        "photos outside the class folders: 1 (loose.jpg).",
    )


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ((), "contains no class folders"),
        (("a/1.jpg",), r"need at least 2 class folders, found 1 \(a\)\."),
        (("a/1.jpg", "b/x.txt"), "b: no photos in this class folder"),
        (("train/a/1.jpg", "train/b/2.jpg", "val/c\x1b/3.jpg"), r"class 'c\\x1b' is not in .*train"),
        (("a/1.jpg", "two\nlines/1.jpg"), r"the class folder 'two\\nlines' is not printable text; rename it"),
        (("a/1.jpg", "caf\udce9/1.jpg"), r"the class folder 'caf\\udce9' is not printable text"),
    ],
)
def test_unusable_folders_are_rejected(tmp_path, names, message):
    with pytest.raises(ValueError, match=message):
        open_folder(write(tmp_path, *names))


def test_a_missing_folder_is_named(tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match="gone: no such folder. Pass a folder with one subfolder of photos"):
        open_folder(str(tmp_path / "gone"))
    monkeypatch.setenv("HOME", str(tmp_path))
    write(tmp_path, "a/1.jpg", "b/2.jpg")
    assert open_folder("~").root == str(tmp_path)


def test_a_class_may_be_called_train(photos, tmp_path):
    for name, source in zip(("bus", "train", "val"), ("amber", "blue", "cyan"), strict=True):
        (tmp_path / name).symlink_to(photos / "train" / source)
    found = open_folder(str(tmp_path))
    assert found.classes == ("bus", "train", "val")
    assert found.held_out is None
