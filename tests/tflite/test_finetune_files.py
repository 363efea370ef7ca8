import json
import os

import numpy as np
import pytest
from PIL import Image

from fd_keras import imagenet
from fd_keras.errors import ProgramError
from fd_keras.litert import Runner
from fd_keras.tflite import finetune_files
from fd_keras.tflite.format.sidecar import calibration_facts, sidecar_path
from fd_keras.training.finetune.results import FileFacts
from tests.tflite.conftest import SIZE

NAMES = ("ant", "bee <b>", "čat", "dog")


@pytest.fixture(scope="module")
def labeled(photos) -> list[tuple[str, int]]:
    """Forty images with arbitrary labels."""
    return [(str(path), index % 4) for index, path in enumerate(sorted(photos.iterdir()))]


@pytest.fixture(scope="module")
def files(tiny, labeled, tmp_path_factory) -> list[str]:
    folder = tmp_path_factory.mktemp("files")
    tiny.save(folder / "tiny.keras")
    return finetune_files.convert(tiny, "tiny", str(folder / "tiny.keras"), labeled[:30], NAMES, str(folder))


def sidecar_of(path: str) -> dict:
    with open(sidecar_path(path), encoding="utf-8") as file:
        return json.load(file)


def test_files_are_calibrated_on_training_photos_only(files, labeled):
    assert [os.path.basename(path) for path in files] == ["tiny_float32.tflite", "tiny_int8.tflite"]
    assert sidecar_of(files[0])["calibration"] is None
    ids = sidecar_of(files[1])["calibration"]["ids"]
    assert set(ids) == {path for path, _ in labeled[:30]}
    assert len(ids) == 60  # fewer than 32 photos: their mirror images too
    assert all(sidecar_of(path)["class_names"] == list(NAMES) for path in files)


@pytest.mark.parametrize("refit", [False, True])
def test_comparison_matches_the_outputs(files, labeled, tiny, refit):
    facts = finetune_files.measure(tiny, files, labeled, "tiny.keras", refit)
    images = np.stack([imagenet.load_image(path, SIZE) for path, _ in labeled]).astype("float32")
    expected, labels = tiny.predict_on_batch(images).argmax(-1), np.array([label for _, label in labeled])
    for path, fact in zip(files, facts, strict=True):
        found = Runner(path)(images).argmax(-1)
        assert fact.agreement == pytest.approx(100 * (found == expected).mean())
        assert fact.top1 == (None if refit else pytest.approx((found == labels).mean()))
        recorded = sidecar_of(path)["accuracy"]
        assert (recorded["images"], recorded["trained_on_these"]) == (40, refit)
        assert recorded["top1"] == (None if refit else pytest.approx(100 * fact.top1))
        assert fact.size_bytes == os.path.getsize(path)
    assert [fact.ram_bytes is None for fact in facts] == [True, False]


def test_files_are_timed_by_the_bench(files, tmp_path):
    facts = [FileFacts(path, "int8", 1, None, 100.0, 0, 0.0) for path in files]
    timed = finetune_files.timed(facts, str(tmp_path / "timing"))
    rows = [json.loads(line) for line in (tmp_path / "timing" / "rows.jsonl").read_text().splitlines()]
    for fact in timed:
        times = sorted(row["median_ns"] for row in rows if row["file"] == fact.path)
        assert len(times) % 2 == 1
        assert fact.milliseconds == times[len(times) // 2] / 1e6 > 0


def test_failed_timing_is_an_error(tmp_path):
    (tmp_path / "x.tflite").write_bytes(b"nothing")
    fact = FileFacts(str(tmp_path / "x.tflite"), "int8", 1, None, 100.0, 0, 0.0)
    with pytest.raises(ProgramError, match=r"timing the files failed: .*x\.tflite"):
        finetune_files.timed([fact], str(tmp_path / "timing"))


def test_names_that_are_not_text_are_escaped_in_the_description(tiny, tmp_path):
    path = str(tmp_path / "caf\udce9.png")
    with open(os.fsencode(path), "wb") as file:
        Image.effect_noise(SIZE[::-1], 90).convert("RGB").save(file, "PNG")
    calibration = finetune_files._calibration([path], SIZE)
    assert calibration.images.shape == (2, *SIZE, 3)
    np.testing.assert_array_equal(calibration.images[1], calibration.images[0][:, ::-1])
    assert calibration_facts(calibration)["ids"] == [str(tmp_path / "caf\\udce9.png")] * 2
