"""Detectors as .tflite files: conversion, running, and comparison with Keras.

A file takes one image of fixed size, float32 RGB 0..255 of shape (1, height, width, 3). It returns `boxes` (100, 4),
the edges x1, y1, x2, y2 in pixels of the image; `scores` (100,), best first; `labels` int32 (100,); and `count` int32,
the number of detections; later rows are not used.
"""

import hashlib
import importlib.metadata
import os
import tempfile

import numpy as np
import tensorflow as tf

from fd_keras import litert
from fd_keras.tflite import export
from fd_keras.tflite.format import sidecar, weight_only_int8
from fd_keras.tflite.output import write_pair
from fd_keras.tflite.recipes import RECIPES
from fd_keras.training import run_record
from fd_keras.training.voc import boxes
from fd_keras.training.voc.detections import Detections
from fd_keras.training.voc.detector import Detector, is_retinanet
from fd_keras.training.voc.retinanet_recipe import GRAY

SURE = 0.5  # only detections with a higher score are compared
_SHORT_SIDE = 375  # of most VOC photos; converts the minimum side of a proposal from original to resized pixels


def photo_size(short_side: int) -> tuple[int, int]:
    """(height, width) of a 4:3 photo with this short side."""
    return short_side, round(short_side * 4 / 3)


def file_size(detector: Detector, size: tuple[int, int] | None) -> tuple[int, int]:
    """(height, width) of the image that a detector's file takes.

    Args:
        detector: Detector of a run.
        size: Requested (height, width); None for a 4:3 photo with the detector's short side, or a RetinaNet's square.

    Raises:
        ValueError: If `size` is not the one that a RetinaNet was trained on.
    """
    if not is_retinanet(detector.config):
        return size or photo_size(detector.recipe.short_side)
    square = detector.recipe.short_side, detector.recipe.short_side
    if size and size != square:
        raise ValueError(
            f"--size={size[0]}x{size[1]}: a RetinaNet takes the squares that it was trained on; leave it out."
        )
    return square


def convert(detector: Detector, size: tuple[int, int], recipe: str) -> bytes:
    """Converts a detector to a flatbuffer.

    Args:
        detector: Detector of a run.
        size: (height, width) of the image.
        recipe: Storage of the weights: "float32"; "float16"; "int8_weights", see `format.weight_only_int8`; or
            "dynamic", TensorFlow's dynamic-range quantization, which also computes in int8.
    """

    def served(image):
        found = detector.model.detect(image[0], min(size) / _SHORT_SIDE, for_tflite=True)
        return dict(zip(("boxes", "scores", "labels", "count"), found, strict=True))

    with tempfile.TemporaryDirectory() as folder:
        export.save_function(folder, detector.model.net, served, (*size, 3))
        if recipe == "int8_weights":
            return weight_only_int8.store(export.convert(folder, RECIPES["float32"]))
        return export.convert(folder, RECIPES[recipe])


def write(detector: Detector, size: tuple[int, int], recipe: str, run_dir: str, output_dir: str) -> str:
    """Writes a detector's file and its .json, and returns the file's path."""
    content = convert(detector, size, recipe)
    path = os.path.join(output_dir, f"{detector.name}_{recipe}.tflite")
    facts = {
        "name": detector.name,
        "detector": detector.config.get("detector", "faster_rcnn"),
        "run_dir": run_dir,
        "config": detector.config,
        "classes": list(detector.classes),
        "recipe": recipe,
        "input": {"name": export.INPUT_NAME, "shape": [1, *size, 3], "dtype": "float32", "range": [0, 255]},
        "sha256": hashlib.sha256(content).hexdigest(),
        "size_bytes": len(content),
        "versions": {name: importlib.metadata.version(name) for name in sidecar.PACKAGES},
        "git_commit": run_record.git_commit(),
    }
    write_pair(path, content, facts)
    return path


class TFLiteDetector:
    """Runs a detector's file on photos.

    Args:
        path: Path of the .tflite file.
        threads: Number of LiteRT threads.

    Attributes:
        size: (height, width) of the input image.

    Raises:
        LiteRTError: If the file is missing, damaged or not a detector.
    """

    def __init__(self, path: str, threads: int = 1):
        interpreter = litert.load(path, threads)
        try:
            self._run = interpreter.get_signature_runner("serve")
            _, height, width, _ = self._run.get_input_details()[export.INPUT_NAME]["shape"]
            self.size = int(height), int(width)
        except (ValueError, KeyError) as error:
            raise litert.LiteRTError(
                f"{path}: not a detector that `fd-keras detect convert` wrote ({error})."
            ) from error

    def __call__(self, image: np.ndarray) -> Detections:
        """Detects objects in a photo, uint8 RGB (height, width, 3); returns the same as `training.voc.detector`'s."""
        fitted, factors = fit(image, self.size)
        found, scores, labels = self.run(fitted)
        inside = np.minimum(found / factors, np.tile(image.shape[1::-1], 2)).astype("float32")
        return Detections(boxes.to_pixels(inside), scores, labels)

    def run(self, fitted: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Detects objects in an image, float32 (*size, 3).

        Returns:
            Boxes (count, 4) in pixels of the image, scores (count,) and labels (count,).
        """
        found = self._run(**{export.INPUT_NAME: fitted[None]})
        count = int(found["count"])
        return found["boxes"][:count], found["scores"][:count], found["labels"][:count].astype("int64")


def fit(image: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Resizes a photo to the largest size that fits into `size`, and pads it with gray.

    Returns:
        The image, float32 (height, width, 3), and the factors (4,) that convert boxes of the photo to boxes of it.
    """
    sides = np.array(image.shape[:2])
    target = np.maximum(np.round(sides * min(size / sides)), 1).astype("int32")
    canvas = np.full((*size, 3), GRAY, "float32")
    canvas[: target[0], : target[1]] = tf.image.resize(image, target, antialias=True).numpy()
    return canvas, np.tile((target / sides)[::-1], 2)


def compare(detector: Detector, runner: TFLiteDetector, image: np.ndarray) -> list[float]:
    """Compares a file's detections with Keras's on the same pixels.

    Returns:
        For each of Keras's detections with a score above 0.5: its IoU with the closest detection of the file that has
        the same class; 0 if there is none.
    """
    fitted, _ = fit(image, runner.size)
    found, scores, labels, _ = detector.detect(tf.constant(fitted), tf.constant(min(runner.size) / _SHORT_SIDE))
    others, _, their_labels = runner.run(fitted)
    overlaps = boxes.iou(found, tf.constant(others)).numpy() * (labels.numpy()[:, None] == their_labels[None])
    return overlaps.max(axis=1, initial=0.0)[scores.numpy() > SURE].tolist()
