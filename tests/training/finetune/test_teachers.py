"""The wider network that a smaller one learns from."""

import os

import keras
import numpy as np

from fd_keras import weights as weights_lib
from fd_keras.training.finetune import candidates, teachers
from fd_keras.training.finetune.candidates import FinetuneNetwork
from tests.training.finetune.test_candidates import CLASSES, labeled, weights  # noqa: F401


def test_it_is_twice_as_wide_and_starts_from_weights_on_this_machine(monkeypatch):
    monkeypatch.setattr(weights_lib, "at_hand", lambda arch, alpha, beside: f"{beside} {arch.name} {alpha}")
    found = teachers.wider(FinetuneNetwork("fd_mobilenet", 0.25, 32, CLASSES, "narrow.pth.tar", seed=3))
    assert found == FinetuneNetwork("fd_mobilenet", 0.5, 32, CLASSES, "narrow.pth.tar fd_mobilenet 0.5", seed=3)


def test_without_weights_there_is_none(monkeypatch):
    monkeypatch.setattr(weights_lib, "at_hand", lambda arch, alpha, beside: None)
    assert teachers.wider(FinetuneNetwork("fd_mobilenet", 0.25, 32, CLASSES, "narrow.pth.tar")) is None


def test_a_saved_teacher_answers_as_its_head_and_is_made_once(weights, photos, tmp_path, monkeypatch):  # noqa: F811
    network = FinetuneNetwork("fd_mobilenet", 0.25, 32, CLASSES, weights)
    train = labeled(photos, "train", 4)
    path = teachers.save(network, train, [0, 2], str(tmp_path / "work" / "teacher.keras"))
    expected = candidates.with_head(network, teachers.fit_head(network, train, [0, 2]))
    images = np.random.default_rng(0).uniform(0, 255, (2, 32, 32, 3)).astype("float32")
    saved = keras.saving.load_model(path)
    np.testing.assert_allclose(saved(images), expected(images), atol=1e-4)
    monkeypatch.setattr(teachers, "fit_head", None)
    assert teachers.save(network, train, [0, 2], path) == path
    assert os.listdir(tmp_path / "work") == ["teacher.keras"]
