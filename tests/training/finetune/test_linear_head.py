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


def accuracy_when_left_out(head, labels) -> float:
    return np.mean(head.logits_when_left_out.argmax(-1) == labels[head.tested])


@pytest.mark.parametrize("classes", [2, 3, 7])
def test_predictions_agree_with_scikit_learn(classes):
    features, labels = clusters(classes, 30)
    head = linear_head.fit(features, labels, classes)
    new, expected = clusters(classes, 100, seed=1)
    scale = features[:, 0].std(0)
    rival = LogisticRegression(C=head.c, max_iter=1000).fit(features[:, 0] / scale, labels)
    found = head.logits(new[:, 0]).argmax(-1)
    assert np.mean(found == rival.predict(new[:, 0] / scale)) > 0.99
    assert np.mean(found == expected) > 1.2 / classes
    assert accuracy_when_left_out(head, labels) == pytest.approx(np.mean(found == expected), abs=0.2)


def test_noise_leads_to_more_regularization():
    clear, noisy = (linear_head.fit(*clusters(3, 40, noise=noise), 3) for noise in (0.3, 3.0))
    assert noisy.c < clear.c


def test_views_of_a_photo_stay_in_one_fold():
    """Otherwise, features that identify a photo would look as good as those of its class."""
    rng = np.random.default_rng(0)
    features, labels = np.repeat(rng.normal(size=(60, 1, 40)), 4, axis=1), np.arange(60) % 2
    assert accuracy_when_left_out(linear_head.fit(features, labels, 2), labels) < 0.8


def test_a_class_of_one_photo_is_fitted():
    features, labels = clusters(3, 20)
    head = linear_head.fit(features[:41], labels[:41], 3)
    scores = head.logits(features[:41, 0])[:, 2]
    assert scores.argmax() == 40
    assert np.isfinite(head.bias).all()


@pytest.mark.parametrize("classes", [2, 4])
def test_left_out_photos_are_tested_by_heads_fitted_without_them(classes):
    """Compared with scikit-learn's cross-validation in the same folds."""
    features, labels = clusters(classes, 15)
    head = linear_head.fit(features, labels, classes, grid=(0.1,))
    assert sorted(head.tested.tolist()) == list(range(len(labels)))
    scaled, folds = features[:, 0] / features[:, 0].std(0), linear_head._folds(labels)
    for fold in np.unique(folds):
        out = folds == fold
        assert np.bincount(labels[out], minlength=classes).tolist() == [3] * classes
        rival = LogisticRegression(C=0.1, max_iter=1000).fit(scaled[~out], labels[~out]).predict_proba(scaled[out])
        order = [head.tested.tolist().index(index) for index in np.flatnonzero(out)]
        logits = head.logits_when_left_out[order]
        ours = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
        np.testing.assert_allclose(ours, rival, atol=0.02)


def test_the_usual_c_is_used_if_no_other_is_clearly_better():
    features = np.random.default_rng(0).normal(size=(12, 1, 20))
    assert linear_head.fit(features, np.arange(12) % 3, 3).c == pytest.approx(0.01)


def test_a_clearly_better_c_is_used():
    """The second class has 30 of 120 photos, and is never predicted with a strong regularization."""
    labels = np.repeat([0, 1], [90, 30])
    features = np.random.default_rng(0).normal(size=(120, 1, 3)) + 3 * labels[:, None, None]
    assert linear_head.fit(features, labels, 2, grid=(1e-5, 1.0)).c == 1.0


def test_weights_of_photos_agree_with_scikit_learn():
    """Also in cross-validation. The second class has 30 of 120 photos."""
    labels = np.repeat([0, 1], [90, 30])
    features = np.random.default_rng(0).normal(size=(120, 1, 3)) + labels[:, None, None]
    weights = np.array([2 / 3, 2])[labels]
    head = linear_head.fit(features, labels, 2, grid=(1.0,), weights=weights)
    scaled = features[:, 0] / features[:, 0].std(0)
    rival = LogisticRegression(max_iter=1000).fit(scaled, labels, sample_weight=weights)
    logits = head.logits(features[:, 0])
    np.testing.assert_allclose(logits[:, 1] - logits[:, 0], rival.decision_function(scaled), atol=0.02)
    plain = linear_head.fit(features, labels, 2, grid=(1.0,))
    rare = [np.mean(one.logits_when_left_out.argmax(-1)) for one in (plain, head)]
    assert rare[0] < rare[1]


def test_c_is_chosen_by_weighted_photos():
    """The usual C recognizes all 20 common photos, the other one 14, but also 5 rare ones."""
    hits = {0.01: np.repeat([True, False], [20, 5]), 1.0: np.repeat([False, True], [6, 19])}
    assert linear_head._simplest(hits, np.ones(25)) == 0.01
    assert linear_head._simplest(hits, np.repeat([1, 4], [20, 5])) == 1.0


def test_a_fifth_of_many_photos_is_left_out(monkeypatch):
    monkeypatch.setattr(linear_head, "_MANY", 60)
    features, labels = clusters(3, 20)
    head = linear_head.fit(features, labels, 3)
    assert head.tested.shape == (12,)
    assert head.logits_when_left_out.shape == (12, 3)


def test_two_photos_of_two_classes_are_enough():
    features, labels = clusters(2, 1, views=3)
    head = linear_head.fit(features, labels, 2)
    assert head.logits(features[:, 0]).argmax(-1).tolist() == [0, 1]
    assert head.logits_when_left_out.argmax(-1).tolist() == (1 - labels[head.tested]).tolist()
    assert np.isfinite(head.logits_when_left_out).all()
