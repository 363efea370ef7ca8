import json
import random
import re
import shutil
import signal
import time

import pytest

from fd_keras import imagenet
from fd_keras.io import locked
from fd_keras.training import data_sets, shards
from fd_keras.training.sources import Share


@pytest.fixture
def run(programs, tmp_path):
    return lambda *flags: programs.run("fd_keras.training.prepare", [*flags, "--workers=1"], tmp_path)


def test_shards_can_be_used_for_training(run, photos, tmp_path):
    flags = [f"--train={photos}/train", f"--val={photos}/val", f"--output_dir={tmp_path}/out", "--shards=3"]
    result = run(*flags)
    assert result.returncode == 0, result.stderr
    assert re.search(f"^next: .+ train --data={tmp_path}/out --run_dir=run$", result.stdout, re.M)
    index = json.loads((tmp_path / "out" / shards.INDEX).read_text())
    assert index["classes"] == ["amber", "blue", "cyan"]
    assert [shard["count"] for shard in index["splits"]["train"]] == [16, 16, 16]
    assert set(index["splits"]["val"][0]) == set(shards.INDEXED)
    split = data_sets.open_data(str(tmp_path / "out"))["val"]
    assert len(list(split.ordered(Share()).map(lambda photo: photo.label))) == 15
    assert "3 of 3 shards exist already" in run(*flags).stdout


def test_shards_among_the_photos_are_rejected(run, photos):
    result = run(f"--train={photos}/train", f"--val={photos}/val", f"--output_dir={photos}/train/shards")
    assert result.returncode == 1
    assert "shards: is inside the photos in" in result.stderr


def test_a_split_without_a_decodable_photo_is_rejected(run, photos, tmp_path):
    for name in ("amber", "blue", "cyan"):
        (tmp_path / "val" / name).mkdir(parents=True)
        (tmp_path / "val" / name / "a.jpg").write_text("not a photo")
    result = run(f"--train={photos}/train", f"--val={tmp_path}/val", f"--output_dir={tmp_path}/out", "--shards=1")
    assert result.returncode == 1
    assert "none of the photos of --val can be decoded" in result.stderr
    assert not (tmp_path / "out" / shards.INDEX).exists()


def test_an_incomplete_imagenet_is_rejected(run, photos, tmp_path):
    for split in ("train", "val"):
        for name in imagenet.wordnet_ids():
            (tmp_path / split / name).mkdir(parents=True)
            shutil.copy(photos / "val" / "blue" / "blue_000.jpg", tmp_path / split / name / "a.jpg")
    flags = [f"--train={tmp_path}/train", f"--val={tmp_path}/val", f"--output_dir={tmp_path}/out", "--shards=1"]
    result = run(*flags)
    assert result.returncode == 1
    assert result.stderr == (
        "error: train: found 1,000 photos, ImageNet has 1,281,167; val: found 1,000 photos, ImageNet has 50,000. "
        "Complete it, or pass --allow_incomplete.\n"
    )
    assert not (tmp_path / "out").exists()


def test_a_folder_is_locked_while_it_is_prepared(run, photos, tmp_path):
    flags = [f"--train={photos}/train", f"--val={photos}/val", f"--output_dir={tmp_path}/out"]
    (tmp_path / "out").mkdir()
    with locked(str(tmp_path / "out"), "testing"):
        (tmp_path / "out" / ".writing-other").touch()
        result = run(*flags)
    message = f"--output_dir={tmp_path}/out: cannot write there (another process is preparing shards in it)."
    assert (result.returncode, result.stderr) == (1, f"error: {message}\n")
    assert (tmp_path / "out" / ".writing-other").exists()
    assert run(*flags).returncode == 0
    assert not (tmp_path / "out" / ".writing-other").exists()


def test_a_failed_start_leaves_no_folder(run, photos, tmp_path):
    result = run(f"--train={photos}/train", f"--val={photos}/val", f"--output_dir={tmp_path}/out", "--shards=99")
    assert result.stderr == "error: --shards=99: found only 48 train photos.\n"
    assert not (tmp_path / "out").exists()


def test_a_killed_preparation_resumes_with_each_photo_once(run, programs, photos, tmp_path, reliability_seconds):
    moments, flags = random.Random(0), [f"--train={photos}/train", f"--val={photos}/val", "--shards=5"]
    end, attempt, kills = time.monotonic() + reliability_seconds, 0, 0
    while attempt == 0 or time.monotonic() < end:
        out, attempt = tmp_path / str(attempt), attempt + 1
        for _ in range(2):
            moment = moments.randrange(1, 100)  # out of about 110 file operations
            killed = ["fd_keras.training.prepare", moment, photos.parent, *flags, f"--output_dir={out}", "--workers=1"]
            kills += programs.run("tests.killed_program", killed, tmp_path).returncode == -signal.SIGKILL
        result = run(*flags, f"--output_dir={out}")
        assert result.returncode == 0, result.stderr
        _check_complete(out, photos)
    assert kills


def _check_complete(out, photos) -> None:
    """Checks that each photo is in the shards once, and that the hashes of the shards are correct."""
    assert not [path.name for path in out.iterdir() if path.name.startswith(".writing-")]
    index = json.loads((out / shards.INDEX).read_text())
    for split, source in data_sets.open_data(str(out)).items():
        for shard in index["splits"][split]:
            assert shards.is_whole(str(out / shard["file"]), shard["count"], shard["sha256"])
        found = [
            (item.key.numpy().decode(), item.data.numpy()) for item in source.ordered(Share()).map(lambda item: item)
        ]
        expected = [(f"{path.parent.name}/{path.name}", path.read_bytes()) for path in (photos / split).glob("*/*.jpg")]
        assert sorted(found) == sorted(expected)
