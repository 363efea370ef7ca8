import dataclasses
import warnings

import keras
import numpy as np
import pytest

from fd_keras import checkpoints, imagenet, zoo
from fd_keras.applications import build_by_name
from fd_keras.training.voc import backbone, faster_rcnn
from tests.training.voc.small_nets import SMALL, build


@pytest.mark.parametrize("name", zoo.ARCHS)
def test_the_backbone_loads_the_weights_of_a_classifier(name, tmp_path):
    path = str(tmp_path / "classifier.keras")
    classifier = build_by_name(name, alpha=0.25, input_shape=(64, 64, 3), weights=None, classes=5)
    classifier.save(path)
    net = build(name)
    backbone.load_weights(net, path, backbone.choose(name, 0.25, weights=path))
    for layer in classifier.layers:
        if layer.weights and layer.name != "predictions":
            for given, expected in zip(net.get_layer(layer.name).get_weights(), layer.get_weights(), strict=True):
                assert np.array_equal(given, expected)


def test_weights_of_another_width_are_rejected(tmp_path):
    path = str(tmp_path / "classifier.keras")
    build_by_name("fd_mobilenet", alpha=0.5, input_shape=(64, 64, 3), weights=None, classes=5).save(path)
    with pytest.raises(checkpoints.CheckpointError, match="alpha=0.5"):
        backbone.load_weights(build("fd_mobilenet"), path, backbone.choose("fd_mobilenet", 0.25))


GOOGLE = "weights/mobilenet_v1_0.25_224_1_default_1.tflite"


def test_googles_mobilenet_computes_the_features_of_its_file(data):
    """Compares with LiteRT on the file, at the input of its pooling."""
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
        warnings.simplefilter("ignore", UserWarning)  # about the memory for keeping all tensors
        interpreter = Interpreter(path, experimental_preserve_all_tensors=True)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], image / 127.5 - 1)
    interpreter.invoke()
    (index,) = (t["index"] for t in interpreter.get_tensor_details() if t["name"].endswith("Conv2d_13_pointwise/Relu6"))
    expected = interpreter.get_tensor(index)
    assert expected.max() > 1
    assert np.allclose(found, expected, atol=1e-3)  # 26 layers of sums in another order; the values reach 6


def test_googles_kernels_are_rescaled_to_equal_norms(data):
    """In the file, with folded batch normalizations, norms are from 0.01 to 46."""
    under = backbone.choose("mobilenet", 0.25, weights=str(data / GOOGLE))
    net = build("mobilenet")
    backbone.load_weights(net, str(data / GOOGLE), under)
    for op in under.ops:
        kernel = net.get_layer(op.name).kernel.numpy()
        norms = np.sqrt(np.square(kernel).sum(axis=(0, 1) if op.kind == "depthwise" else (0, 1, 2)))
        assert np.allclose(norms[norms > 0], np.sqrt(2), rtol=1e-5), op.name


def test_googles_file_needs_a_mobilenet_of_its_width(data, tmp_path):
    path = str(data / GOOGLE)
    with pytest.raises(ValueError, match="only supported for --backbone=mobilenet"):
        backbone.choose("fd_mobilenet", 0.25, weights=path)
    net = build("mobilenet")
    with pytest.raises(ValueError, match="--alpha"):
        backbone.load_weights(net, path, backbone.choose("mobilenet", 0.5, weights=path))
    with pytest.raises(ValueError, match="no such file"):
        backbone.load_weights(net, str(tmp_path / "none.tflite"), backbone.choose("mobilenet", 0.25, weights=path))
