"""Compares boxes, anchors and RoIAlign with NumPy code, and with py-faster-rcnn's published anchors."""

import numpy as np
import pytest
import tensorflow as tf

from fd_keras.training.voc import boxes


def random_boxes(count: int, seed: int, size=(90, 120)) -> np.ndarray:
    rng = np.random.default_rng(seed)
    corners = rng.uniform(0, [size[1], size[0]], (count, 2, 2))
    return np.concatenate([corners.min(axis=1), corners.max(axis=1) + 1], axis=1).astype("float32")


def test_iou_counts_pixels():
    """For boxes of whole pixels, overlap is a count of pixels."""
    rng = np.random.default_rng(0)
    low = rng.integers(0, 12, (20, 2))
    found = np.concatenate([low, low + rng.integers(1, 9, (20, 2))], axis=1)
    masks = np.zeros((20, 24, 24), bool)
    for mask, (x1, y1, x2, y2) in zip(masks, found, strict=True):
        mask[y1:y2, x1:x2] = True
    expected = (masks[:, None] & masks[None]).sum((2, 3)) / (masks[:, None] | masks[None]).sum((2, 3))
    given = tf.constant(found, tf.float32)
    assert np.allclose(boxes.iou(given[:7], given), expected[:7], atol=1e-6)


def test_iou_of_empty_boxes_is_zero():
    empty = tf.constant([[3.0, 3, 3, 3], [9, 9, 5, 5]])
    assert not boxes.iou(empty, tf.concat([empty, [[0.0, 0, 10, 10]]], axis=0)).numpy().any()


def test_encode_follows_the_paper_and_decode_inverts_it():
    truth, from_ = random_boxes(30, 1), random_boxes(30, 2)
    deltas = boxes.encode(truth, from_, boxes.VARIANCE).numpy()
    (x1, y1, x2, y2), (a1, b1, a2, b2) = truth[0].astype("float64"), from_[0].astype("float64")
    expected = [
        ((x1 + x2) / 2 - (a1 + a2) / 2) / (a2 - a1) / 0.1,
        ((y1 + y2) / 2 - (b1 + b2) / 2) / (b2 - b1) / 0.1,
        np.log((x2 - x1) / (a2 - a1)) / 0.2,
        np.log((y2 - y1) / (b2 - b1)) / 0.2,
    ]
    assert np.allclose(deltas[0], expected, rtol=1e-4)
    assert np.allclose(boxes.decode(deltas, from_, boxes.VARIANCE), truth, atol=1e-3)


def test_decode_supports_several_boxes_per_anchor():
    from_, deltas = random_boxes(4, 3), np.random.default_rng(3).normal(size=(4, 5, 4)).astype("float32")
    found = boxes.decode(deltas, from_[:, None]).numpy()
    for column in range(5):
        assert np.allclose(found[:, column], boxes.decode(deltas[:, column], from_), atol=1e-4)


def test_decode_stays_finite():
    assert np.isfinite(boxes.decode(tf.constant([[0.0, 0, 1e4, 1e4]]), tf.constant([[0.0, 0, 10, 10]]))).all()


def test_mirror_follows_the_flipped_pixels():
    image = np.zeros((4, 9))
    image[1:3, 2:4] = 1
    x1, y1, x2, y2 = boxes.mirror(tf.constant([[2.0, 1, 4, 3]]), 9.0).numpy()[0].astype(int)
    assert image[:, ::-1][y1:y2, x1:x2].all()
    assert image.sum() == (x2 - x1) * (y2 - y1)


def test_pixels_and_edges_are_converted():
    pixels = random_boxes(5, 4)
    assert np.array_equal(boxes.to_pixels(boxes.from_pixels(pixels)), pixels)
    assert boxes.from_pixels(np.array([[3, 4, 3, 4]], "float32")).tolist() == [[3, 4, 4, 5]]


def test_clip():
    found = boxes.clip(tf.constant([[-3.0, -4, 50, 60], [2, 3, 4, 5]]), (20, 30))
    assert found.numpy().tolist() == [[0, 0, 30, 20], [2, 3, 4, 5]]


def roi_align_by_loops(features: np.ndarray, box, size: int, stride: int) -> np.ndarray:
    """torchvision's RoIAlign with one sample per bin, written from its description (arXiv 1703.06870, section 3)."""
    height, width, channels = features.shape
    x1, y1, x2, y2 = ((edge - 0.5) / stride for edge in box)
    result = np.zeros((size, size, channels))
    for row in range(size):
        for column in range(size):
            y = np.clip(y1 + (row + 0.5) * (y2 - y1) / size, 0, height - 1)
            x = np.clip(x1 + (column + 0.5) * (x2 - x1) / size, 0, width - 1)
            for j in range(height):
                for i in range(width):
                    weight = max(0, 1 - abs(y - j)) * max(0, 1 - abs(x - i))
                    result[row, column] += weight * features[j, i]
    return result


both_forms = pytest.mark.parametrize("for_tflite", [False, True])


@both_forms
@pytest.mark.parametrize("size", [3, 4])
def test_roi_align(size, for_tflite):
    rng = np.random.default_rng(5)
    features = rng.normal(size=(6, 8, 2))
    found = np.concatenate([random_boxes(5, 6), [[0, 0, 128, 96], [0, 0, 1, 1], [127, 95, 128, 96]]])
    crops = boxes.roi_align(features[None].astype("float32"), found.astype("float32"), size, 16, for_tflite=for_tflite)
    expected = [roi_align_by_loops(features, box, size, 16) for box in found]
    assert np.allclose(crops, expected, atol=1e-5)


@pytest.mark.parametrize("origin", [(0, 0), (15, 7)])
def test_both_implementations_of_roi_align_and_their_gradients_agree(origin):
    """On a map of the paper's size. Corners as shares of it, which `crop_and_resize` takes, round by 2^-24 at least.

    That moves a sample by some 1e-5 of a cell, and neighbors differ by up to 8 here; in the gradient, tens of such
    differences are added up.
    """
    rng = np.random.default_rng(8)
    features, found = tf.constant(rng.normal(size=(1, 38, 50, 16)), tf.float32), random_boxes(64, 9, (599, 799))
    weights = tf.constant(rng.normal(size=(64, 14, 14, 16)), tf.float32)
    results = []
    for for_tflite in (False, True):
        with tf.GradientTape() as tape:
            tape.watch(features)
            crops = boxes.roi_align(features, found, 14, 16, origin, for_tflite)
            total = tf.reduce_sum(crops * weights)
        results.append((crops.numpy(), tape.gradient(total, features).numpy()))
    (crops, gradient), (others, other_gradient) = results
    assert not np.array_equal(crops, others)
    assert np.allclose(crops, others, atol=2e-4)
    assert np.allclose(gradient, other_gradient, atol=1e-4 * np.abs(gradient).max())


@both_forms
@pytest.mark.parametrize("origin", [(0, 0), (3, 15)])
def test_roi_align_samples_the_right_pixel(origin, for_tflite):
    """Ramps over the image, of which the cell i of the features holds pixel origin + 16 i, give the bins' middles."""
    y, x = (start + 16.0 * np.arange(count) for start, count in zip(origin, (6, 10), strict=True))
    ramps = np.stack(np.meshgrid(x, y), axis=-1)[None].astype("float32")
    (crop,) = boxes.roi_align(ramps, tf.constant([[20.0, 10, 90, 66]]), 7, 16, origin, for_tflite).numpy()
    assert np.allclose(crop[..., 0], 25 + 10 * np.arange(7) - 0.5, atol=1e-4)
    assert np.allclose(crop[..., 1].T, 14 + 8 * np.arange(7) - 0.5, atol=1e-4)


@both_forms
def test_the_gradient_of_roi_align_is_deterministic(for_tflite):
    rng = np.random.default_rng(7)
    features, found = tf.constant(rng.normal(size=(1, 20, 25, 64)), tf.float32), random_boxes(64, 8, (320, 400))
    weights = tf.constant(rng.normal(size=(64, 7, 7, 64)), tf.float32)

    @tf.function
    def gradient():
        with tf.GradientTape() as tape:
            tape.watch(features)
            total = tf.reduce_sum(boxes.roi_align(features, found, 7, 16, for_tflite=for_tflite) * weights)
        return tape.gradient(total, features)

    first = gradient().numpy()
    assert all(np.array_equal(first, gradient()) for _ in range(5))
