import dataclasses
import os

import keras
import numpy as np
import pytest

from fd_keras import weights as weights_lib
from fd_keras.training.finetune import candidates, linear_head, teachers
from fd_keras.training.finetune.candidates import FinetuneNetwork, PhotoFeatures
from fd_keras.training.finetune.photo_folder import labels_of
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
def test_the_best_teacher_has_the_features_that_separate_the_classes(monkeypatch, chosen):
    monkeypatch.setattr(weights_lib, "at_hand", lambda arch, alpha, beside: "wider")
    labels = np.arange(12) % 3
    best, noise = teachers.possible(NARROW)[chosen], np.random.default_rng(0).normal(size=(15, 1, 5))
    clear = np.concatenate([np.eye(3)[labels][:, None] * 9, np.zeros((3, 1, 3))])  # 3 photos are held out
    monkeypatch.setattr(candidates, "pooled_features", lambda one, paths, views: clear if one == best else noise)
    assert teachers.best(NARROW, PhotoFeatures(["photo.jpg"] * 15), labels) == best


def test_a_saved_teacher_predicts_like_its_head(weights, photos, tmp_path):  # noqa: F811
    network = FinetuneNetwork(small_network.NAME, 0.25, 32, CLASSES, weights, enlarged_to=64)
    train = labeled(photos, "train", 4)
    values, labels = candidates.pooled_features(network, [path for path, _ in train], 2), labels_of(train)
    balance = np.arange(1.0, len(labels) + 1)
    path = teachers.save(network, values, labels, balance, str(tmp_path / "work" / "teacher.keras"))
    measured = candidates.measure(keras.saving.load_model(path), train)
    head = linear_head.fit(values, labels, 3, weights=balance)
    expected = candidates.measure_head(head, values[:, 0], train)
    np.testing.assert_allclose(measured.probabilities, expected.probabilities, atol=1e-3)
    assert os.listdir(tmp_path / "work") == ["teacher.keras"]
