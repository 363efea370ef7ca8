import numpy as np
import pytest
import tensorflow as tf

from fd_keras.tflite.strips.layers import Axis, layer
from fd_keras.tflite_file import kind_of


@pytest.mark.parametrize("side", [9, 10])
@pytest.mark.parametrize(("size", "stride", "dilation"), [(3, 1, 1), (3, 2, 1), (5, 2, 1), (2, 2, 1), (3, 1, 2)])
@pytest.mark.parametrize("padding", ["SAME", "VALID"])
def test_rows_of_a_window_are_those_that_tensorflow_uses(side, size, stride, dilation, padding):
    """An output row changes with exactly the input rows in the span."""
    one_row_each = np.eye(side, dtype="float32")[:, :, None, None]
    outputs = tf.nn.conv2d(one_row_each, tf.ones((size, 1, 1, 1)), stride, padding, dilations=dilation)[
        ..., 0, 0
    ].numpy()
    axis = Axis.of(side, outputs.shape[1], size, stride, dilation, padding == "SAME")
    for row, output in enumerate(outputs.T):
        used = np.flatnonzero(output)
        first, end = axis.span((row, row + 1))
        assert (max(first, 0), min(end, side)) == (used[0], used[-1] + 1) or dilation > 1
        assert set(used) == set(range(first, end, dilation)) & set(range(side))


def test_rows_that_each_kind_of_operation_needs(parsed):
    """Covers FD-MobileNet's frame and first convolution; the mean needs the whole image, so it is not a layer."""
    model = parsed("fd_mobilenet")
    ops = model.subgraphs[0].operators
    rows, columns, stem = (layer(model, op) for op in ops[1:4])
    image = rows.op.inputs[1]
    assert rows.reads((0, 3)) == {rows.op.inputs[0]: (0, 1), image: (0, 2)}
    assert rows.reads((1, 3)) == {image: (0, 2)}
    assert columns.reads((3, 5)) == dict.fromkeys(columns.op.inputs, (3, 5))
    assert stem.reads((0, 2)) == {stem.op.inputs[0]: (0, 5)}
    assert [layer(model, op) for op in ops if kind_of(model, op) in ("MEAN", "FULLY_CONNECTED", "SOFTMAX")] == [
        None
    ] * 3
