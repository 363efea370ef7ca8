"""Tests the choice of augmentations on features whose views differ by known amounts."""

import numpy as np
import pytest

from fd_keras.training.finetune import augmentation
from fd_keras.training.finetune.augmentation import Augmentation


def views(mirrored: float, cropped: float, each: int = 20) -> tuple[np.ndarray, np.ndarray]:
    """Features of three classes, (60, 3, 8), whose second and third views are mixed with another class."""
    random = np.random.default_rng(0)
    labels = np.repeat(np.arange(3), each)
    centers = 3 * random.normal(size=(3, 8))
    own, other = centers[labels], centers[(labels + 1) % 3]
    shown = [own, (1 - mirrored) * own + mirrored * other, (1 - cropped) * own + cropped * other]
    return np.stack(shown, axis=1) + random.normal(size=(3 * each, 3, 8)), labels


@pytest.mark.parametrize("mirrored", [0.0, 0.9])
@pytest.mark.parametrize("cropped", [0.0, 0.9])
def test_changes_that_affect_the_class_are_detected(mirrored, cropped):
    found = augmentation.choose(*views(mirrored, cropped), 3)
    assert found == Augmentation(mirrored=not mirrored, cropped=not cropped)


def test_a_few_lost_photos_do_not_rule_out_a_change():
    features, labels = views(0.9, 0.9, each=1)
    assert augmentation.choose(features, labels, 3) == Augmentation()


def test_without_changed_views_all_changes_are_used():
    features, labels = views(0.9, 0.9)
    assert augmentation.choose(features[:, :2], labels, 3) == Augmentation()


@pytest.mark.parametrize(
    ("found", "usable"),
    [
        (Augmentation(), [0, 1, 2, 3, 4, 5]),
        (Augmentation(mirrored=False), [0, 2, 4]),
        (Augmentation(cropped=False), [0, 1]),
        (Augmentation(mirrored=False, cropped=False), [0]),
    ],
)
def test_views_with_harmful_changes_are_left_out(found, usable):
    assert found.usable(6) == usable
