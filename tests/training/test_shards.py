import io
import os
import shutil

from PIL import Image

from fd_keras import imagenet
from fd_keras.training import shards, sources
from fd_keras.training.sources import Share
from tests.training.conftest import prepare


def test_prepare_repairs_reports_and_goes_on(photos, tmp_path):
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
    for item in sources.open_data(str(out))["train"].ordered(Share()).map(lambda item: item):
        with Image.open(io.BytesIO(item.data.numpy())) as image:
            assert (image.format, image.mode) == ("JPEG", "RGB")
    before = {name: os.stat(out / name).st_mtime_ns for name in os.listdir(out) if name.endswith(".tfrecord")}
    os.unlink(out / f"{written[1]['file']}.json")  # as if the power had failed here
    prepare(raw, out, count=4)
    after = {name: os.stat(out / name).st_mtime_ns for name in before}
    assert [name for name in before if before[name] != after[name]] == [written[1]["file"]]


def test_shrunk_photos_have_the_short_side_asked_for():
    data = io.BytesIO()
    Image.new("RGB", (500, 375), (9, 99, 199)).save(data, "JPEG")
    small, repaired = shards.checked(data.getvalue(), 320)
    with Image.open(io.BytesIO(small)) as image:
        assert image.size == (426, 320)
        assert repaired is None
    assert shards.checked(data.getvalue(), 400) == (data.getvalue(), None)


def test_imagenet_has_to_be_complete():
    assert "1,281,167" in shards.check_counts("train", [None] * 7, imagenet.wordnet_ids())
    assert shards.check_counts("train", [None] * 7, ["a", "b"]) is None
