import keras_cv
import numpy as np
import pytest
import tensorflow as tf

from fd_keras.training.voc import boxes, retinanet
from tests.training.voc.small_retinanet import SMALL, build, with_sure_detections

IMAGE = np.random.default_rng(0).uniform(0, 255, (64, 64, 3)).astype("float32")


@pytest.fixture(scope="module")
def one_class():
    """Uses one class, since keras-cv's decoding only returns the best class of each box."""
    return with_sure_detections(build(1))


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
    names = {weight.path.split("/")[-2] for weight in one_class.net.trainable_weights}
    assert "conv_pw_3" in names  # of stride 8
    assert not {"conv1", "conv_pw_1"} & names
    assert not {name for name in names if name.endswith("_bn")}
    assert SMALL.freeze_stride == 4
