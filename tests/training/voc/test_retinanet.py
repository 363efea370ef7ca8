import keras_cv
import numpy as np
import pytest
import tensorflow as tf

from fd_keras.saved import load_model
from fd_keras.training.voc import boxes, retinanet
from tests.training.voc.small_retinanet import SMALL, WIDE, build, with_sure_detections

IMAGE = np.random.default_rng(0).uniform(0, 255, (64, 64, 3)).astype("float32")


@pytest.fixture(scope="module", params=[SMALL, WIDE], ids=["light", "wide"])
def one_class(request):
    """Uses one class, since keras-cv's decoding only returns the best class of each box."""
    return with_sure_detections(build(1, request.param))


def test_boxes_before_suppression_equal_keras_cvs(one_class, monkeypatch):
    monkeypatch.setattr(retinanet, "NMS_IOU", 1.0)  # keras-cv suppresses before clipping
    net = one_class.net
    net.prediction_decoder = keras_cv.layers.NonMaxSuppression(
        bounding_box_format="xyxy", from_logits=True, iou_threshold=1.0, confidence_threshold=0.05, max_detections=100
    )
    batch = tf.constant(IMAGE[None])
    theirs = net.decode_predictions(net({"images": batch}, training=False), batch)
    found, scores, labels, count = one_class.detect(IMAGE, 1.0)
    assert 5 < int(count) == int(theirs["num_detections"][0])
    assert np.allclose(found[:count], boxes.clip(theirs["boxes"][0, :count], (64, 64)), atol=1e-3)
    assert np.allclose(scores[:count], theirs["confidence"][0, :count], atol=1e-5)
    assert not labels.numpy().any()


def test_an_image_that_is_not_square_is_padded_and_boxes_are_clipped(one_class):
    found, _, _, count = one_class.detect(IMAGE[:40], 1.0)
    assert int(count) > 3
    assert np.ptp(boxes.clip(found[:count], (40, 64)) - found[:count]) == 0


def test_classes_are_suppressed_separately():
    detector = with_sure_detections(build(3))
    found, scores, labels, count = (np.asarray(part) for part in detector.detect(IMAGE, 1.0))
    assert len(np.unique(labels[:count])) > 1
    assert (np.diff(scores[:count]) <= 0).all()
    overlaps = boxes.iou(tf.constant(found[:count]), tf.constant(found[:count])).numpy() - np.eye(count)
    same = labels[:count, None] == labels[None, :count]
    assert overlaps[same].max() <= 0.5 + 1e-5


def test_frozen_layers_are_not_trained(one_class):
    assert one_class.recipe.freeze_stride == 4
    names = {weight.path.split("/")[-2] for weight in one_class.net.trainable_weights}
    assert "conv_pw_3" in names  # of stride 8
    assert not {"conv1", "conv1_bn", "conv_pw_1", "conv_pw_1_bn"} & names
    assert ("conv_pw_3_bn" in names) == one_class.recipe.train_batch_norm


def test_a_light_retinanet_is_saved_with_its_pyramid(tmp_path):
    net = build(2).net
    net.save(tmp_path / "light.keras")
    loaded = load_model(str(tmp_path / "light.keras"))
    batch = {"images": IMAGE[None]}
    for one, other in zip(*(detector(batch, training=False).values() for detector in (net, loaded)), strict=True):
        assert np.array_equal(one, other)
    assert (loaded.name, loaded.num_classes, loaded.channels) == (net.name, 2, 32)


def test_the_initial_scores_are_low_in_both():
    """Otherwise, the many anchors without an object would dominate the first steps."""
    for recipe in (SMALL, WIDE):
        logits = build(2, recipe).net({"images": IMAGE[None]}, training=False)["classification"]
        assert np.isclose(np.median(tf.sigmoid(logits)), 0.01, rtol=0.3)
