"""A trained detector: takes a photo and returns its objects."""

import json
import os
from collections.abc import Mapping

import keras
import numpy as np
import tensorflow as tf

from fd_keras.io import read_bytes
from fd_keras.saved import load_model
from fd_keras.training import run_record
from fd_keras.training.voc import boxes, faster_rcnn
from fd_keras.training.voc.detections import Detections
from fd_keras.training.voc.detector_recipe import DetectorRecipe
from fd_keras.training.voc.retinanet_recipe import RetinaNetRecipe


class Detector:
    """Detects the objects in photos of any size.

    Args:
        net: Network from `build_net` of `faster_rcnn` or `retinanet`, or saved by a run.
        config: Configuration of the run: backbone, alpha, and the fields of its recipe.
        classes: Class names in label order.
        name: Name of the detector, used in the names of its files.

    Attributes:
        model: `faster_rcnn.FasterRCNN` or `retinanet.RetinaNet` with the network.
        recipe: Recipe of the run.
        detect: `model.detect` as a graph, which is faster.
    """

    def __init__(self, net: keras.Model, config: dict, classes: tuple[str, ...], name: str):
        self.config, self.classes, self.name = config, tuple(classes), name
        self.model = _model_of(net, config)
        self.recipe = self.model.recipe
        signature = [tf.TensorSpec((None, None, 3), tf.uint8)]
        # Without AutoGraph, whose conversion would take seconds.
        self._detect = tf.function(self._on_pixels, input_signature=signature, autograph=False)
        self.detect = tf.function(self.model.detect, autograph=False)

    def _on_pixels(self, image):
        fitted, factors = faster_rcnn.fit(image, self.recipe)
        found, scores, labels, count = self.model.detect(fitted, tf.reduce_min(factors))
        found = boxes.clip(found / factors, tf.shape(image)[:2])
        return found[:count], scores[:count], labels[:count]

    def __call__(self, image: np.ndarray) -> Detections:
        """Detects the objects in a photo, best first.

        Args:
            image: Photo, uint8 RGB (height, width, 3).

        Raises:
            ValueError: If the photo has another shape or type.
        """
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[-1] != 3 or not image.size:
            raise ValueError(f"expected a photo, uint8 RGB (height, width, 3), got {image.dtype} {image.shape}.")
        found, scores, labels = (tensor.numpy() for tensor in self._detect(image))
        return Detections(boxes.to_pixels(found), scores, labels.astype("int64"))


def _model_of(net: keras.Model, config: dict):
    """Wraps a network in its detector class; imports keras-cv only for a RetinaNet."""
    if is_retinanet(config):
        from fd_keras.training.voc import retinanet

        return retinanet.RetinaNet(net, RetinaNetRecipe.of(config))
    return faster_rcnn.FasterRCNN(net, DetectorRecipe.of(config))


def is_retinanet(config: Mapping) -> bool:
    """Whether a run's configuration is that of a RetinaNet."""
    return config.get("detector") == "retinanet"


def file_of(run_dir: str, name: str) -> str:
    """Returns the path of the detector that a run saved last."""
    return run_record.model_path(run_dir, "last", name)


def load(run_dir: str) -> Detector:
    """Loads the detector from a run of `fd-keras detect train`.

    Args:
        run_dir: Folder of the run.

    Raises:
        FileNotFoundError: If the folder is not a run, or its first epoch is not finished.
        ValueError: If a file is damaged; the message names it.
    """
    path = os.path.join(run_dir, run_record.FILE)
    if not os.path.isfile(path):
        raise FileNotFoundError(
            f"--run_dir={run_dir}: not a run of fd-keras detect train (it has no {run_record.FILE})."
        )
    try:
        facts = json.loads(read_bytes(path))
        config, classes, name = facts["config"], tuple(facts["class_names"]), facts["name"]
        (RetinaNetRecipe if is_retinanet(config) else DetectorRecipe).of(config)
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: damaged, or not from fd-keras detect train ({error!r}).") from error
    saved = file_of(run_dir, name)
    if not os.path.isfile(saved):
        raise FileNotFoundError(f"{saved}: no such file; it is written at the end of each epoch.")
    if is_retinanet(config):
        from fd_keras.training.voc import retinanet  # noqa: F401  (registers the layers of the saved model)
    return Detector(load_model(saved), config, classes, name)
