"""All networks of the zoo as backbones: weights, frozen layers, and detections in images of any size."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

from fd_keras import spec, zoo
from fd_keras.applications import build_by_name
from fd_keras.training.voc import (
    anchors,
    backbone,
    boxes,
    faster_rcnn,
)
from fd_keras.training.voc.detector_recipe import PAPER, DetectorRecipe
from tests.training.voc.small_nets import SMALL, build, net_of


def first_trained(net: keras.Model, name: str) -> str:
    """Returns the first op of a backbone whose kernel is trained."""
    trained = {weight.path.split("/")[0] for weight in net.trainable_weights}
    return next(op.name for op in spec.lower(zoo.get_arch(name), 0.25, (None, None)) if op.name in trained)


every_network = pytest.mark.parametrize("name", zoo.ARCHS)


@every_network
def test_every_network_is_a_backbone(name):
    net = net_of(name)
    trunk, rest = spec.cut(spec.lower(zoo.get_arch(name), 0.25, (None, None), include_top=False), 16)
    image, crops = np.zeros((1, 70, 101, 3), "float32"), np.zeros((5, 4, 4, trunk[-1].cout), "float32")
    features, objectness, moved, logits, found = net([image, crops])
    assert features.shape == (1, 5, 7, trunk[-1].cout)
    assert objectness.shape == (1, 5, 7, anchors.COUNT)
    assert moved.shape == (1, 5, 7, 4 * anchors.COUNT)
    assert logits.shape == (5, 4)
    assert found.shape == (5, 3, 4)
    assert net.get_layer("roi_pool").input.shape[1:] == (2, 2, rest[-1].cout)


@every_network
def test_the_losses_of_a_fresh_detector_are_those_of_guessing(name):
    net = net_of(name)
    channels = net.get_layer("crops").output.shape[-1]
    rng = np.random.default_rng(0)
    image, crops = rng.uniform(0, 255, (1, 70, 101, 3)), rng.uniform(0, 2, (5, 4, 4, channels))
    _, objectness, _, logits, _ = (array.numpy() for array in net([image.astype("float32"), crops.astype("float32")]))
    assert np.log1p(np.exp(-objectness)).mean() == pytest.approx(np.log(2), rel=0.05)
    assert (np.log(np.exp(logits).sum(-1)) - logits.mean(-1)).mean() == pytest.approx(np.log(4), rel=0.05)


@every_network
def test_trunk_and_head_are_the_whole_network(name):
    """Both parts, applied in sequence to all features, give the output of the zoo's network."""
    whole = build_by_name(name, alpha=0.25, input_shape=(96, 96, 3), include_top=False, weights=None)
    rng = np.random.default_rng(0)
    for layer in whole.layers:
        layer.set_weights([rng.uniform(0.2, 0.4, weight.shape) * rng.choice((-1, 2), weight.shape[-1:])
                           if "kernel" in weight.path else rng.uniform(0.5, 1, weight.shape)
                           for weight in layer.weights])  # fmt: skip
    net = build(name, dataclasses.replace(SMALL, roi_size=6))
    for layer in whole.layers:
        if layer.weights:
            net.get_layer(layer.name).set_weights(layer.get_weights())
    image = rng.uniform(0, 255, (1, 96, 96, 3)).astype("float32")
    stages = faster_rcnn.FasterRCNN(net, SMALL)
    features = stages._first(image)[0]
    head = keras.Model(net.get_layer("crops").output, net.get_layer("roi_pool").input)
    expected = whole(image).numpy().astype("float64")
    assert np.isfinite(expected).all()
    assert expected.std() > 0
    assert np.allclose(head(features), expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize(("stride", "first"), [(0, "conv1"), (2, "conv_dw_1"), (4, "conv_dw_2"), (16, "conv_dw_6")])
def test_early_layers_are_frozen(stride, first):
    net = build("fd_mobilenet", dataclasses.replace(SMALL, freeze_stride=stride))
    assert first_trained(net, "fd_mobilenet") == first


def test_frozen_layers_of_a_shufflenet_end_at_the_feature_map():
    net = build("shufflenet", dataclasses.replace(SMALL, freeze_stride=4))
    assert first_trained(net, "shufflenet") == "stage2_unit1_compress"


@pytest.mark.parametrize(("padding", "size"), [("symmetric", (481, 472)), ("same", (480, 512)), ("same", (481, 486))])
def test_cells_are_centered_at_the_stated_pixels(padding, size):
    """Checks the center of a cell's receptive field, with symmetric kernels."""
    arch = dataclasses.replace(zoo.get_arch("mobilenet"), padding=padding)
    net = faster_rcnn.build_net(backbone.Backbone(arch, 0.125), 3, SMALL)
    for layer in net.layers:
        if layer.weights and not isinstance(layer, keras.layers.BatchNormalization):
            layer.set_weights([np.full(weight.shape, 0.1) for weight in layer.weights])
    stages, cell = faster_rcnn.FasterRCNN(net, SMALL), (15, 14)  # far from the borders
    image = tf.Variable(tf.fill((*size, 3), 255.0))
    with tf.GradientTape() as tape:
        first = stages.propose(image, tf.constant(1.0), training=True)
        seen = tf.reduce_sum(first.features[0, cell[0], cell[1]])
    weights = tape.gradient(seen, image).numpy().sum(-1)
    weights /= weights.sum()
    middle = [float((weights.sum(1 - axis) * np.arange(side)).sum()) for axis, side in enumerate(size)]
    assert np.allclose(middle, np.array(first.origin) + 16 * np.array(cell), atol=1e-2)
    assert padding == "same" or first.origin == [0, 0]


def told(recipe: DetectorRecipe, size, objects, classes=3) -> faster_rcnn.FasterRCNN:
    """Returns a detector whose first stage prefers the anchors closest to some boxes, and moves them onto the boxes.

    Args:
        objects: Pairs of (box, logits of the classes and the background first).
    """
    height, width = (side // 16 for side in size)
    grid = anchors.grid(height, width, recipe.anchor_size).numpy()
    logits, deltas = np.full(len(grid), -9.0, "float32"), np.zeros((len(grid), 4), "float32")
    for place, (box, _) in enumerate(objects):
        nearest = int(np.argmax(boxes.iou(grid, np.array([box], "float32"))[:, 0] - (logits > 0)))
        logits[nearest] = 9 - place
        deltas[nearest] = boxes.encode(np.array([box], "float32"), grid[nearest : nearest + 1])[0]
    stages = faster_rcnn.FasterRCNN(build("fd_mobilenet", recipe, classes), recipe)
    stages._first = lambda image, training: (
        tf.zeros((1, height, width, 8)),
        tf.constant(logits)[None],
        tf.constant(deltas)[None],
    )
    wanted = np.array([scores for _, scores in objects], "float32")

    def second(crops, training):
        scores = np.full((crops.shape[0], classes + 1), -9.0, "float32")
        scores[:, 0] = 9
        scores[: len(wanted)] = wanted
        return tf.constant(scores), tf.zeros((crops.shape[0], classes, 4))

    stages._second = second
    return stages


def test_suppression_is_within_each_class():
    size, recipe = (128, 160), dataclasses.replace(SMALL, test_proposals=12, rpn_iou=0.95)
    one, close, apart = [20.0, 20, 60, 60], [22.0, 20, 62, 60], [90.0, 70, 130, 120]
    stages = told(recipe, size, [(one, [0, 5, 0, 0]), (close, [0, 4, 3.5, 0]), (apart, [0, -5, -5, 3])])
    found, scores, labels, count = (part.numpy() for part in stages.detect(tf.zeros((*size, 3)), tf.constant(1.0)))
    kept = {(round(float(box[0])), int(label)) for box, label in zip(found[:count], labels, strict=False)}
    # `close` overlaps `one` by 0.9; its score is lower for class 0, but higher for class 1.
    assert kept == {(20, 0), (22, 1), (90, 2)}
    assert (np.diff(scores) <= 0).all()
    assert (scores[:count] > faster_rcnn.MIN_SCORE).all()
    assert not found[count:].any()
    assert len(found) == faster_rcnn.MOST


def test_small_and_overlapping_proposals_are_removed():
    size, recipe = (128, 160), dataclasses.replace(SMALL, min_size=16)
    objects = [([20.0, 20, 60, 60], []), ([22.0, 20, 62, 60], []), ([100.0, 100, 110, 110], [])]
    stages = told(recipe, size, [(box, [0] * 4) for box, _ in objects])
    first = stages.propose(tf.zeros((*size, 3)), tf.constant(1.0), training=True)
    assert first.boxes.shape[0] == int(first.valid)
    assert np.allclose(first.boxes[0], objects[0][0], atol=1e-3)
    rest = first.boxes.numpy()[1:]
    assert not np.isclose(rest, objects[1][0], atol=1e-3).all(axis=1).any()
    sides = first.boxes.numpy()[:, 2:] - first.boxes.numpy()[:, :2]
    assert (sides >= 16).all()
    halved = stages.propose(tf.zeros((*size, 3)), tf.constant(0.5), training=True).boxes.numpy()
    assert np.isclose(halved, objects[2][0], atol=1e-3).all(axis=1).any()  # 16 pixels of the original are 8 here


@pytest.mark.parametrize(
    ("size", "fitted"),
    [((375, 500), (600, 800)), ((500, 375), (800, 600)), ((200, 500), (400, 1000)), ((90, 90), (600,) * 2)],
)
def test_images_are_resized_as_in_the_paper(size, fitted):
    image, factors = faster_rcnn.fit(tf.zeros((*size, 3), tf.uint8), PAPER)
    assert tuple(image.shape[:2]) == fitted
    assert np.allclose(factors, np.tile([fitted[1] / size[1], fitted[0] / size[0]], 2))
