"""Compares sampled anchors and RoIs and the losses with NumPy code written from py-faster-rcnn's description."""

import numpy as np
import pytest
import tensorflow as tf

from fd_keras.training.voc import anchors, boxes, targets

SIZE = (320, 400)
SEED = tf.constant([3, 8])


def areas(found):
    return (found[:, 2] - found[:, 0]) * (found[:, 3] - found[:, 1])


def overlaps_of(found, others):
    """Computes IoU with NumPy."""
    result = np.zeros((len(found), len(others)))
    for i, a in enumerate(found.astype("float64")):
        for j, b in enumerate(others.astype("float64")):
            width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
            common = max(width, 0) * max(height, 0)
            result[i, j] = common / (areas(a[None])[0] + areas(b[None])[0] - common)
    return result


def random_truth(count: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    sides = rng.uniform(30, 160, (count, 2))
    low = rng.uniform(0, np.array(SIZE[::-1]) - sides)
    return np.concatenate([low, low + sides], axis=1).astype("float32")


@pytest.fixture(scope="module", params=[1, 5])
def truth(request):
    return random_truth(request.param, request.param)


def test_anchor_targets(truth):
    grid = anchors.grid(20, 25, 64).numpy()
    labels, deltas = (part.numpy() for part in targets.anchor_targets(tf.constant(grid), truth, SIZE, SEED))
    inside = (grid[:, 0] >= 0) & (grid[:, 1] >= 0) & (grid[:, 2] <= SIZE[1]) & (grid[:, 3] <= SIZE[0])
    found = overlaps_of(grid, truth)
    found[~inside] = -1
    best_of_object = found.max(axis=0)
    positive = inside & ((found.max(axis=1) >= 0.7) | (np.abs(found - best_of_object) < 1e-6).any(axis=1))
    negative = inside & (found.max(axis=1) < 0.3) & ~positive
    assert positive.sum() <= targets.ANCHORS_POSITIVE  # all are sampled
    assert np.array_equal(labels == 1, positive)
    assert not (labels == 0)[~negative].any()
    assert (labels == 0).sum() == targets.ANCHORS - positive.sum()
    nearest = truth[found.argmax(axis=1)]
    expected = boxes.encode(nearest[positive], grid[positive]).numpy()
    assert np.allclose(deltas[positive], expected, atol=1e-5)


def test_at_most_half_of_the_anchors_have_an_object():
    grid = np.tile([[20.0, 20, 84, 84]], (400, 1)).astype("float32") + np.random.default_rng(0).uniform(-1, 1, (400, 4))
    grid = np.concatenate([grid, np.tile([[200, 200, 264, 264]], (400, 1))]).astype("float32")
    labels = targets.anchor_targets(grid, tf.constant([[20.0, 20, 84, 84]]), SIZE, SEED).labels.numpy()
    assert [(labels == value).sum() for value in (1, 0)] == [128, 128]
    assert (labels[:400] != 0).all()
    assert (labels[400:] != 1).all()


def test_an_object_without_overlap_gets_no_anchor():
    grid = np.array([[0, 0, 64, 64]], "float32")
    labels = targets.anchor_targets(grid, tf.constant([[300.0, 200, 350, 250]]), SIZE, SEED).labels.numpy()
    assert labels.tolist() == [0]


def test_sampling_is_uniform_and_a_function_of_the_seed():
    candidates = tf.constant([True] * 6 + [False] * 4)
    draws = [tuple(sorted(targets.draw(candidates, 2, tf.constant([0, seed])).numpy())) for seed in range(600)]
    counts = np.bincount(np.ravel(draws), minlength=10)
    assert not counts[6:].any()
    assert np.abs(counts[:6] - 200).max() < 4 * (600 * 1 / 3 * 2 / 3) ** 0.5  # four standard deviations
    assert draws[:5] == [tuple(sorted(targets.draw(candidates, 2, tf.constant([0, s])).numpy())) for s in range(5)]
    assert targets.draw(candidates, 20, SEED).shape == (6,)


def test_roi_targets(truth):
    rng = np.random.default_rng(9)
    near = np.repeat(truth, 30, axis=0) + rng.normal(0, 12, (30 * len(truth), 4))
    proposals = np.concatenate([near, random_truth(300, 11)]).astype("float32")
    classes = np.arange(len(truth)) + 4
    rois, labels, deltas = (part.numpy() for part in targets.roi_targets(proposals, truth, classes, SEED))
    candidates = np.concatenate([proposals, truth])
    possible = (overlaps_of(candidates, truth).max(axis=1) >= 0.5).sum()
    found = overlaps_of(rois, truth)
    objects = found.max(axis=1) >= 0.5
    assert len(rois) == targets.ROIS
    assert objects.sum() == min(possible, targets.ROIS_POSITIVE)
    assert np.array_equal(labels > 0, objects)
    assert np.array_equal(labels[objects], classes[found.argmax(axis=1)][objects] + 1)
    rows = {tuple(row) for row in candidates.tolist()}
    assert all(tuple(row) in rows for row in rois.tolist())
    moved = boxes.decode(deltas[objects], rois[objects], boxes.VARIANCE)
    assert np.allclose(moved, truth[found.argmax(axis=1)][objects], atol=1e-2)


def test_without_proposals_the_objects_are_the_rois(truth):
    rois, labels, deltas = targets.roi_targets(np.zeros((0, 4), "float32"), truth, np.arange(len(truth)), SEED)
    assert sorted(labels.numpy()) == list(range(1, len(truth) + 1))
    assert np.allclose(deltas, 0, atol=1e-5)
    assert sorted(rois.numpy().tolist()) == sorted(truth.tolist())
