import json
import shutil

import pytest

from fd_keras import imagenet
from fd_keras.training import shards, sources
from fd_keras.training.sources import Share


@pytest.fixture
def run(programs, tmp_path):
    return lambda *flags: programs.run("fd_keras.training.prepare", [*flags, "--workers=1"], tmp_path)


def test_photos_become_shards_that_can_be_trained_on(run, photos, tmp_path):
    flags = [f"--train={photos}/train", f"--val={photos}/val", f"--output_dir={tmp_path}/out", "--shards=3"]
    result = run(*flags)
    assert result.returncode == 0, result.stderr
    assert f"next: fd-keras train --data={tmp_path}/out" in result.stdout
    index = json.loads((tmp_path / "out" / shards.INDEX).read_text())
    assert index["classes"] == ["amber", "blue", "cyan"]
    assert [shard["count"] for shard in index["splits"]["train"]] == [16, 16, 16]
    assert set(index["splits"]["val"][0]) == set(shards.INDEXED)
    split = sources.open_data(str(tmp_path / "out"))["val"]
    assert len(list(split.ordered(Share()).map(lambda photo: photo.label))) == 15
    assert "3 of 3 shards are there already" in run(*flags).stdout


def test_an_incomplete_imagenet_is_refused(run, photos, tmp_path):
    for split in ("train", "val"):
        for name in imagenet.wordnet_ids():
            (tmp_path / split / name).mkdir(parents=True)
            shutil.copy(photos / "val" / "blue" / "blue_000.jpg", tmp_path / split / name / "a.jpg")
    flags = [f"--train={tmp_path}/train", f"--val={tmp_path}/val", f"--output_dir={tmp_path}/out", "--shards=1"]
    result = run(*flags)
    assert result.returncode == 1
    assert result.stderr == (
        "error: train: 1,000 photos, ImageNet has 1,281,167; val: 1,000 photos, ImageNet has 50,000. "
        "Complete it, or pass --allow_incomplete.\n"
    )
    assert not (tmp_path / "out").exists()
