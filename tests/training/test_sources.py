import json
import logging
import os
import pathlib
import shutil

import pytest
from PIL import Image

from fd_keras.training import input_pipeline, recipes, shards, sources
from fd_keras.training.sources import Share
from tests.training.conftest import prepare


def _items(photos):
    return photos.map(lambda item: item)


def _keys(photos):
    return [
        (os.path.basename(item.key.numpy().decode()), int(item.label), int(item.position)) for item in _items(photos)
    ]


def test_all_sources_yield_the_same_photos(splits, photos):
    listed = {path.name: index for index, name in enumerate(("amber", "blue", "cyan"))
              for path in (photos / "train" / name).iterdir()}  # fmt: skip
    train, val = splits["train"], splits["val"]
    assert train.classes == ("amber", "blue", "cyan")
    items = _keys(train.shuffled(0, 0, 0, Share()))
    assert len(items) == train.count
    assert len({name for name, _, _ in items}) == train.count
    assert all(listed[name] == label for name, label, _ in items)
    assert 45 <= train.count <= 48  # 9 photos from each of five shards of 9 or 10
    assert [position for *_, position in items] == list(range(train.count))
    assert len(_keys(val.ordered(Share()))) == 15
    first = next(iter(_items(train.shuffled(0, 0, 0, Share()))))
    path = next((photos / "train").glob(f"*/{os.path.basename(first.key.numpy().decode())}"))
    assert first.data.numpy() == path.read_bytes()


def test_order_depends_only_on_seed_and_epoch(splits):
    train = splits["train"]
    first = _keys(train.shuffled(3, 1, 0, Share()))
    assert first == _keys(train.shuffled(3, 1, 0, Share()))
    assert [name for name, *_ in first] != sorted(name for name, *_ in first)
    for seed, epoch in ((3, 2), (4, 1)):
        assert [name for name, *_ in first] != [name for name, *_ in _keys(train.shuffled(seed, epoch, 0, Share()))]


@pytest.mark.parametrize("start", [8, 24, 40])
def test_reading_can_start_at_any_position(splits, start):
    train = splits["train"]
    assert _keys(train.shuffled(3, 1, start, Share())) == _keys(train.shuffled(3, 1, 0, Share()))[start:]


@pytest.mark.parametrize("count", [2, 4])
def test_processes_share_each_batch(splits, count):
    train = splits["train"]
    whole = _keys(train.shuffled(3, 1, 16, Share()))
    parts = [_keys(train.shuffled(3, 1, 16, Share(index, count))) for index in range(count)]
    assert sorted(sum(parts, []), key=lambda item: item[2]) == whole
    assert all(part == [item for item in whole if item[2] % count == index] for index, part in enumerate(parts))


def test_windows_of_many_shards_can_be_resumed_and_shared(photos, tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "WINDOW", 4)
    prepare(photos, tmp_path, count=10)  # two full windows and a partial one of two shards
    train = sources.open_data(str(tmp_path))["train"]
    assert train.count == 40
    whole = _keys(train.shuffled(0, 0, 0, Share()))
    assert len({name for name, *_ in whole}) == 40
    for start in (4, 16, 20, 32, 36):
        assert _keys(train.shuffled(0, 0, start, Share())) == whole[start:]
        part = _keys(train.shuffled(0, 0, start, Share(1, 2)))
        assert part == [item for item in whole[start:] if item[2] % 2 == 1]


# Data that cannot be trained on.


def test_a_missing_folder_is_named(tmp_path):
    for kind in ("folder:", ""):
        with pytest.raises(FileNotFoundError, match=f"--data={kind}.*nothing: no such folder"):
            sources.open_data(f"{kind}{tmp_path / 'nothing'}")


def test_an_empty_folder_is_rejected(tmp_path):
    with pytest.raises(ValueError, match="no class folders"):
        sources.open_data(f"folder:{tmp_path}", val_fraction=0.2)


def test_a_class_without_photos_is_named(photos, tmp_path):
    shutil.copytree(photos, tmp_path / "photos")
    (tmp_path / "photos" / "train" / "dark").mkdir()
    with pytest.raises(ValueError, match="dark: no photo"):
        sources.open_data(f"folder:{tmp_path / 'photos'}")


def test_a_single_class_is_rejected(photos, tmp_path):
    shutil.copytree(photos / "train" / "blue", tmp_path / "photos" / "blue")
    with pytest.raises(ValueError, match="need at least 2 classes, found blue"):
        sources.open_data(f"folder:{tmp_path / 'photos'}", val_fraction=0.2)


def test_without_a_validation_set_the_message_has_a_remedy(photos):
    with pytest.raises(ValueError, match="--val_fraction=0.2"):
        sources.open_data(f"folder:{photos / 'train'}")
    held = sources.open_data(f"folder:{photos / 'train'}", val_fraction=0.25)
    assert (held["train"].count, held["val"].count) == (36, 12)
    names = [{name for name, *_ in _keys(held[split].ordered(Share()))} for split in sources.SPLITS]
    assert not names[0] & names[1]


def test_a_slash_at_the_end_of_a_folder_changes_nothing(photos):
    one, other = (sources.open_data(f"folder:{photos / 'train'}{end}", val_fraction=0.25)["val"] for end in ("", "/"))
    assert one.content() == other.content()
    assert one.name == other.name


@pytest.mark.parametrize(("train", "val"), [("Train", "Test"), ("train", "valid"), ("training", "validation")])
def test_the_usual_names_of_split_folders_are_recognized(photos, tmp_path, train, val, caplog):
    shutil.copytree(photos / "train", tmp_path / "photos" / train)
    shutil.copytree(photos / "val", tmp_path / "photos" / val)
    (tmp_path / "photos" / "extra").mkdir()
    found = sources.open_data(f"folder:{tmp_path / 'photos'}")
    assert (found["train"].count, found["val"].count) == (48, 15)
    assert found["train"].classes == ("amber", "blue", "cyan")
    assert "extra/" in caplog.text
    shutil.rmtree(tmp_path / "photos" / train)
    with pytest.raises(ValueError, match=f"found {val}/ but no train/"):
        sources.open_data(f"folder:{tmp_path / 'photos'}", val_fraction=0.25)


def test_an_unprintable_class_is_named(photos, tmp_path):
    shutil.copytree(photos / "train", tmp_path / "photos")
    os.rename(tmp_path / "photos" / "blue", os.fsencode(tmp_path / "photos") + b"/caf\xe9")
    with pytest.raises(ValueError, match=r"the class folder 'caf.*' is not printable text; rename it"):
        sources.open_data(f"folder:{tmp_path / 'photos'}", val_fraction=0.25)


def test_rotated_photos_are_counted_in_a_warning(photos, tmp_path, caplog):
    sources.open_data(f"folder:{photos}")
    assert not caplog.text
    shutil.copytree(photos, tmp_path / "photos")
    exif = Image.Exif()
    exif[0x0112] = 6
    for path in (tmp_path / "photos" / "val" / "blue").iterdir():
        Image.open(path).save(path, exif=exif)
    sources.open_data(f"folder:{tmp_path / 'photos'}")
    assert "5 of 63 examined photos have an EXIF rotation" in caplog.text


def test_a_split_without_photos_is_named(prepared, tmp_path):
    shutil.copytree(prepared, tmp_path / "empty")
    index = json.loads((tmp_path / "empty" / "dataset.json").read_text())
    for shard in index["splits"]["val"]:
        shard["count"] = 0
    (tmp_path / "empty" / "dataset.json").write_text(json.dumps(index))
    with pytest.raises(ValueError, match="empty: the split val has no photos; prepare it again"):
        sources.open_data(str(tmp_path / "empty"))


def test_a_class_missing_in_training_is_named(photos, tmp_path):
    shutil.copytree(photos, tmp_path / "photos")
    (tmp_path / "photos" / "val" / "cyan").rename(tmp_path / "photos" / "val" / "violet")
    with pytest.raises(ValueError, match="class 'violet' is not in"):
        sources.open_data(f"folder:{tmp_path / 'photos'}")


def test_shards_that_differ_from_the_index_are_named(prepared, tmp_path):
    folder = tmp_path / "shards"
    for damage, message in (("gone", "listed in dataset.json but missing"), ("short", "its size differs")):
        shutil.copytree(prepared, folder)
        shard = next(iter(folder.glob("train-*.tfrecord")))
        shard.unlink() if damage == "gone" else shard.write_bytes(shard.read_bytes()[:-1])
        with pytest.raises(ValueError, match=message):
            sources.open_data(str(folder))
        shutil.rmtree(folder)
    shutil.copytree(prepared, folder)
    index = json.loads((folder / shards.INDEX).read_text())
    (folder / shards.INDEX).write_text(json.dumps(index | {"classes": ["amber", "blue"]}))
    with pytest.raises(ValueError, match="label 2 in train is out of range for 2 classes"):
        sources.open_data(str(folder))


def test_an_unknown_kind_of_data_is_rejected(tmp_path):
    with pytest.raises(ValueError, match="folder:DIR for class folders"):
        sources.open_data(str(tmp_path))


# What a run's record keeps of the photos.


def test_swapped_photos_are_detected(photos, tmp_path):
    shutil.copytree(photos, tmp_path / "photos")
    before = sources.describe(sources.open_data(f"folder:{tmp_path / 'photos'}")["train"])
    assert before["photos"] == 48
    first, second = sorted((tmp_path / "photos" / "train" / "blue").iterdir())[:2]
    one, other = (path.read_bytes().ljust(4000) for path in (first, second))  # equal sizes
    sizes = []
    for contents in ((one, other), (other, one)):
        for path, content in zip((first, second), contents, strict=True):
            path.write_bytes(content)
        sizes.append(sources.describe(sources.open_data(f"folder:{tmp_path / 'photos'}")["train"]))
    assert len({describe["fingerprint"] for describe in (before, *sizes)}) == 1
    assert before["sizes"] != sizes[0]["sizes"] == sizes[1]["sizes"]
    assert sizes[0]["sample"] != sizes[1]["sample"]


def test_a_moved_folder_has_the_same_content(photos, tmp_path):
    shutil.copytree(photos, tmp_path / "moved")
    before, after = (
        sources.describe(sources.open_data(f"folder:{path}")["val"]) for path in (photos, tmp_path / "moved")
    )
    assert {key for key in before if before[key] != after[key]} == {"name", "fingerprint"}


def test_a_fixed_sample_of_a_large_folder_is_compared(tmp_path, monkeypatch):
    paths = [str(tmp_path / f"{index}.jpg") for index in range(8)]
    for path in paths:
        pathlib.Path(path).write_bytes(b"a" * 10)
    hashed = []
    monkeypatch.setattr(sources, "SAMPLE", 25)
    monkeypatch.setattr(sources, "sha256_of", lambda path: hashed.append(path) or "hash")
    assert sources.content_of(paths) == sources.content_of(paths)
    assert len(set(hashed)) == 3
    assert sorted(hashed[:3]) == sorted(hashed[3:])


def test_shards_are_identified_by_their_hashes(prepared, tmp_path):
    shutil.copytree(prepared, tmp_path / "shards")
    before = sources.describe(sources.open_data(str(tmp_path / "shards"))["train"])
    path = tmp_path / "shards" / shards.INDEX
    index = json.loads(path.read_text())
    index["splits"]["train"][2]["sha256"] = "0" * 64
    path.write_text(json.dumps(index))
    after = sources.describe(sources.open_data(str(tmp_path / "shards"))["train"])
    assert {key for key in before if before[key] != after[key]} == {"sha256"}
    for shard in index["splits"]["train"]:  # as earlier versions wrote it
        del shard["sha256"]
    path.write_text(json.dumps(index))
    older = sources.describe(sources.open_data(str(tmp_path / "shards"))["train"])
    assert older == {key: value for key, value in before.items() if key != "sha256"}


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
        train = sources.open_data(f"folder:{tmp_path / 'photos'}")["train"]
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


def test_photos_are_counted_by_class(photos, prepared, tmp_path):
    shutil.copytree(photos / "train", tmp_path / "photos")
    os.unlink(tmp_path / "photos" / "blue" / "blue_003.jpg")
    split = sources.open_data(f"folder:{tmp_path / 'photos'}", val_fraction=0.25)
    assert [sources.counts_by_class(split[side]) for side in ("train", "val")] == [[12, 11, 12], [4, 4, 4]]
    with pytest.raises(
        ValueError, match="--class_balance only works with --data=folder:DIR; .* does not list its labels"
    ):
        sources.counts_by_class(sources.open_data(str(prepared))["train"])
