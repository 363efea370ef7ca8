import dataclasses
import os

import keras
import numpy as np
import pytest

from fd_keras import weights as weights_lib
from fd_keras.training.finetune import candidates, teachers
from fd_keras.training.finetune.candidates import FinetuneNetwork
from tests import small_network
from tests.training.finetune.test_candidates import CLASSES, labeled, weights  # noqa: F401

NARROW = FinetuneNetwork("fd_mobilenet", 0.25, 32, CLASSES, "narrow.pth.tar", seed=3)


def test_teachers_are_twice_as_wide_if_weights_are_available_and_use_larger_images(monkeypatch):
    monkeypatch.setattr(weights_lib, "at_hand", lambda arch, alpha, beside: f"{beside} {arch.name} {alpha}")
    wider = dataclasses.replace(NARROW, alpha=0.5, weights="narrow.pth.tar fd_mobilenet 0.5")
    assert teachers.possible(NARROW) == [NARROW, wider, dataclasses.replace(wider, enlarged_to=192)]
    large = dataclasses.replace(NARROW, image_size=192)
    assert teachers.possible(large) == [large, dataclasses.replace(wider, image_size=192)]
    monkeypatch.setattr(weights_lib, "at_hand", lambda arch, alpha, beside: None)
    assert teachers.possible(NARROW) == [NARROW, dataclasses.replace(NARROW, enlarged_to=192)]
    assert teachers.possible(large) == [large]


@pytest.mark.parametrize("chosen", [0, 1, 2])
def test_the_best_teacher_has_the_features_that_separate_the_classes(photos, monkeypatch, chosen):
    train = labeled(photos, "train", 4)
    monkeypatch.setattr(weights_lib, "at_hand", lambda arch, alpha, beside: "wider")
    best, noise = teachers.possible(NARROW)[chosen], np.random.default_rng(0).normal(size=(len(train), 1, 5))
    clear = np.eye(3)[[label for _, label in train]][:, None] * 9
    monkeypatch.setattr(candidates, "pooled_features", lambda one, paths, views: clear if one == best else noise)
    assert teachers.best(NARROW, train) == best


def test_a_saved_teacher_predicts_like_its_head_and_is_made_once(weights, photos, tmp_path, monkeypatch):  # noqa: F811
    network = FinetuneNetwork(small_network.NAME, 0.25, 32, CLASSES, weights, enlarged_to=64)
    train = labeled(photos, "train", 4)
    path = teachers.save(network, train, [0, 2], str(tmp_path / "work" / "teacher.keras"))
    expected = candidates.with_head(network, teachers.fit_head(network, train, [0, 2]))
    images = np.random.default_rng(0).uniform(0, 255, (2, 32, 32, 3)).astype("float32")
    saved = keras.saving.load_model(path)
    np.testing.assert_allclose(saved(images), expected(images), atol=1e-4)
    monkeypatch.setattr(teachers, "fit_head", None)
    assert teachers.save(network, train, [0, 2], path) == path
    assert os.listdir(tmp_path / "work") == ["teacher.keras"]
