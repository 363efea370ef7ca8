from types import SimpleNamespace

import numpy as np
import pytest

from fd_keras.android_bench.random_inputs import fill_inputs, random_pixels


@pytest.mark.parametrize(
    ("dtype", "low", "high"),
    [
        ("uint8", 0, 255),
        ("int8", -128, 127),
        ("int16", -32768, 32767),
        ("float32", 0, 255),
        ("float16", 0, 255),
    ],
)
def test_inputs_fill_the_range_of_their_type(dtype, low, high):
    def pixels():
        return random_pixels(np.random.default_rng(0), np.array([1, 99, 99, 3]), np.dtype(dtype))

    values = pixels().astype("f8")
    width = high - low
    assert pixels().dtype == dtype
    assert values.shape == (1, 99, 99, 3)
    assert low <= values.min() < low + 0.01 * width
    assert high - 0.01 * width < values.max() <= high
    np.testing.assert_array_equal(values, pixels().astype("f8"))


def test_wide_integers_stay_small_and_text_is_rejected():
    rng = np.random.default_rng(0)
    assert set(random_pixels(rng, [50], np.dtype("int32"))) == {0, 1}
    with pytest.raises(ValueError, match="not supported"):
        random_pixels(rng, [1], np.dtype("S4"))


def test_inputs_are_equal_in_all_calls():
    details = [{"index": n, "shape": np.array([1, 4, 4, 3]), "dtype": np.float32} for n in (7, 9)]
    filled = [{}, {}]
    for tensors in filled:
        fill_inputs(SimpleNamespace(get_input_details=lambda: details, set_tensor=tensors.__setitem__))
    assert list(filled[0]) == [7, 9]
    for index in (7, 9):
        np.testing.assert_array_equal(filled[0][index], filled[1][index])
