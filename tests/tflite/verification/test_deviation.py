import numpy as np
import pytest

from fd_keras.tflite.verification.deviation import Deviation


@pytest.fixture
def reference() -> np.ndarray:
    return np.random.default_rng(0).normal([5, -1, 100], [1, 0.5, 2], (200, 3)).astype("float32")


def deviation(outputs, reference, batch=64) -> Deviation:
    found = Deviation()
    for start in range(0, len(outputs), batch):
        found.update(outputs[start : start + batch], reference[start : start + batch])
    return found


def test_sums_over_batches_are_numpy_s(reference):
    noisy = reference + np.random.default_rng(1).normal(0, 0.1, reference.shape)
    found, error = deviation(noisy, reference), noisy - reference
    np.testing.assert_allclose(found.spread, reference.std(axis=0), rtol=1e-5)
    assert found.mean_error == pytest.approx(np.abs(error).mean(), rel=1e-6)
    expected = min(np.corrcoef(noisy[:, i], reference[:, i])[0, 1] for i in range(3))
    assert found.correlation == pytest.approx(expected, rel=1e-6)
    by_output = np.sqrt(np.mean(error**2, axis=0)) / reference.std(axis=0)
    assert found.relative_error(pooled=False, even=True) == pytest.approx(by_output.max(), rel=1e-5)


@pytest.mark.parametrize("pooled", [True, False])
def test_constant_and_opposite_outputs_are_as_far_as_documented(reference, pooled):
    mean = reference.mean(axis=0)
    constant = deviation(np.broadcast_to(mean, reference.shape), reference)
    assert constant.relative_error(pooled=pooled, even=True) == pytest.approx(1, rel=1e-4)
    assert constant.correlation is None
    opposite = deviation(2 * mean - reference, reference)
    assert opposite.relative_error(pooled=pooled, even=True) == pytest.approx(2, rel=1e-4)
    assert opposite.correlation == pytest.approx(-1)


def test_rounding_of_outputs_that_hardly_vary_counts_less(reference):
    """Embeddings have channels that are nearly constant, which integers with a single scale cannot resolve."""
    reference = reference * np.array([1, 1, 1e-4])
    rounded = reference + np.array([0, 0, 1e-3])
    assert deviation(rounded, reference).relative_error(pooled=False, even=False) < 0.1
    assert deviation(rounded, reference).relative_error(pooled=False, even=True) > 1


def test_errors_below_an_integer_step_do_not_count():
    reference = np.random.default_rng(0).normal(0.5, 1e-4, (50, 1)).astype("float32")
    level = np.full_like(reference, 0.5)
    assert deviation(level, reference).relative_error(pooled=True, even=True) == pytest.approx(1, rel=0.1)
    assert deviation(level, reference).relative_error(pooled=True, even=True, step=1 / 256) < 0.1
    assert deviation(level + 1 / 256, reference).relative_error(pooled=True, even=True, step=1 / 256) > 0.9


def test_outputs_that_are_always_zero_have_no_error():
    zeros = np.zeros((10, 2), "float32")
    assert deviation(zeros, zeros).relative_error(pooled=False, even=False) == 0
    assert not deviation(zeros * np.nan, zeros).relative_error(pooled=False, even=False) <= 1
