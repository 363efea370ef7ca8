import numpy as np
import pytest
from PIL import Image

from benchmarks import input_pipeline as pipeline


@pytest.fixture
def photos(tmp_path, monkeypatch):
    """A folder with two JPEGs and a PNG, which is not used; batches have two photos."""
    monkeypatch.setattr(pipeline, "BATCH", 2)
    monkeypatch.setattr(pipeline, "EPOCH", 6)
    monkeypatch.setattr(pipeline, "PAPER", pipeline.PAPER.override(batch_size=2, image_size=32))
    pixels = np.random.default_rng(0).integers(0, 256, (400, 360, 3), "uint8")
    for name in ("a.jpg", "b.jpg", "c.png"):
        Image.fromarray(pixels).save(tmp_path / name)
    return tmp_path


def test_all_cases_process_all_photos(photos, tmp_path_factory):
    paths = pipeline.list_jpegs(str(photos))
    assert [path[-5:] for path in paths] == ["a.jpg", "b.jpg"] * 3
    calls = pipeline.cases(paths, str(tmp_path_factory.mktemp("shards")))
    assert len(calls) == 5 + 2 * len(pipeline.SHRUNK)
    rates = pipeline.measure(calls, 2, len(paths))
    assert all(len(values) == 2 and min(values) > 0 for values in rates.values())


def test_the_reference_crops_like_torchvision():
    random = np.random.default_rng(0)
    boxes = [pipeline._pil_box(500, 375, random) for _ in range(300)]
    assert all(left >= 0 and top >= 0 and left + w <= 500 and top + h <= 375 for left, top, w, h in boxes)
    shares = [w * h / (500 * 375) for _, _, w, h in boxes]
    assert 0.6 < min(shares) < 0.68
    assert max(shares) > 0.9
    assert pipeline._pil_box(1000, 10, random) == (0, 0, 1000, 10)  # nothing fits


def test_ratios_are_computed_within_a_round():
    text = pipeline.table({"libjpeg-turbo": [2.0, 4.0], "PIL": [1.0, 1.0], "ours": [1.0, 4.0]})
    assert text.splitlines()[-1].split() == ["ours", "2", "0.75", "(0.50-1.00)", "2.50", "(1.00-4.00)"]


def test_too_few_photos_are_rejected(photos, monkeypatch):
    monkeypatch.setattr(pipeline, "BATCH", 50)
    with pytest.raises(ValueError, match="--photos=.*: need at least 50 RGB JPEGs, found 2"):
        pipeline.list_jpegs(str(photos))
