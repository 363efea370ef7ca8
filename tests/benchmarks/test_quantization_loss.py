import sys

import keras
import numpy as np
from PIL import Image

from benchmarks import quantization_loss
from fd_keras import FDMobileNet
from fd_keras.tflite import export
from fd_keras.tflite.recipes import RECIPES
from fd_keras.tflite.verification.compare import Comparison
from fd_keras.tflite.verification.evaluation_set import EvaluationSet


def test_views_are_shifted_and_mirrored_crops(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (35, 35, 3), "uint8")
    Image.fromarray(pixels).save(tmp_path / "a.png")
    photos = EvaluationSet.load(str(tmp_path), None, (35, 35), 10, resize=False)
    views = {each: next(quantization_loss.view(photos, *each))[0][0] for each in quantization_loss.VIEWS}
    np.testing.assert_array_equal(views[0, False], pixels[3:35, 0:32])
    np.testing.assert_array_equal(views[3, False], pixels[0:32, 3:35])
    np.testing.assert_array_equal(views[1, True], pixels[2:34, 1:33][:, ::-1])
    assert len({image.tobytes() for image in views.values()}) == 8


def test_loss_is_the_mean_over_views_and_its_interval_is_over_photos():
    """Views of one photo are not independent."""
    lost_one = Comparison(hits=np.array([1, 0, 1, 1]), expected_hits=np.array([1, 1, 1, 1]))
    gained_it = Comparison(hits=np.array([1, 1, 1, 0]), expected_hits=np.array([1, 0, 1, 0]))
    assert quantization_loss.losses([lost_one, gained_it]) == (0, 0)
    lost, margin = quantization_loss.losses([lost_one, lost_one])
    assert lost == 25
    np.testing.assert_allclose(margin, 196 * np.std([0, 1, 0, 0]) / 2)


def test_table_has_each_file(tmp_path, monkeypatch, capsys):
    keras.utils.set_random_seed(0)
    model = FDMobileNet((32, 32, 3), alpha=0.25, weights=None, classes=10)
    (tmp_path / "photos").mkdir()
    random, paths = np.random.default_rng(0), {}
    for index in range(3):
        Image.fromarray(random.integers(0, 256, (50, 40, 3), "uint8")).save(tmp_path / "photos" / f"{index}.png")
    (tmp_path / "labels.txt").write_text("0.png 1\n1.png 2\n2.png 3\n")
    for name in ("float32", "float16"):
        paths[name] = tmp_path / f"{name}.tflite"
        paths[name].write_bytes(export.export(model, RECIPES[name]))
    flags = [f"--images={tmp_path}/photos", f"--labels={tmp_path}/labels.txt"]
    monkeypatch.setattr(sys, "argv", ["quantization_loss", *map(str, paths.values()), *flags])
    quantization_loss.main()
    head, _, reference, file = capsys.readouterr().out.strip().splitlines()
    assert head.startswith("| 3 photos, 8 views |")
    assert reference.endswith("| 0.00 +- 0.00 | 100.0 |")
    assert file.startswith(f"| {paths['float16']} |")
