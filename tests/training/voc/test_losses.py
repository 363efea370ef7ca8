import numpy as np
import pytest
import tensorflow as tf

from fd_keras.training.voc import losses


def test_smooth_l1_is_continuous():
    for sigma in (1.0, 3.0):
        edge = 1 / sigma**2
        values = losses.smooth_l1(tf.constant([[edge / 2], [edge], [-edge - 2]]), sigma).numpy()
        assert np.allclose(values, [sigma**2 * edge**2 / 8, edge / 2, 2 + edge / 2], rtol=1e-6)


def test_anchor_losses_equal_manual_results():
    logits, labels = np.array([0.3, -1.2, 2.0, 0.5], "float32"), np.array([1, 0, -1, 1], "int32")
    expected = np.mean([np.log1p(np.exp(-0.3)), np.log1p(np.exp(-1.2)), np.log1p(np.exp(-0.5))])
    assert losses.objectness(logits, labels).numpy() == pytest.approx(expected, rel=1e-5)
    differences = np.zeros((4, 4), "float32")
    differences[0], differences[2], differences[3, 0] = 0.05, 7, 2
    expected = (4 * 0.5 * 9 * 0.05**2 + (2 - 0.5 / 9)) / 3
    found = losses.anchor_boxes(differences, np.zeros((4, 4), "float32"), labels)
    assert found.numpy() == pytest.approx(expected, rel=1e-5)


def test_roi_losses_equal_manual_results():
    logits, labels = np.random.default_rng(0).normal(size=(3, 4)).astype("float32"), np.array([2, 0, 3], "int32")
    expected = np.mean([np.log(np.exp(row).sum()) - row[label] for row, label in zip(logits, labels, strict=True)])
    assert losses.classes(logits, labels).numpy() == pytest.approx(expected, rel=1e-5)
    deltas = np.full((3, 3, 4), 100.0, "float32")  # boxes of other classes do not count
    deltas[0, 1], deltas[2, 2] = 0.5, 3
    found = losses.roi_boxes(deltas, np.zeros((3, 4), "float32"), labels)
    assert found.numpy() == pytest.approx((4 * 0.125 + 4 * 2.5) / 3, rel=1e-5)


def test_without_samples_losses_are_zero():
    none = np.full(3, -1, "int32")
    assert losses.objectness(np.ones(3, "float32"), none) == 0
    assert losses.anchor_boxes(np.ones((3, 4), "float32"), np.zeros((3, 4), "float32"), none) == 0
