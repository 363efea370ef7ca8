"""Tests damaged .tflite and .json files: each reader returns a result, or fails with one line that names the file."""

import json
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from fd_keras.sidecar import read_sidecar
from fd_keras.tflite.verification.reference import calibration_of, reference_of

ROOT = Path(__file__).parents[2]
SCRIPT = Path(__file__).with_name("damaged_readers.py")
FILES = 60  # of each model, at least


@pytest.mark.parametrize("recipe", ["float32", "int8", "dynamic"])
def test_readers_of_damaged_files_succeed_or_fail_with_one_line(convert_tiny, tmp_path, recipe, reliability_seconds):
    """Runs in a separate process, so that a crash of LiteRT fails the test; the last line of output is the seed."""
    arguments = [convert_tiny(recipe), str(tmp_path), "0", str(FILES), str(reliability_seconds / 3)]
    done = subprocess.run([sys.executable, SCRIPT, *arguments], cwd=ROOT, env={"PYTHONPATH": "."}, capture_output=True)
    *_, last = done.stdout.decode().splitlines()
    assert done.returncode == 0, f"damaged file {last}: {done.stderr.decode()[-1000:]}"
    assert "read" in last
    assert "rejected" in last


@pytest.fixture
def described(convert_tiny, photos, tmp_path) -> Path:
    """A file with a .json that names a source model, a recipe and images."""
    path = tmp_path / "a.tflite"
    shutil.copy(convert_tiny("int8"), path)
    facts = json.loads(Path(convert_tiny("int8")).with_suffix(".json").read_text())
    facts |= {"arch": "fd_mobilenet", "alpha": 0.25, "size": [64, 96], "weights": "gone.h5"}
    path.with_suffix(".json").write_text(json.dumps(facts))
    return path


def refusal(reader: Callable, path: str) -> str | None:
    try:
        reader(path)
    except (ValueError, OSError) as error:
        return str(error)
    return None


OTHERS = (None, True, 0, -1, 1e300, float("nan"), "", "x", "\x1b[2J\n", [], ["a"], [1, 2, 3, 4], {}, {"a": 1})


def damaged_json(rng: random.Random, facts: dict) -> bytes:
    """Removes or changes one field anywhere, or damages the text."""
    holder = copy = json.loads(json.dumps(facts))
    while isinstance(holder, dict) and holder:
        key = rng.choice(sorted(holder))
        if not isinstance(holder[key], dict) or rng.random() < 0.5:
            holder[key] = rng.choice(OTHERS)
            if rng.random() < 0.2:
                del holder[key]
            break
        holder = holder[key]
    text = json.dumps(copy).encode()
    return text if rng.random() < 0.8 else rng.choice((text[: len(text) // 2], b"\xff" + text, b"[" * 10**5, b""))


def test_damaged_json_is_rejected_with_one_line(described, photos):
    sidecar = described.with_suffix(".json")
    facts = json.loads(sidecar.read_text())
    readers = (read_sidecar, reference_of, lambda path: calibration_of(path, str(photos)))
    for seed in range(200):
        sidecar.write_bytes(damaged_json(random.Random(seed), facts))
        for reader in readers:
            reason = refusal(reader, str(described))
            assert reason is None or (reason and "\n" not in reason), seed


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"alpha": "wide"}, "'alpha' is not a number"),
        ({"arch": 3}, "'arch' is not a string"),
        ({"size": "64"}, "'size' is not a list of integers"),
        ({"size": [64, "96"]}, "'size' is not a list of integers"),
        ({"include_preprocessing": "no"}, "'include_preprocessing' is not true or false"),
        ({"include_preprocessing": None}, "'include_preprocessing' is not true or false"),
        ({"calibration": []}, "'calibration' is not an object"),
        ({"calibration": {"ids": 3}}, "'calibration' has no list of 'ids'"),
        ({"input": {}}, "'input' has no 'shape'"),
        ({"recipe_steps": {"settings": {"fit": "much"}}}, "'fit' is not a number"),
        ({"recipe_steps": {"settings": {"new": 1}}}, "'recipe_steps' has no 'settings'"),
    ],
)
def test_wrong_field_of_a_json_is_named(described, photos, change, words):
    facts = json.loads(described.with_suffix(".json").read_text()) | change
    described.with_suffix(".json").write_text(json.dumps(facts))
    with pytest.raises(ValueError, match=r"a\.json: ") as error:
        calibration_of(str(described), str(photos))
    assert words in str(error.value)
