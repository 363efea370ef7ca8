"""Tests the model flags in separate processes, since other programs define flags with the same names."""

import json
import subprocess
import sys

import pytest

from fd_keras.tflite.recipes import Int8Settings

SCRIPT = """
import dataclasses, json, sys
from absl import flags
from fd_keras.tflite import model_flags
flags.FLAGS(["x", "--output_dir=out", *sys.argv[2:]])
found = eval(sys.argv[1])
print(json.dumps([found, sorted({name.split(".")[0] for name in sys.modules})]))
"""


def evaluate(expression: str, *flags: str):
    """Evaluates an expression after the flags are parsed; returns its value and the imported packages."""
    done = subprocess.run([sys.executable, "-c", SCRIPT, expression, *flags], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_every_step_has_a_flag_and_its_default():
    found, packages = evaluate("dataclasses.asdict(model_flags.settings())")
    assert Int8Settings(**found) == Int8Settings()
    assert not {"keras", "tensorflow", "ai_edge_litert"} & set(packages)


def test_steps_are_changed_one_by_one():
    flags = ("--noint8_clip", "--int8_split=2", "--int8_power=0.5")
    found, _ = evaluate("dataclasses.asdict(model_flags.settings())", *flags)
    assert Int8Settings(**found) == Int8Settings(clip=False, split=2, power=0.5)


def test_flags_that_were_not_given_keep_the_settings_of_the_recipe():
    found, _ = evaluate("dataclasses.asdict(model_flags.settings(model_flags.Int8Settings(fit=0.1)))", "--int8_split=1")
    assert Int8Settings(**found) == Int8Settings(fit=0.1, split=1)


def test_each_step_has_its_own_help_text():
    texts, _ = evaluate("[flags.FLAGS[name].help for name in flags.FLAGS if name.startswith('int8_')]")
    assert len(set(texts)) == len(texts) == 8
    assert all(len(text) > 30 for text in texts)


@pytest.mark.parametrize(
    ("flags", "ids"),
    [
        (["--calibration_count=10"], [f"{i:03}.png" for i in range(0, 40, 4)]),
        (["--calibration_ids=ids.txt"], [f"{i:03}.png" for i in range(20, 28)]),
    ],
)
def test_calibration_images_are_taken_evenly_or_by_name(photos, tmp_path, monkeypatch, flags, ids):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ids.txt").write_text("\n".join(f"{i:03}.png" for i in range(20, 28)))
    found, _ = evaluate("model_flags.calibration((32, 48)).ids", f"--calibration_dir={photos}", *flags)
    assert found == ids


def test_without_a_folder_the_default_folder_is_used_for_calibration(photos):
    expression = f"[model_flags.calibration((32, 48)), len(model_flags.calibration((32, 48), {str(photos)!r}).ids)]"
    found, _ = evaluate(expression)
    assert found == [None, 40]


def test_models_are_named_after_their_flags_or_their_file(saved_flowers):
    load = f"setattr(flags.FLAGS, 'keras_model', {str(saved_flowers)!r}) or model_flags.model()[1:]"
    flags = ("--model=shufflenet", "--alpha=0.25", "--groups=2", "--size=64", "--weights=none")
    (zoo, saved), _ = evaluate(f"[model_flags.model()[1:], {load}]", *flags)
    assert zoo[0].startswith("shufflenet")
    assert zoo[0].endswith("_0.25_64")
    assert zoo[1].items() >= {"alpha": 0.25, "groups": 2, "size": [64, 64], "weights": None}.items()
    assert saved[0] == "my.flowers"
    assert saved[1]["keras_model"] == str(saved_flowers)
