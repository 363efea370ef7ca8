import hashlib
import io
import json
import os
import shutil
import tarfile

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from fd_keras.training import input_pipeline, recipes, shards, sources
from fd_keras.training.sources import Share

RECIPE = recipes.PAPER.override(image_size=32, batch_size=8, mixup=0.2)


def _prepare(photos, folder, count=5, **options):
    train, classes = shards.list_train(str(photos / "train"))
    index = {"classes": classes, "splits": {}}
    for split, raws in (("train", train), ("val", shards.list_val(str(photos / "val"), None, classes))):
        tasks = shards.plan(split, raws, str(folder), count if split == "train" else 2, options.get("shrink"), seed=0)
        index["splits"][split] = shards.write(tasks, workers=1)
    (folder / sources.INDEX).write_text(json.dumps(index))
    return index


@pytest.fixture(scope="module")
def prepared(photos, tmp_path_factory):
    folder = tmp_path_factory.mktemp("shards")
    _prepare(photos, folder)
    return folder


@pytest.fixture(scope="module")
def tfds_dir(photos, tmp_path_factory):
    """A TFDS classification set of our photos, prepared as any other."""
    tfds = pytest.importorskip("tensorflow_datasets", reason="pip install tensorflow-datasets")

    class TinyPhotos(tfds.core.GeneratorBasedBuilder):
        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            names = ["amber", "blue", "cyan"]
            features = {
                "image": tfds.features.Image(encoding_format="jpeg"),
                "label": tfds.features.ClassLabel(names=names),
                "file_name": tfds.features.Text(),
            }
            return self.dataset_info_from_configs(features=tfds.features.FeaturesDict(features))

        def _split_generators(self, dl_manager):
            return {"train": self._generate_examples("train"), "validation": self._generate_examples("val")}

        def _generate_examples(self, split):
            for path in sorted((photos / split).glob("*/*.jpg")):
                yield path.name, {"image": str(path), "label": path.parent.name, "file_name": path.name}

    folder = tmp_path_factory.mktemp("tfds")
    TinyPhotos(data_dir=folder).download_and_prepare()
    return folder


@pytest.fixture(params=["shards", "folder", "tfds"])
def data(request, photos):
    if request.param == "tfds":
        return sources.open_data("tfds:tiny_photos", tfds_dir=str(request.getfixturevalue("tfds_dir")))
    return sources.open_data(
        str(request.getfixturevalue("prepared")) if request.param == "shards" else f"folder:{photos}"
    )


def _items(photos):
    return photos.map(lambda item: item)


def _keys(photos):
    return [
        (os.path.basename(item.key.numpy().decode()), int(item.label), int(item.position)) for item in _items(photos)
    ]


def test_every_source_gives_the_same_photos(data, photos):
    listed = {path.name: index for index, name in enumerate(("amber", "blue", "cyan"))
              for path in (photos / "train" / name).iterdir()}  # fmt: skip
    train, val = data["train"], data["val"]
    assert train.classes == ("amber", "blue", "cyan")
    items = _keys(train.shuffled(0, 0, 0, Share()))
    assert len(items) == train.count
    assert len({name for name, _, _ in items}) == train.count
    assert all(listed[name] == label for name, label, _ in items)
    assert 45 <= train.count <= 48  # five shards of 9 or 10 photos give 9 each
    assert [position for *_, position in items] == list(range(train.count))
    assert len(_keys(val.ordered(Share()))) == 15
    first = next(iter(_items(train.shuffled(0, 0, 0, Share()))))
    path = next((photos / "train").glob(f"*/{os.path.basename(first.key.numpy().decode())}"))
    assert first.data.numpy() == path.read_bytes()


def test_order_depends_on_seed_and_epoch_alone(data):
    train = data["train"]
    first = _keys(train.shuffled(3, 1, 0, Share()))
    assert first == _keys(train.shuffled(3, 1, 0, Share()))
    assert [name for name, *_ in first] != sorted(name for name, *_ in first)
    for seed, epoch in ((3, 2), (4, 1)):
        assert [name for name, *_ in first] != [name for name, *_ in _keys(train.shuffled(seed, epoch, 0, Share()))]


@pytest.mark.parametrize("start", [8, 24, 40])
def test_any_position_can_be_started_from(data, start):
    train = data["train"]
    assert _keys(train.shuffled(3, 1, start, Share())) == _keys(train.shuffled(3, 1, 0, Share()))[start:]


@pytest.mark.parametrize("count", [2, 4])
def test_processes_share_every_batch(data, count):
    train = data["train"]
    whole = _keys(train.shuffled(3, 1, 16, Share()))
    parts = [_keys(train.shuffled(3, 1, 16, Share(index, count))) for index in range(count)]
    assert sorted(sum(parts, []), key=lambda item: item[2]) == whole
    assert all(part == [item for item in whole if item[2] % count == index] for index, part in enumerate(parts))


def test_windows_of_many_shards_can_be_started_from_and_shared(photos, tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "WINDOW", 4)
    _prepare(photos, tmp_path, count=10)  # two full windows and one of two shards
    train = sources.open_data(str(tmp_path))["train"]
    assert train.count == 40
    whole = _keys(train.shuffled(0, 0, 0, Share()))
    assert len({name for name, *_ in whole}) == 40
    for start in (4, 16, 20, 32, 36):
        assert _keys(train.shuffled(0, 0, start, Share())) == whole[start:]
        part = _keys(train.shuffled(0, 0, start, Share(1, 2)))
        assert part == [item for item in whole[start:] if item[2] % 2 == 1]


def _batches(source, step, feed=None, recipe=RECIPE):
    return list(
        input_pipeline.training_batches(source, recipe, 5, step, feed or input_pipeline.Feed()).as_numpy_iterator()
    )


def _digest(batch):
    return hashlib.sha256(b"".join(np.ascontiguousarray(array).tobytes() for array in tf.nest.flatten(batch))).digest()


def test_batches_are_a_pure_function_of_seed_and_step(data):
    train = data["train"]
    steps = train.count // 8
    whole = [_digest(batch) for batch in _batches(train, 0)]
    assert len(set(whole)) == steps
    assert [_digest(batch) for batch in _batches(train, 2, input_pipeline.Feed(threads=1))] == whole[2:]
    assert [_digest(batch) for batch in _batches(train, 2, input_pipeline.Feed(careful=True))] == whole[2:]
    following = _batches(train, steps + 1)
    assert len(following) == steps - 1
    assert _digest(following[0]) not in whole


@pytest.mark.parametrize("count", [2, 4])
def test_processes_parts_are_the_batch_of_one(data, count):
    """With its crops and mirrors, whatever number of photos a call decodes."""
    whole, *parts = (
        [(inputs_["image"], inputs_["flip"], labels) for inputs_, labels, _ in _batches(data["train"], 0, feed)]
        for feed in (input_pipeline.Feed(), *(input_pipeline.Feed(Share(index, count)) for index in range(count)))
    )
    assert len(whole) == len(parts[0]) > 1
    for batch, *shares in zip(whole, *parts, strict=True):
        for index, share in enumerate(shares):
            assert all(np.array_equal(all_of[index::count], mine) for all_of, mine in zip(batch, share, strict=True))


def test_batches_are_uint8_and_carry_the_random_numbers(data):
    x, y, weight = _batches(data["train"], 0)[0]
    assert x["image"].shape == (8, 32, 32, 3)
    assert x["image"].dtype == np.uint8
    assert set(x) == {"image", "flip", "own", "box"}
    assert x["flip"].dtype == "uint8"
    assert y.dtype == np.int64
    assert (weight == 1).all()


def test_evaluation_sees_every_photo_once(data):
    batches = list(input_pipeline.evaluation_batches(data["val"], 32, 4, input_pipeline.Feed()).as_numpy_iterator())
    assert [len(labels) for _, labels, _ in batches] == [4] * 4
    weights = np.concatenate([weights for *_, weights in batches])
    labels = np.concatenate([labels for _, labels, _ in batches])
    assert weights.sum() == 15
    assert np.bincount(labels[weights > 0]).tolist() == [5, 5, 5]
    shares = [
        np.concatenate(
            [w for *_, w in input_pipeline.evaluation_batches(data["val"], 32, 4, input_pipeline.Feed(Share(i, 2)))]
        )
        for i in range(2)
    ]
    assert sum(share.sum() for share in shares) == 15
    assert len(shares[0]) == len(shares[1]) == 8


# Shards.


def test_prepare_repairs_reports_and_goes_on(photos, tmp_path):
    raw, out = tmp_path / "raw", tmp_path / "out"
    shutil.copytree(photos, raw)
    out.mkdir()
    blue = raw / "train" / "blue"
    with Image.open(blue / "blue_000.jpg") as image:
        image.convert("CMYK").save(blue / "blue_001.jpg")
        image.save(blue / "blue_002.jpg", "PNG")
    (blue / "blue_003.jpg").write_bytes(b"no photo")
    index = _prepare(raw, out, count=4)
    written = index["splits"]["train"]
    repaired = {key: kind for shard in written for key, kind in shard["repaired"].items()}
    assert repaired == {"blue/blue_001.jpg": "CMYK", "blue/blue_002.jpg": "PNG"}
    assert [key for shard in written for key in shard["bad"]] == ["blue/blue_003.jpg"]
    assert sum(shard["count"] for shard in written) == 47
    report = "\n".join(shards.report("train", written))
    assert "47 photos in 4 shards" in report
    assert "1 CMYK (blue/blue_001.jpg)" in report
    assert "blue_003.jpg" in report
    assert not [name for name in os.listdir(out) if name.startswith(".")]
    for item in _items(sources.open_data(str(out))["train"].ordered(Share())):
        with Image.open(io.BytesIO(item.data.numpy())) as image:
            assert (image.format, image.mode) == ("JPEG", "RGB")
    before = {name: os.stat(out / name).st_mtime_ns for name in os.listdir(out) if name.endswith(".tfrecord")}
    os.unlink(out / f"{written[1]['file']}.json")  # as if the power had failed here
    _prepare(raw, out, count=4)
    after = {name: os.stat(out / name).st_mtime_ns for name in before}
    assert [name for name in before if before[name] != after[name]] == [written[1]["file"]]


def test_prepare_reads_imagenets_tars(photos, tmp_path):
    with tarfile.open(tmp_path / "train.tar", "w") as outer:
        for name in ("amber", "blue", "cyan"):
            inner = tmp_path / f"{name}.tar"
            with tarfile.open(inner, "w") as tar:
                for path in sorted((photos / "train" / name).iterdir()):
                    tar.add(path, path.name)
            outer.add(inner, inner.name)
    with tarfile.open(tmp_path / "val.tar", "w") as tar:
        for path in sorted((photos / "val").glob("*/*.jpg")):
            tar.add(path, path.name)
    lines = [f"{path.name} {path.parent.name}" for path in (photos / "val").glob("*/*.jpg")]
    (tmp_path / "val.txt").write_text("\n".join(lines))
    found, classes = shards.list_train(str(tmp_path / "train.tar"))
    expected, same = shards.list_train(str(photos / "train"))
    assert classes == same
    assert {(raw.key, raw.label, raw.read()) for raw in found} == {(raw.key, raw.label, raw.read()) for raw in expected}
    val = shards.list_val(str(tmp_path / "val.tar"), str(tmp_path / "val.txt"), classes)
    assert [classes[raw.label] for raw in val] == [raw.key.split("_")[0] for raw in val]
    (tmp_path / "val.txt").write_text("amber_000.jpg 7\n")
    with pytest.raises(ValueError, match="val.txt, line 1.*0 to 2"):
        shards.list_val(str(tmp_path / "val.tar"), str(tmp_path / "val.txt"), classes)
    with pytest.raises(ValueError, match="needs --val_labels"):
        shards.list_val(str(tmp_path / "val.tar"), None, classes)


def test_shrunk_photos_have_the_short_side_asked_for():
    data = io.BytesIO()
    Image.new("RGB", (500, 375), (9, 99, 199)).save(data, "JPEG")
    small, repaired = shards.checked(data.getvalue(), 320)
    with Image.open(io.BytesIO(small)) as image:
        assert image.size == (426, 320)
        assert repaired is None
    assert shards.checked(data.getvalue(), 400) == (data.getvalue(), None)


def test_imagenet_has_to_be_complete():
    from fd_keras import imagenet

    classes = [line[0] for line in imagenet._classes()]
    assert "1,281,167" in shards.check_counts("train", [None] * 7, classes)
    assert shards.check_counts("train", [None] * 7, ["a", "b"]) is None


# Data that cannot be trained on.


def test_missing_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such folder"):
        sources.open_data(f"folder:{tmp_path / 'nothing'}")


def test_empty_folder(tmp_path):
    with pytest.raises(ValueError, match="no class folders"):
        sources.open_data(f"folder:{tmp_path}", val_fraction=0.2)


def test_class_without_photos(photos, tmp_path):
    shutil.copytree(photos, tmp_path / "photos")
    (tmp_path / "photos" / "train" / "dark").mkdir()
    with pytest.raises(ValueError, match="dark: no photo"):
        sources.open_data(f"folder:{tmp_path / 'photos'}")


def test_one_class(photos, tmp_path):
    shutil.copytree(photos / "train" / "blue", tmp_path / "photos" / "blue")
    with pytest.raises(ValueError, match=r"one class \(blue\)"):
        sources.open_data(f"folder:{tmp_path / 'photos'}", val_fraction=0.2)


def test_no_validation_set_names_the_way_out(photos):
    with pytest.raises(ValueError, match="--val_fraction=0.2"):
        sources.open_data(f"folder:{photos / 'train'}")
    held = sources.open_data(f"folder:{photos / 'train'}", val_fraction=0.25)
    assert (held["train"].count, held["val"].count) == (36, 12)
    names = [{name for name, *_ in _keys(held[split].ordered(Share()))} for split in sources.SPLITS]
    assert not names[0] & names[1]


def test_class_that_training_lacks(photos, tmp_path):
    shutil.copytree(photos, tmp_path / "photos")
    (tmp_path / "photos" / "val" / "cyan").rename(tmp_path / "photos" / "val" / "violet")
    with pytest.raises(ValueError, match="class 'violet' is not among"):
        sources.open_data(f"folder:{tmp_path / 'photos'}")


def test_shards_that_are_not_what_the_index_says(prepared, tmp_path):
    folder = tmp_path / "shards"
    for damage, message in (("gone", "listed in dataset.json but not there"), ("short", "not of the size")):
        shutil.copytree(prepared, folder)
        shard = next(iter(folder.glob("train-*.tfrecord")))
        shard.unlink() if damage == "gone" else shard.write_bytes(shard.read_bytes()[:-1])
        with pytest.raises(ValueError, match=message):
            sources.open_data(str(folder))
        shutil.rmtree(folder)
    shutil.copytree(prepared, folder)
    index = json.loads((folder / sources.INDEX).read_text())
    (folder / sources.INDEX).write_text(json.dumps(index | {"classes": ["amber", "blue"]}))
    with pytest.raises(ValueError, match="label 2 in train is out of range for 2 classes"):
        sources.open_data(str(folder))


def test_unknown_kind(tmp_path):
    with pytest.raises(ValueError, match="folder:DIR for class folders"):
        sources.open_data(str(tmp_path))


def test_batch_larger_than_the_set(photos):
    with pytest.raises(ValueError, match="48 photos do not fill a batch of 64"):
        input_pipeline.steps_per_epoch(sources.open_data(f"folder:{photos}")["train"], 64)
