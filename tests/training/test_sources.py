import json
import os
import pathlib
import shutil

import pytest

from fd_keras.training import data_sets, shards, sources
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
    train = data_sets.open_data(str(tmp_path))["train"]
    assert train.count == 40
    whole = _keys(train.shuffled(0, 0, 0, Share()))
    assert len({name for name, *_ in whole}) == 40
    for start in (4, 16, 20, 32, 36):
        assert _keys(train.shuffled(0, 0, start, Share())) == whole[start:]
        part = _keys(train.shuffled(0, 0, start, Share(1, 2)))
        assert part == [item for item in whole[start:] if item[2] % 2 == 1]


# What a run's record keeps of the photos.


def test_swapped_photos_are_detected(photos, tmp_path):
    shutil.copytree(photos, tmp_path / "photos")
    before = sources.describe(data_sets.open_data(f"folder:{tmp_path / 'photos'}")["train"])
    assert before["photos"] == 48
    first, second = sorted((tmp_path / "photos" / "train" / "blue").iterdir())[:2]
    one, other = (path.read_bytes().ljust(4000) for path in (first, second))  # equal sizes
    sizes = []
    for contents in ((one, other), (other, one)):
        for path, content in zip((first, second), contents, strict=True):
            path.write_bytes(content)
        sizes.append(sources.describe(data_sets.open_data(f"folder:{tmp_path / 'photos'}")["train"]))
    assert len({describe["fingerprint"] for describe in (before, *sizes)}) == 1
    assert before["sizes"] != sizes[0]["sizes"] == sizes[1]["sizes"]
    assert sizes[0]["sample"] != sizes[1]["sample"]


def test_a_moved_folder_has_the_same_content(photos, tmp_path):
    shutil.copytree(photos, tmp_path / "moved")
    before, after = (
        sources.describe(data_sets.open_data(f"folder:{path}")["val"]) for path in (photos, tmp_path / "moved")
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
    before = sources.describe(data_sets.open_data(str(tmp_path / "shards"))["train"])
    path = tmp_path / "shards" / shards.INDEX
    index = json.loads(path.read_text())
    index["splits"]["train"][2]["sha256"] = "0" * 64
    path.write_text(json.dumps(index))
    after = sources.describe(data_sets.open_data(str(tmp_path / "shards"))["train"])
    assert {key for key in before if before[key] != after[key]} == {"sha256"}
    for shard in index["splits"]["train"]:  # as earlier versions wrote it
        del shard["sha256"]
    path.write_text(json.dumps(index))
    older = sources.describe(data_sets.open_data(str(tmp_path / "shards"))["train"])
    assert older == {key: value for key, value in before.items() if key != "sha256"}


def test_photos_are_counted_by_class(photos, prepared, tmp_path):
    shutil.copytree(photos / "train", tmp_path / "photos")
    os.unlink(tmp_path / "photos" / "blue" / "blue_003.jpg")
    split = data_sets.open_data(f"folder:{tmp_path / 'photos'}", val_fraction=0.25)
    assert [sources.counts_by_class(split[side]) for side in ("train", "val")] == [[12, 11, 12], [4, 4, 4]]
    with pytest.raises(
        ValueError, match="--class_balance only works with --data=folder:DIR; .* does not list its labels"
    ):
        sources.counts_by_class(data_sets.open_data(str(prepared))["train"])
