import numpy as np
import pytest
from sklearn.metrics import accuracy_score, log_loss

from fd_keras.training.finetune.results import Measured


def test_metrics_equal_those_of_scikit_learn():
    random = np.random.default_rng(0)
    shares, labels = random.dirichlet(np.ones(4), 9).astype("float32"), np.arange(9) % 4
    measured = Measured([f"{n}.jpg" for n in range(9)], labels, shares)
    assert measured.top1 == accuracy_score(labels, shares.argmax(-1))
    assert measured.hits == round(9 * measured.top1)
    assert measured.cross_entropy == pytest.approx(log_loss(labels, shares, labels=range(4)), rel=1e-5)


def test_a_probability_of_zero_has_a_large_but_finite_loss():
    measured = Measured(["a.jpg"], np.array([1]), np.array([[1.0, 0.0]], "float32"))
    assert 10 < measured.cross_entropy < 20
