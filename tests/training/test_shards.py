import errno
import hashlib
import io
import json
import os
import shutil
import signal
import struct

import pytest
from PIL import Image

from fd_keras import imagenet
from fd_keras.errors import ProgramError
from fd_keras.training import data_sets, shards
from fd_keras.training.sources import Share
from tests.training.conftest import prepare


def test_prepare_repairs_photos_reports_them_and_resumes(photos, tmp_path):
    raw, out = tmp_path / "raw", tmp_path / "out"
    shutil.copytree(photos, raw)
    out.mkdir()
    blue = raw / "train" / "blue"
    with Image.open(blue / "blue_000.jpg") as image:
        image.convert("CMYK").save(blue / "blue_001.jpg")
        image.save(blue / "blue_002.jpg", "PNG")
    (blue / "blue_003.jpg").write_bytes(b"no photo")
    index = prepare(raw, out, count=4)
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
    for item in data_sets.open_data(str(out))["train"].ordered(Share()).map(lambda item: item):
        with Image.open(io.BytesIO(item.data.numpy())) as image:
            assert (image.format, image.mode) == ("JPEG", "RGB")
    before = {name: os.stat(out / name).st_mtime_ns for name in os.listdir(out) if name.endswith(".tfrecord")}
    os.unlink(out / f"{written[1]['file']}.json")  # as after a power failure
    prepare(raw, out, count=4)
    after = {name: os.stat(out / name).st_mtime_ns for name in before}
    assert [name for name in before if before[name] != after[name]] == [written[1]["file"]]


def test_shrunk_photos_have_the_requested_short_side():
    data = io.BytesIO()
    Image.new("RGB", (500, 375), (9, 99, 199)).save(data, "JPEG")
    small, repaired = shards.checked(data.getvalue(), 320)
    with Image.open(io.BytesIO(small)) as image:
        assert image.size == (426, 320)
        assert repaired is None
    assert shards.checked(data.getvalue(), 400) == (data.getvalue(), None)


def test_imagenet_must_be_complete():
    assert "1,281,167" in shards.check_counts("train", [None] * 7, imagenet.wordnet_ids())
    assert shards.check_counts("train", [None] * 7, ["a", "b"]) is None


def _damage(path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("version", ["this", "earlier"])
def test_only_damaged_shards_are_written_again(photos, tmp_path, capsys, version):
    prepare(photos, tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.glob("*.tfrecord")}
    if version == "earlier":  # without hashes
        for path in tmp_path.glob("*.tfrecord.json"):
            facts = json.loads(path.read_text())
            path.write_text(json.dumps({key: facts[key] for key in facts if key not in ("sha256", "sizes")}))
    for name in ("train-00001-of-00005.tfrecord", "train-00003-of-00005.tfrecord"):
        _damage(tmp_path / name)
    assert data_sets.open_data(str(tmp_path))["train"].damaged() == str(tmp_path / "train-00001-of-00005.tfrecord")
    capsys.readouterr()
    index = prepare(photos, tmp_path)
    assert capsys.readouterr().out.splitlines() == [
        "train-00001-of-00005.tfrecord: damaged, writing it again",
        "train-00003-of-00005.tfrecord: damaged, writing it again",
        "3 of 5 shards exist already",
        "2 of 2 shards exist already",
    ]
    assert {path.name: path.read_bytes() for path in tmp_path.glob("*.tfrecord")} == before
    for shard in index["splits"]["train"]:
        assert shard["sha256"] == hashlib.sha256(before[shard["file"]]).hexdigest()
    assert data_sets.open_data(str(tmp_path))["train"].damaged() is None


def test_shards_with_changed_photos_are_written_again(photos, tmp_path, capsys):
    raw, out = tmp_path / "raw", tmp_path / "out"
    shutil.copytree(photos, raw)
    out.mkdir()
    prepare(raw, out)
    photo = raw / "train" / "blue" / "blue_001.jpg"
    shutil.copy(photos / "val" / "blue" / "blue_000.jpg", photo)
    os.utime(photo, (0, 0))  # of another size
    assert "4 of 5 shards" in _output(raw, out, capsys)
    made = os.stat(out / "train-00000-of-00005.tfrecord.json").st_mtime
    os.utime(photo, (made + 60, made + 60))  # newer than the shard
    assert "photos have changed, writing it again\n4 of 5 shards" in _output(raw, out, capsys)


def _output(raw, out, capsys) -> str:
    capsys.readouterr()
    prepare(raw, out)
    return capsys.readouterr().out


def test_a_full_disk_is_named_and_leaves_no_files(photos, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda descriptor: (_ for _ in ()).throw(OSError(errno.ENOSPC, "No space left")))
    with pytest.raises(OSError, match="train-00000-of-00005.tfrecord: cannot be written .*Free disk space"):
        prepare(photos, tmp_path)
    assert os.listdir(tmp_path) == []


def test_a_killed_worker_ends_the_others():
    with pytest.raises(ProgramError, match="worker process was killed.*fewer --workers than 2"):
        list(shards._in_processes(signal.raise_signal, [signal.SIGKILL] * 2, 2))


def test_a_decompression_bomb_only_loses_its_photo(photos, tmp_path):
    raw, out = tmp_path / "raw", tmp_path / "out"
    shutil.copytree(photos, raw)
    out.mkdir()
    header = b"BM" + struct.pack("<IHHI", 54, 0, 0, 54)
    header += struct.pack("<IiiHHIIiiII", 40, 12000, 12000, 1, 24, 0, 0, 0, 0, 0, 0)
    (raw / "train" / "blue" / "bomb.bmp").write_bytes(header)
    written = prepare(raw, out)["splits"]["train"]
    assert sum(shard["count"] for shard in written) == 48
    last = shards.report("train", written)[-1]
    assert "skipped photos that cannot be decoded: 1 (blue/bomb.bmp: not a readable image (12000x12000 pixels" in last
