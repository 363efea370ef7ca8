import numpy as np
import pytest
import tensorflow as tf

from fd_keras import zoo
from fd_keras.training.optimizer import TorchSGD
from fd_keras.training.voc import detection_pipeline, faster_rcnn, trainable_detector
from tests.training.voc.small_nets import SMALL, net_of


@pytest.mark.parametrize("name", zoo.ARCHS)
def test_a_step_trains_all_layers_except_frozen_ones(name):
    net = net_of(name)
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
    assert {path.split("/")[-1] for path in changed} == {"kernel", "bias"}  # but no batch normalization
    assert trainee.step.experimental_get_tracing_count() == 1
    assert int(trainee.steps.numpy()) == 2
    assert int(trainee.bad_step.numpy()) == -1
