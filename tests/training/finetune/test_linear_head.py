import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from fd_keras.training.finetune import linear_head


def clusters(classes: int, each: int, views: int = 1, noise: float = 1.0, seed: int = 0):
    """Features around a point for each class, as (photos, views, features), and their labels."""
    rng = np.random.default_rng(seed)
    centers = np.random.default_rng(100).normal(size=(classes, 20)) * np.linspace(0.1, 10, 20)
    labels = np.repeat(np.arange(classes), each)
    spread = noise * rng.normal(size=(len(labels), views, 20)) * np.linspace(0.1, 10, 20)
    return centers[labels][:, None] + spread, labels


@pytest.mark.parametrize("classes", [2, 3, 7])
def test_new_photos_are_told_apart_as_scikit_learn_does(classes):
    features, labels = clusters(classes, 30)
    head = linear_head.fit(features, labels, classes)
    new, expected = clusters(classes, 100, seed=1)
    scale = features[:, 0].std(0)
    rival = LogisticRegression(C=head.c, max_iter=1000).fit(features[:, 0] / scale, labels)
    found = head.logits(new[:, 0]).argmax(-1)
    assert np.mean(found == rival.predict(new[:, 0] / scale)) > 0.99
    assert np.mean(found == expected) > 1.2 / classes
    assert head.accuracy == pytest.approx(np.mean(found == expected), abs=0.2)


def test_noise_asks_for_more_regularization():
    clear, noisy = (linear_head.fit(*clusters(3, 40, noise=noise), 3) for noise in (0.3, 3.0))
    assert noisy.c < clear.c


def test_views_of_a_photo_stay_in_one_fold():
    """Otherwise features that only name the photo would look as good as those of its class."""
    rng = np.random.default_rng(0)
    features, labels = np.repeat(rng.normal(size=(60, 1, 40)), 4, axis=1), np.arange(60) % 2
    assert linear_head.fit(features, labels, 2).accuracy < 0.8


def test_a_class_of_one_photo_is_in_the_head():
    features, labels = clusters(3, 20)
    head = linear_head.fit(features[:41], labels[:41], 3)
    assert head.logits(features[40:41, 0]).argmax() == 2
    assert np.isfinite(head.bias).all()
