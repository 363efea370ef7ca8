"""A detector with random weights, for tests of its .tflite file."""

import keras
import numpy as np
import tensorflow as tf

from fd_keras.tflite.detector import fit
from fd_keras.training.voc import backbone, faster_rcnn
from fd_keras.training.voc.detector import Detector
from fd_keras.training.voc.detector_recipe import DetectorRecipe

SIZE = (96, 128)  # (height, width) of its .tflite file
CLASSES = ("ant", "bee", "cat")


def random_detector(photo: np.ndarray) -> Detector:
    """Scales random weights so that the logits of classes and anchors on a photo have a standard deviation of 2.

    Args:
        photo: Any photo, uint8 of shape (height, width, 3).
    """
    recipe = DetectorRecipe(
        short_side=96, long_side=160, roi_size=7, anchor_size=32, rpn_channels=16, test_proposals=60
    )
    keras.utils.set_random_seed(4)
    net = faster_rcnn.build_net(backbone.choose("fd_mobilenet", 0.25), len(CLASSES), recipe)
    config = recipe.settings() | {"backbone": "fd_mobilenet", "alpha": 0.25}
    found = Detector(net, config, CLASSES, "faster_rcnn_fd_mobilenet_0.25_96")
    fitted, _ = fit(photo, SIZE)
    for name in ("rpn_objectness", "rpn_boxes", "roi_classes", "roi_boxes"):
        first = found.model.propose(tf.constant(fitted), 0.25, training=False)
        logits, deltas = found.model.classify(first, first.boxes, training=False)
        outputs = {
            "rpn_objectness": first.logits,
            "rpn_boxes": first.deltas,
            "roi_classes": logits,
            "roi_boxes": deltas,
        }
        kernel, bias = net.get_layer(name).get_weights()
        deviation = 2 if name in ("rpn_objectness", "roi_classes") else 0.3
        net.get_layer(name).set_weights([kernel * deviation / outputs[name].numpy().std(), bias])
    return found
