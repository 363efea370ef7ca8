"""Every network of the zoo as a backbone; its weights; what a detector says of images of any size."""

import dataclasses
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf

from fd_keras import checkpoints, imagenet, spec, zoo
from fd_keras.applications import build_by_name
from fd_keras.training.optimizer import TorchSGD
from fd_keras.training.voc import (
    anchors,
    backbone,
    boxes,
    detection_pipeline,
    detector,
    faster_rcnn,
    trainable_detector,
)
from fd_keras.training.voc.detector_recipe import PAPER, DetectorRecipe

SMALL = DetectorRecipe(short_side=64, long_side=128, roi_size=4, anchor_size=16, rpn_channels=8, freeze_stride=0)


def build(name: str, recipe: DetectorRecipe = SMALL, classes: int = 3) -> keras.Model:
    keras.utils.set_random_seed(1)
    return faster_rcnn.build_net(backbone.choose(name, 0.25), classes, recipe)


def first_trained(net: keras.Model, name: str) -> str:
    """The first op of a backbone whose kernel is trained."""
    trained = {weight.path.split("/")[0] for weight in net.trainable_weights}
    return next(op.name for op in spec.lower(zoo.get_arch(name), 0.25, (None, None)) if op.name in trained)


@pytest.fixture(scope="module")
def nets():
    return {name: build(name) for name in zoo.ARCHS}


every_network = pytest.mark.parametrize("name", zoo.ARCHS)


@every_network
def test_every_network_is_a_backbone(name, nets):
    net = nets[name]
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
def test_trunk_and_head_are_the_whole_network(name, nets):
    """Run one after the other on all of the features, they give what the zoo's network gives."""
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


@every_network
def test_a_step_trains_all_but_what_is_frozen(name, nets):
    net = nets[name]
    trainee = trainable_detector.TrainableDetector(faster_rcnn.FasterRCNN(net, SMALL), TorchSGD(0.01), seed=0)
    before = {weight.path: weight.numpy() for weight in net.weights}
    rng = np.random.default_rng(2)
    for shape in ((64, 90, 3), (80, 64, 3)):
        image = tf.constant(rng.uniform(0, 255, shape), tf.float32)
        example = detection_pipeline.Example(
            image, tf.constant(1.0), tf.constant([[8.0, 8, 40, 50]]), tf.constant([2], tf.int64)
        )
        assert np.isfinite(trainee.step(example)).all()
    changed = {weight.path for weight in net.weights if not np.array_equal(before[weight.path], weight.numpy())}
    assert changed == {weight.path for weight in net.trainable_weights}
    assert {path.split("/")[-1] for path in changed} == {"kernel", "bias"}  # and no batch normalization
    assert trainee.step.experimental_get_tracing_count() == 1
    assert int(trainee.steps.numpy()) == 2
    assert int(trainee.bad_step.numpy()) == -1


@pytest.mark.parametrize(("stride", "first"), [(0, "conv1"), (2, "conv_dw_1"), (4, "conv_dw_2"), (16, "conv_dw_6")])
def test_early_layers_stay(stride, first):
    net = build("fd_mobilenet", dataclasses.replace(SMALL, freeze_stride=stride))
    assert first_trained(net, "fd_mobilenet") == first


def test_frozen_layers_of_a_shufflenet_end_with_the_feature_map():
    net = build("shufflenet", dataclasses.replace(SMALL, freeze_stride=4))
    assert first_trained(net, "shufflenet") == "stage2_unit1_compress"


def test_the_saved_net_is_the_net(nets, tmp_path):
    path = str(tmp_path / "net.keras")
    nets["fd_shufflenet"].save(path)
    config = SMALL.settings() | {"backbone": "fd_shufflenet", "alpha": 0.25}
    image = np.random.default_rng(3).integers(0, 256, (70, 90, 3), "uint8")
    found = [
        detector.Detector(net, config, ("a", "b", "c"), "x")(image)
        for net in (nets["fd_shufflenet"], keras.models.load_model(path))
    ]
    assert len(found[0])
    assert np.array_equal(found[0].boxes, found[1].boxes)
    assert np.array_equal(found[0].scores, found[1].scores)


@pytest.mark.parametrize(("padding", "size"), [("symmetric", (481, 472)), ("same", (480, 512)), ("same", (481, 486))])
def test_cells_look_where_they_are_said_to(padding, size):
    """By the middle of what a cell depends on, with kernels that are alike in all directions."""
    arch = dataclasses.replace(zoo.get_arch("mobilenet"), padding=padding)
    net = faster_rcnn.build_net(backbone.Backbone(arch, 0.125), 3, SMALL)
    for layer in net.layers:
        if layer.weights and not isinstance(layer, keras.layers.BatchNormalization):
            layer.set_weights([np.full(weight.shape, 0.1) for weight in layer.weights])
    stages, cell = faster_rcnn.FasterRCNN(net, SMALL), (15, 14)  # far from all sides
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
    """A detector whose first stage is sure of the anchors nearest to some boxes, and moves them onto these.

    Args:
        objects: pairs of (box, logits of the classes and the background first).
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


def test_detections_are_suppressed_within_their_class_only():
    size, recipe = (128, 160), dataclasses.replace(SMALL, test_proposals=12, rpn_iou=0.95)
    one, close, apart = [20.0, 20, 60, 60], [22.0, 20, 62, 60], [90.0, 70, 130, 120]
    stages = told(recipe, size, [(one, [0, 5, 0, 0]), (close, [0, 4, 3.5, 0]), (apart, [0, -5, -5, 3])])
    found, scores, labels, count = (part.numpy() for part in stages.detect(tf.zeros((*size, 3)), tf.constant(1.0)))
    kept = {(round(float(box[0])), int(label)) for box, label in zip(found[:count], labels, strict=False)}
    # `close` is worse than `one` as a 0 (they overlap by .9) but the better 1.
    assert kept == {(20, 0), (22, 1), (90, 2)}
    assert (np.diff(scores) <= 0).all()
    assert (scores[:count] > faster_rcnn.MIN_SCORE).all()
    assert not found[count:].any()
    assert len(found) == faster_rcnn.MOST


def test_small_proposals_go_and_the_worse_of_two():
    size, recipe = (128, 160), dataclasses.replace(SMALL, min_size=16)
    objects = [([20.0, 20, 60, 60], []), ([22.0, 20, 62, 60], []), ([100.0, 100, 110, 110], [])]
    stages = told(recipe, size, [(box, [0] * 4) for box, _ in objects])
    first = stages.propose(tf.zeros((*size, 3)), tf.constant(1.0), training=True)
    assert first.boxes.shape[0] == int(first.count)
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
def test_images_are_fitted_as_in_the_paper(size, fitted):
    image, factors = faster_rcnn.fit(tf.zeros((*size, 3), tf.uint8), PAPER)
    assert tuple(image.shape[:2]) == fitted
    assert np.allclose(factors, np.tile([fitted[1] / size[1], fitted[0] / size[0]], 2))


def test_detections_are_in_the_photos_pixels(monkeypatch):
    config = dataclasses.replace(SMALL, short_side=80, long_side=160).settings()
    one = detector.Detector(build("fd_mobilenet"), config, ("a", "b", "c"), "x")
    inside = tf.constant([[0.0, 0, 120, 80], [30, 20, 60, 40]])
    monkeypatch.setattr(one.model, "detect", lambda *_: (inside, tf.ones(2), tf.zeros(2, tf.int32), 2))
    found = one(np.zeros((40, 60, 3), "uint8"))
    assert found.boxes.tolist() == [[0, 0, 59, 39], [15, 10, 29, 19]]


@pytest.mark.parametrize("image", [np.zeros((4, 4, 3)), np.zeros((4, 4), "uint8"), np.zeros((4, 4, 4), "uint8")])
def test_what_is_no_photo_is_refused(image, nets):
    one = detector.Detector(nets["fd_mobilenet"], SMALL.settings(), ("a", "b", "c"), "x")
    with pytest.raises(ValueError, match="uint8 RGB"):
        one(image)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"roi_size": 1}, "--roi_size=1"),
        ({"short_side": 700, "long_side": 600}, "--long_side=600"),
        ({"freeze_stride": 3}, "--freeze_stride=3: must be one of 0, 2, 4, 8, 16"),
        ({"learning_rate": float("nan")}, "--learning_rate=nan"),
    ],
)
def test_impossible_recipes_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        PAPER.override(**change)


def test_the_defaults_are_the_papers():
    paper = {"short_side": 600, "epochs": 15, "learning_rate": 1e-3, "drop_every": 5, "drop_factor": 10}
    paper |= {"weight_decay": 4e-5, "test_proposals": 300}
    assert paper.items() <= PAPER.settings().items()


def test_every_field_can_be_set_by_a_flag():
    assert [field.name for field in DetectorRecipe.adjustable()] == list(PAPER.settings())


# --- weights -----------------------------------------------------------------------------------------------


@every_network
def test_a_classifiers_file_starts_the_backbone(name, tmp_path):
    path = str(tmp_path / "classifier.keras")
    classifier = build_by_name(name, alpha=0.25, input_shape=(64, 64, 3), weights=None, classes=5)
    classifier.save(path)
    net = build(name)
    backbone.load_weights(net, path, backbone.choose(name, 0.25, weights=path))
    for layer in classifier.layers:
        if layer.weights and layer.name != "predictions":
            for given, expected in zip(net.get_layer(layer.name).get_weights(), layer.get_weights(), strict=True):
                assert np.array_equal(given, expected)


def test_weights_of_another_width_are_refused(tmp_path):
    path = str(tmp_path / "classifier.keras")
    build_by_name("fd_mobilenet", alpha=0.5, input_shape=(64, 64, 3), weights=None, classes=5).save(path)
    with pytest.raises(checkpoints.CheckpointError, match="alpha=0.5"):
        backbone.load_weights(build("fd_mobilenet"), path, backbone.choose("fd_mobilenet", 0.25))


GOOGLE = "weights/mobilenet_v1_0.25_224_1_default_1.tflite"


def test_googles_mobilenet_gives_its_own_features(data):
    """Against LiteRT on the file itself, at the input of its pooling."""
    from ai_edge_litert.interpreter import Interpreter

    path = str(data / GOOGLE)
    under = backbone.choose("mobilenet", 0.25, weights=path)
    net = faster_rcnn.build_net(under, 3, dataclasses.replace(SMALL, roi_size=14))
    backbone.load_weights(net, path, under)
    photo = min((data / "imagenet" / "val").iterdir())
    image = np.asarray(imagenet.load_image(photo, (224, 224)), "float32")[None]
    stages = faster_rcnn.FasterRCNN(net, SMALL)
    head = keras.Model(net.get_layer("crops").output, net.get_layer("roi_pool").input)
    found = head(stages._first(image)[0]).numpy()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that keeping all tensors costs memory
        interpreter = Interpreter(path, experimental_preserve_all_tensors=True)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], image / 127.5 - 1)
    interpreter.invoke()
    (index,) = (t["index"] for t in interpreter.get_tensor_details() if t["name"].endswith("Conv2d_13_pointwise/Relu6"))
    expected = interpreter.get_tensor(index)
    assert expected.max() > 1
    assert np.allclose(found, expected, atol=1e-3)  # 26 layers of sums in another order; the values reach 6


def test_googles_kernels_get_norms_that_one_learning_rate_serves(data):
    """Theirs, with the batch normalizations folded in, are from .01 to 46."""
    under = backbone.choose("mobilenet", 0.25, weights=str(data / GOOGLE))
    net = build("mobilenet")
    backbone.load_weights(net, str(data / GOOGLE), under)
    for op in under.ops:
        kernel = net.get_layer(op.name).kernel.numpy()
        norms = np.sqrt(np.square(kernel).sum(axis=(0, 1) if op.kind == "depthwise" else (0, 1, 2)))
        assert np.allclose(norms[norms > 0], np.sqrt(2), rtol=1e-5), op.name


def test_googles_file_is_for_mobilenet_of_its_width(data, tmp_path):
    path = str(data / GOOGLE)
    with pytest.raises(ValueError, match="only Google's MobileNet"):
        backbone.choose("fd_mobilenet", 0.25, weights=path)
    net = build("mobilenet")
    with pytest.raises(ValueError, match="--alpha"):
        backbone.load_weights(net, path, backbone.choose("mobilenet", 0.5, weights=path))
    with pytest.raises(ValueError, match="no such file"):
        backbone.load_weights(net, str(tmp_path / "none.tflite"), backbone.choose("mobilenet", 0.25, weights=path))
