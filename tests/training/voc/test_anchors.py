import numpy as np
import pytest
import tensorflow as tf

from fd_keras.training.voc import anchors, boxes

# rbgirshick/py-faster-rcnn, lib/rpn/generate_anchors.py, its docstring: first and last pixels.
PUBLISHED = [
    [-83, -39, 100, 56],
    [-175, -87, 192, 104],
    [-359, -183, 376, 200],
    [-55, -55, 72, 72],
    [-119, -119, 136, 136],
    [-247, -247, 264, 264],
    [-35, -79, 52, 96],
    [-79, -167, 96, 184],
    [-167, -343, 184, 360],
]


def test_base_anchors_are_the_published_ones():
    # The docstring counts pixels from 1, as MATLAB does.
    assert boxes.to_pixels(anchors.base_anchors(128)).tolist() == (np.array(PUBLISHED) - 1).tolist()


def test_anchors_scale_with_their_size():
    assert np.allclose(anchors.base_anchors(64) - 8, (anchors.base_anchors(128) - 8) / 2)


@pytest.mark.parametrize("fixed", [True, False])
def test_the_grid_is_ordered_by_row_and_column(fixed):
    grid = (
        anchors.grid(2, 3, 128) if fixed else tf.function(anchors.grid)(tf.constant(2), tf.constant(3), 128)
    ).numpy()
    base = anchors.base_anchors(128)
    expected = [base + [16 * x, 16 * y, 16 * x, 16 * y] for y in range(2) for x in range(3)]
    assert np.array_equal(grid, np.concatenate(expected))
