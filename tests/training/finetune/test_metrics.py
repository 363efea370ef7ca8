import math

import numpy as np
import pytest
import scipy.stats
import sklearn.metrics

from fd_keras.training.finetune import metrics
from fd_keras.training.finetune.results import ClassCount, Measured
from tests.training.finetune.made_results import answers


def drawn(photos: int, classes: int) -> list[int]:
    return np.random.default_rng(0).integers(0, classes, photos).tolist()


@pytest.mark.parametrize(("hits", "total"), [(0, 1), (1, 1), (0, 10), (10, 10), (7, 10), (37, 40), (2900, 3925)])
def test_the_interval_equals_scipys(hits, total):
    expected = scipy.stats.binomtest(hits, total).proportion_ci(method="wilson")
    assert metrics.wilson_interval(hits, total) == pytest.approx((expected.low, expected.high), abs=1e-7)


@pytest.mark.parametrize(
    ("photos", "classes"), [(40, 2), (200, 7), (15, 12)]
)  # in the last case, some classes have no photos
def test_class_metrics_equal_those_of_scikit_learn(photos, classes):
    measured = answers(drawn(photos, classes), classes)
    named = measured.probabilities.argmax(-1)
    matrix = metrics.confusion_matrix(measured)
    assert np.array_equal(matrix, sklearn.metrics.confusion_matrix(measured.labels, named, labels=range(classes)))
    expected = sklearn.metrics.precision_recall_fscore_support(
        measured.labels, named, labels=range(classes), zero_division=np.nan
    )
    found = [(one.precision, one.recall, one.f1, one.photos) for one in metrics.class_metrics(matrix)]
    np.testing.assert_allclose(found, np.transpose(expected))


def test_top5_equals_scikit_learns_and_needs_many_classes():
    measured = answers(drawn(300, 20), 20)
    expected = sklearn.metrics.top_k_accuracy_score(measured.labels, measured.probabilities, k=5, labels=range(20))
    assert metrics.top5(measured) == pytest.approx(expected)
    assert metrics.top5(answers(drawn(10, 11), 11)) is not None
    assert metrics.top5(answers(drawn(10, 10), 10)) is None


@pytest.fixture
def four():
    """Photos of three classes: correct, wrong with 0.9, wrong with 0.6, and barely correct."""
    probabilities = np.array([[0.9, 0.1, 0], [0.9, 0.1, 0], [0.1, 0.3, 0.6], [0.3, 0.36, 0.34]], "float32")
    return Measured(list("abcd"), np.array([0, 2, 1, 1]), probabilities)


def test_notable_photos_are_sorted(four):
    assert metrics.confident_mistakes(four, 9).tolist() == [1, 2]
    assert metrics.confident_mistakes(four, 1).tolist() == [1]
    assert metrics.least_certain(four, 9, np.array([1, 2])).tolist() == [3, 0]
    assert metrics.least_certain(four, 2, np.array([], int)).tolist() == [3, 2]


def test_confused_pairs_are_counted():
    matrix = np.array([[5, 2, 0], [0, 9, 3], [2, 0, 1]])
    assert metrics.confused_pairs(matrix, 2) == [(1, 2, 3), (0, 1, 2)]
    assert metrics.confused_pairs(matrix, 9) == [(1, 2, 3), (0, 1, 2), (2, 0, 2)]
    assert metrics.confused_pairs(np.eye(3, dtype=int), 9) == []


def test_an_absent_class_has_no_metrics():
    lonely = metrics.class_metrics(np.array([[3, 0], [0, 0]]))[1]
    assert lonely.photos == 0
    assert all(map(math.isnan, (lonely.precision, lonely.recall, lonely.f1)))


def test_the_most_frequent_class_is_counted_in_training_photos(four):
    counts = [ClassCount("a", 3, 1), ClassCount("b", 9, 2), ClassCount("c", 9, 1)]
    assert metrics.majority(four, counts) == (1, 0.5)


def test_two_classifiers_are_compared_photo_by_photo(four):
    other = Measured(four.paths, four.labels, four.probabilities[[1, 2, 3, 0]])
    assert metrics.discordant(four, other) == (1, 2)
    assert metrics.discordant(four, answers([0, 1, 2, 0], 3)) is None
