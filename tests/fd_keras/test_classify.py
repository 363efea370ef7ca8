import json
import os
import subprocess
import sys

import keras
import numpy as np
import pytest
from PIL import Image

from fd_keras import applications, classify, imagenet
from fd_keras.errors import UsageError

# The fake model chooses one of these labels by the mean red, green and blue of an image.
LABELS = {"red": 281, "green": 985, "blue": 999}


@pytest.fixture(scope="module")
def model():
    """A fast fake network: the probability of a label increases with the mean of its color."""
    network = keras.Sequential(
        [
            keras.Input((224, 224, 3)),
            keras.layers.GlobalAveragePooling2D(data_format="channels_last"),
            keras.layers.Dense(1000, activation="softmax"),
        ]
    )
    kernel = np.zeros((3, 1000))
    kernel[range(3), list(LABELS.values())] = 0.1
    network.layers[-1].set_weights([kernel, np.zeros(1000)])
    return network


@pytest.fixture
def built(monkeypatch, model):
    """Replaces the networks with the fake one; collects the arguments of each call."""
    calls = []

    def build_by_name(name, **arguments):
        calls.append((name, arguments))
        return model

    monkeypatch.setattr(applications, "build_by_name", build_by_name)
    return calls


@pytest.fixture
def photos(tmp_path, monkeypatch):
    """A folder with an image of each color, which is the current one."""
    for index, name in enumerate(LABELS):
        pixels = np.full((250, 300, 3), 20, "uint8")
        pixels[..., index] = 250
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_results_are_in_the_order_of_the_images(model, photos):
    results = list(classify.classify(model, ["green.png", "red.png", "green.png"], top=2))
    assert [result["image"] for result in results] == ["green.png", "red.png", "green.png"]
    assert [result["predictions"][0]["label"] for result in results] == [985, 281, 985]
    assert [len(result["predictions"]) for result in results] == [2, 2, 2]
    best = results[0]["predictions"][0]
    assert (best["wnid"], best["name"]) == ("n11939491", "daisy")
    # By hand: logits 2, 25 and 2 among 997 zeros.
    assert best["probability"] == pytest.approx(np.exp(25) / (np.exp(25) + 2 * np.exp(2) + 997), rel=1e-5)


@pytest.mark.parametrize("count", [1, classify.BATCH, classify.BATCH + 1, 2 * classify.BATCH + 5])
def test_results_do_not_depend_on_the_batch_size(model, photos, count):
    names = [f"{name}.png" for name in LABELS]
    paths = [names[index % 3] for index in range(count)]
    labels = [result["predictions"][0]["label"] for result in classify.classify(model, paths)]
    assert labels == [list(LABELS.values())[index % 3] for index in range(count)]


def test_broken_images_keep_their_place(model, photos):
    (photos / "broken.png").write_bytes(b"no image")
    found = list(classify.classify(model, ["broken.png", "red.png", "missing.png", "blue.png"]))
    assert ["error" in result for result in found] == [True, False, True, False]
    assert "broken.png: not a readable image" in found[0]["error"]
    assert "missing.png" in found[2]["error"]
    assert found[3]["predictions"][0]["label"] == 999


def test_only_broken_images(model, photos):
    (photos / "broken.png").touch()
    (found,) = classify.classify(model, ["broken.png"])
    assert "broken.png" in found["error"]


def test_prints_the_classes(built, photos, capsys):
    assert classify.main(["red.png", "--top=1"]) == 0
    out, err = capsys.readouterr()
    assert out == "red.png\n  100.0%  tabby (n02123045)\n"
    assert err == ""


def test_a_broken_image_is_reported_and_the_others_classified(built, photos, capsys):
    (photos / "broken.png").write_bytes(b"no image")
    assert classify.main(["broken.png", "red.png", "blue.png"]) == 1
    out, err = capsys.readouterr()
    assert "tabby" in out
    assert "toilet tissue" in out
    assert err.startswith("error: broken.png: not a readable image")
    assert err.count("\n") == 1


def test_json(built, photos, capsys):
    (photos / "broken.png").write_bytes(b"no image")
    assert classify.main(["--json", "red.png", "broken.png", "--top", "3"]) == 1
    out, err = capsys.readouterr()
    first, second = json.loads(out)
    assert first["image"] == "red.png"
    assert [prediction.keys() for prediction in first["predictions"]] == [{"label", "wnid", "name", "probability"}] * 3
    assert first["predictions"][0]["label"] == 281
    assert second["image"] == "broken.png"
    assert "not a readable image" in second["error"]
    assert "broken.png" in err


def test_folders(built, photos, capsys):
    (photos / "notes.txt").touch()
    assert classify.main(["."]) == 0
    names = [line for line in capsys.readouterr().out.splitlines() if line.endswith(".png")]
    assert names == [os.path.join(".", f"{name}.png") for name in sorted(LABELS)]


@pytest.mark.parametrize("path", ["missing.png", "empty"])
def test_an_argument_without_images_is_reported(built, photos, capsys, path):
    (photos / "empty").mkdir()
    assert classify.main([path, "red.png"]) == 1
    out, err = capsys.readouterr()
    assert "tabby" in out
    assert err.startswith(f"error: {path}: no ")


def test_photos_are_turned_upright_on_request(model, photos):
    pixels = np.zeros((600, 300, 3), "uint8")
    pixels[:150, :, 0], pixels[150:, :, 1] = 255, 255  # red at the top, outside the center crop if not turned
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pixels).save(photos / "turned.png", exif=exif)
    for upright in (False, True):
        (found,) = classify.classify(model, ["turned.png"], upright=upright)
        loaded = imagenet.load_image("turned.png", upright=upright)
        (expected,) = imagenet.decode_predictions(model(loaded[None].astype("float32")), 1)
        assert found["predictions"][0]["probability"] == pytest.approx(expected[0][2], rel=1e-5)


def test_flags_reach_the_network(built, photos):
    classify.main(
        ["red.png", "--model=shufflenet", "--alpha=0.5", "--groups=2", "--stem_multiplier=0.5", "--weights=x"]
    )
    expected = {"alpha": 0.5, "groups": 2, "stem_multiplier": 0.5, "weights": "x"}
    assert built == [("shufflenet", expected)]


def test_defaults(built, photos):
    classify.main(["red.png"])
    expected = {"alpha": 1.0, "groups": None, "stem_multiplier": None, "weights": "imagenet"}
    assert built == [("fd_mobilenet", expected)]


@pytest.mark.parametrize("flags", [["--unknown"], ["--mode=shufflenet"], ["--alpha=x"], []])
def test_wrong_flags_are_usage_errors(photos, flags):
    with pytest.raises(UsageError, match=flags[0].partition("=")[0] if flags else "required"):
        classify.main([*flags, "red.png"] if flags else [])


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--model=mine.h5"], r"--model=mine\.h5: not a \.keras or \.tflite file or a network"),
        (["--model=fd_mobilnet"], r"shufflenet\); did you mean fd_mobilenet"),
        (["--alpha=0"], "alpha must be"),
        (["--alpha=0.33"], "weights='imagenet' has no checkpoint"),
        (["--weights=no.such.file"], "weights='no.such.file': no such file"),
        (["--groups=3"], "fd_mobilenet has no groups"),
        (["--top=0"], "--top=0: must be between 1 and 1000"),
        (["--top=1001"], "--top=1001: must be between 1 and 1000"),
    ],
)
def test_invalid_values_are_errors(photos, flags, message):
    with pytest.raises(ValueError, match=message):
        classify.main([*flags, "red.png"])


@pytest.mark.tensorflow_only(reason="one backend is enough to test that the program starts")
def test_runs_as_a_program(photos, build):
    build("fd_mobilenet", input_shape=None, classes=1000).save(photos / "weights.keras")
    (photos / "broken.png").write_bytes(b"no image")
    command = [sys.executable, "-m", "fd_keras.classify", "--alpha=0.25", "--weights=weights.keras", "--json", "."]
    root = os.path.dirname(os.path.dirname(classify.__file__))
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": root})
    assert done.returncode == 1
    results = json.loads(done.stdout)
    assert [os.path.basename(result["image"]) for result in results] == [
        "blue.png",
        "broken.png",
        "green.png",
        "red.png",
    ]
    assert ["error" in result for result in results] == [False, True, False, False]
    assert "Traceback" not in done.stderr


def test_a_photo_of_a_tench_is_recognized(data, capsys, quick_start):
    photo = str(data / "imagenet" / "sample" / "n01440764_tench.JPEG")
    checkpoint = str(data / "weights" / "0.25x-FDMobileNet-224.pth.tar")
    with quick_start():
        assert classify.main(["--alpha=0.25", f"--weights={checkpoint}", "--top=1", photo]) == 0
    assert "tench (n01440764)" in capsys.readouterr().out


def test_a_missing_photo_is_named_before_a_network_is_built(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "fd_keras.applications", None)  # importing it would raise
    assert classify.main(["missing.jpg", "--alpha=0.25"]) == 1
    assert capsys.readouterr().err == "error: missing.jpg: no such file or folder.\n"


@pytest.mark.parametrize("flag", ["--alpha=0", "--groups=3", "--top=0"])
def test_invalid_flags_are_reported_before_a_network_is_built(monkeypatch, flag):
    monkeypatch.setitem(sys.modules, "fd_keras.applications", None)
    with pytest.raises(ValueError, match=flag[2:5]):
        classify.main(["photo.jpg", flag])
