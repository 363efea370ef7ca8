import json
import logging
import os
import shutil

import pytest
from PIL import Image

from fd_keras.training import data_sets, input_pipeline, recipes, shards
from fd_keras.training.sources import Share


def _items(photos):
    return photos.map(lambda item: item)


# Data that cannot be trained on.


def test_a_missing_folder_is_named(tmp_path):
    for kind in ("folder:", ""):
        with pytest.raises(FileNotFoundError, match=f"--data={kind}.*nothing: no such folder"):
            data_sets.open_data(f"{kind}{tmp_path / 'nothing'}")


def test_an_empty_folder_is_rejected(tmp_path):
    with pytest.raises(ValueError, match="no class folders"):
        data_sets.open_data(f"folder:{tmp_path}", val_fraction=0.2)


def test_a_class_without_photos_is_named(photos, tmp_path):
    shutil.copytree(photos, tmp_path / "photos")
    (tmp_path / "photos" / "train" / "dark").mkdir()
    with pytest.raises(ValueError, match="dark: no photo"):
        data_sets.open_data(f"folder:{tmp_path / 'photos'}")


def test_a_single_class_is_rejected(photos, tmp_path):
    shutil.copytree(photos / "train" / "blue", tmp_path / "photos" / "blue")
    with pytest.raises(ValueError, match="need at least 2 classes, found blue"):
        data_sets.open_data(f"folder:{tmp_path / 'photos'}", val_fraction=0.2)


def test_without_a_validation_set_the_message_has_a_remedy(photos):
    with pytest.raises(ValueError, match="--val_fraction=0.2"):
        data_sets.open_data(f"folder:{photos / 'train'}")
    held = data_sets.open_data(f"folder:{photos / 'train'}", val_fraction=0.25)
    assert (held["train"].count, held["val"].count) == (36, 12)
    names = [{item.key.numpy() for item in _items(source.ordered(Share()))} for source in held.values()]
    assert len(names[0] | names[1]) == 48


def test_a_slash_at_the_end_of_a_folder_changes_nothing(photos):
    one, other = (data_sets.open_data(f"folder:{photos / 'train'}{end}", val_fraction=0.25)["val"] for end in ("", "/"))
    assert one.content() == other.content()
    assert one.name == other.name


@pytest.mark.parametrize(("train", "val"), [("Train", "Test"), ("train", "valid"), ("training", "validation")])
def test_the_usual_names_of_split_folders_are_recognized(photos, tmp_path, train, val, caplog):
    shutil.copytree(photos / "train", tmp_path / "photos" / train)
    shutil.copytree(photos / "val", tmp_path / "photos" / val)
    (tmp_path / "photos" / "extra").mkdir()
    found = data_sets.open_data(f"folder:{tmp_path / 'photos'}")
    assert (found["train"].count, found["val"].count) == (48, 15)
    assert found["train"].classes == ("amber", "blue", "cyan")
    assert "extra/" in caplog.text
    shutil.rmtree(tmp_path / "photos" / train)
    with pytest.raises(ValueError, match=f"found {val}/ but no train/"):
        data_sets.open_data(f"folder:{tmp_path / 'photos'}", val_fraction=0.25)


def test_an_unprintable_class_is_named(photos, tmp_path):
    shutil.copytree(photos / "train", tmp_path / "photos")
    os.rename(tmp_path / "photos" / "blue", os.fsencode(tmp_path / "photos") + b"/caf\xe9")
    with pytest.raises(ValueError, match=r"the class folder 'caf.*' is not printable text; rename it"):
        data_sets.open_data(f"folder:{tmp_path / 'photos'}", val_fraction=0.25)


def test_rotated_photos_are_counted_in_a_warning(photos, tmp_path, caplog):
    data_sets.open_data(f"folder:{photos}")
    assert not caplog.text
    shutil.copytree(photos, tmp_path / "photos")
    exif = Image.Exif()
    exif[0x0112] = 6
    for path in (tmp_path / "photos" / "val" / "blue").iterdir():
        Image.open(path).save(path, exif=exif)
    data_sets.open_data(f"folder:{tmp_path / 'photos'}")
    assert "5 of 63 examined photos have an EXIF rotation" in caplog.text


def test_a_split_without_photos_is_named(prepared, tmp_path):
    shutil.copytree(prepared, tmp_path / "empty")
    index = json.loads((tmp_path / "empty" / "dataset.json").read_text())
    for shard in index["splits"]["val"]:
        shard["count"] = 0
    (tmp_path / "empty" / "dataset.json").write_text(json.dumps(index))
    with pytest.raises(ValueError, match="empty: the split val has no photos; prepare it again"):
        data_sets.open_data(str(tmp_path / "empty"))


def test_a_class_missing_in_training_is_named(photos, tmp_path):
    shutil.copytree(photos, tmp_path / "photos")
    (tmp_path / "photos" / "val" / "cyan").rename(tmp_path / "photos" / "val" / "violet")
    with pytest.raises(ValueError, match="class 'violet' is not in"):
        data_sets.open_data(f"folder:{tmp_path / 'photos'}")


def test_shards_that_differ_from_the_index_are_named(prepared, tmp_path):
    folder = tmp_path / "shards"
    for damage, message in (("gone", "listed in dataset.json but missing"), ("short", "its size differs")):
        shutil.copytree(prepared, folder)
        shard = next(iter(folder.glob("train-*.tfrecord")))
        shard.unlink() if damage == "gone" else shard.write_bytes(shard.read_bytes()[:-1])
        with pytest.raises(ValueError, match=message):
            data_sets.open_data(str(folder))
        shutil.rmtree(folder)
    shutil.copytree(prepared, folder)
    index = json.loads((folder / shards.INDEX).read_text())
    (folder / shards.INDEX).write_text(json.dumps(index | {"classes": ["amber", "blue"]}))
    with pytest.raises(ValueError, match="label 2 in train is out of range for 2 classes"):
        data_sets.open_data(str(folder))


def test_an_unknown_kind_of_data_is_rejected(tmp_path):
    with pytest.raises(ValueError, match="folder:DIR for class folders"):
        data_sets.open_data(str(tmp_path))


# Photos as people have them.


def test_photos_of_all_formats_in_subfolders_are_found(photos, tmp_path, caplog):
    shutil.copytree(photos, tmp_path / "photos")
    blue = tmp_path / "photos" / "train" / "blue"
    (blue / "more" / "still").mkdir(parents=True)
    with Image.open(blue / "blue_000.jpg") as image:
        for name in ("a.webp", "more/b.tif", "more/still/c.png", "d.bmp"):
            image.save(blue / name)
    odd = os.fsdecode("caf\udce9.jpg".encode("utf-8", "surrogateescape"))  # Latin-1, as from an old archive
    shutil.copy(blue / "blue_000.jpg", blue / odd)
    for name in ("._a.webp", ".DS_Store", "notes.txt", "../__MACOSX/blue/._blue_000.jpg", "../stray.jpg"):
        (blue / name).parent.mkdir(parents=True, exist_ok=True)
        (blue / name).write_bytes(b"no photo")
    with caplog.at_level(logging.WARNING):
        train = data_sets.open_data(f"folder:{tmp_path / 'photos'}")["train"]
    assert train.count == 48 + 5
    (line,) = caplog.messages
    assert "hidden or system files: 3 (__MACOSX/, blue/.DS_Store, blue/._a.webp)" in line
    assert "not photos: 1 (blue/notes.txt)" in line
    assert "outside the class folders: 1 (stray.jpg)" in line
    items = {os.path.basename(item.key.numpy()): item for item in _items(train.ordered(Share()))}
    assert {int(items[name].label) for name in (b"a.webp", b"b.tif", b"c.png", b"d.bmp", b"caf\xe9.jpg")} == {1}
    recipe = recipes.PAPER.override(image_size=32, batch_size=53)
    ((_, _, weights),) = input_pipeline.training_batches(train, recipe, 0, 0, input_pipeline.Feed(careful=True))
    assert (weights.numpy() == 1).all()
