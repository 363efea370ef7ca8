"""Converts a trained detector to .tflite files of TFLite's own operations, each with a .json that says what it is.

    python -m tflite.convert_detector --run_dir=RUN --output_dir=OUT --images=photo.jpg,other.jpg
    python -m tflite.convert_detector --run_dir=RUN --output_dir=OUT --voc_dir=VOCdevkit/VOC2007 --split=test

A file takes one image of fixed size, float32 RGB 0..255 of shape (1, height, width, 3), and gives `boxes` (100, 4):
x1, y1, x2, y2 in its pixels, both ends as edges; `scores` (100,), best first; `labels` int32 (100,); and `count` int32,
how many of the 100 there are. Photos of other shapes are shrunk to fit and filled up at the right and the bottom.
"""

import importlib.metadata
import os
import sys
import tempfile
from collections.abc import Mapping

import keras
import numpy as np
import tensorflow as tf
from absl import app, flags, logging

from fd_keras import litert
from fd_keras.io import sha256_of, write_atomically, write_json
from fd_keras.tflite import export
from fd_keras.tflite.format import sidecar, weight_only_int8
from fd_keras.tflite.recipes import RECIPES
from fd_keras.training import run_record
from fd_keras.training.voc import batch_detection, boxes, dataset, metric
from fd_keras.training.voc import detector as detectors
from fd_keras.training.voc.detections import Detections
from fd_keras.training.voc.detector import Detector

_RUN = flags.DEFINE_string("run_dir", None, "Of training.voc.train.", required=True)
_OUTPUT = flags.DEFINE_string("output_dir", None, "Folder to write into.", required=True)
_NAMES = ("float32", "float16", "int8_weights", "dynamic")  # int8 would need ranges for boxes in pixels
_RECIPES = flags.DEFINE_list("recipes", ["float32", "int8_weights"], f"What to make: {', '.join(_NAMES)}.")
_SIZE = flags.DEFINE_string("size", None, "HEIGHTxWIDTH of the image (default: a photo of 4:3 at the short side).")
_IMAGES = flags.DEFINE_list("images", [], "Photos on which the files are compared with Keras.")
_VOC = flags.DEFINE_string("voc_dir", None, "VOCdevkit/VOC2007: compare on a split of it too, and score the files.")
_SPLIT = flags.DEFINE_string("split", "test", "With --voc_dir: list of ImageSets/Main.")
_THREADS = flags.DEFINE_integer("threads", 1, "Of LiteRT, for the comparisons.", lower_bound=1)

_SHORT_SIDE = 375  # of most of VOC's photos: what the least side of a proposal, in original pixels, is scaled by
_SURE = 0.5  # score of the detections that are compared
_SAME = 0.95  # overlap of boxes that count as one
_FEW = 20  # photos that get a line each


def convert(detector: Detector, size: tuple[int, int], recipe: str) -> bytes:
    """The flatbuffer of a detector.

    Args:
        detector: from a run.
        size: (height, width) of the image.
        recipe: how weights are stored: "float32"; "float16"; "int8_weights", see `tflite.format.weight_only_int8`; or "dynamic",
            the converter's own eight bits, which computes in eight bits too.
    """

    def served(image):
        found = detector.model.detect(image[0], min(size) / _SHORT_SIDE)
        return dict(zip(("boxes", "scores", "labels", "count"), found, strict=True))

    archive = keras.export.ExportArchive()
    archive.track(detector.model.net)  # the weights; a concrete function alone would lose them
    signature = tf.TensorSpec((1, *size, 3), tf.float32, name=export.INPUT_NAME)
    archive.add_endpoint("serve", served, input_signature=[signature])
    with tempfile.TemporaryDirectory() as folder:
        archive.write_out(folder, verbose=False)
        if recipe == "int8_weights":
            return weight_only_int8.store(export.convert(folder, RECIPES["float32"]))
        return export.convert(folder, RECIPES[recipe])


def write(detector: Detector, size: tuple[int, int], recipe: str, run_dir: str, output_dir: str) -> str:
    """Writes a detector's file and its .json, and returns the file's path."""
    content = convert(detector, size, recipe)
    os.makedirs(output_dir, exist_ok=True)
    path = os.path.join(output_dir, f"{detector.name}_{recipe}.tflite")
    write_atomically(path, content)
    facts = {
        "name": detector.name,
        "detector": "faster_rcnn",
        "run_dir": run_dir,
        "config": detector.config,
        "classes": list(detector.classes),
        "recipe": recipe,
        "input": {"name": export.INPUT_NAME, "shape": [1, *size, 3], "dtype": "float32", "range": [0, 255]},
        "sha256": sha256_of(path),
        "size_bytes": len(content),
        "versions": {name: importlib.metadata.version(name) for name in sidecar.PACKAGES},
        "git_commit": run_record.git_commit(),
    }
    write_json(sidecar.sidecar_path(path), facts)
    return path


class DetectorRunner:
    """Runs a detector's file on photos.

    Args:
        path: of the .tflite.
        threads: of LiteRT.

    Attributes:
        size: (height, width) of the image that it takes.

    Raises:
        LiteRTError: if the file is missing, damaged or no detector.
    """

    def __init__(self, path: str, threads: int = 1):
        interpreter = litert.load(path, threads)
        try:
            self._run = interpreter.get_signature_runner("serve")
            self.size = tuple(int(side) for side in self._run.get_input_details()[export.INPUT_NAME]["shape"][1:3])
        except (ValueError, KeyError) as error:
            raise litert.LiteRTError(f"{path}: not a detector that tflite.convert_detector wrote ({error}).") from error

    def __call__(self, image: np.ndarray) -> Detections:
        """The objects in a photo, uint8 RGB (height, width, 3), as `training.voc.detector.Detector` gives them."""
        fitted, factors = fit(image, self.size)
        found, scores, labels = self.run(fitted)
        inside = np.minimum(found / factors, np.tile(image.shape[1::-1], 2)).astype("float32")
        return Detections(boxes.to_pixels(inside), scores, labels)

    def run(self, fitted: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Boxes, scores and labels of what is in an image, float32 (*size, 3), in its own pixels."""
        found = self._run(**{export.INPUT_NAME: fitted[None]})
        count = int(found["count"])
        return found["boxes"][:count], found["scores"][:count], found["labels"][:count].astype("int64")


def fit(image: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Shrinks or enlarges a photo as far as it fits into `size`, and fills the rest with grey.

    Returns:
        float32 (height, width, 3), and what its boxes (4,) were multiplied by.
    """
    sides = np.array(image.shape[:2])
    target = np.maximum(np.round(sides * min(size / sides)), 1).astype("int32")
    canvas = np.full((*size, 3), 127.5, "float32")
    canvas[: target[0], : target[1]] = tf.image.resize(image, target, antialias=True).numpy()
    return canvas, np.tile((target / sides)[::-1], 2)


def compare(detector: Detector, runner: DetectorRunner, image: np.ndarray) -> list[float]:
    """Overlaps of Keras's detections above a score of .5 with the file's, on the same pixels.

    Returns:
        For each of Keras's: its overlap with the nearest one of the same class, 0 if there is none.
    """
    fitted, _ = fit(image, runner.size)
    found, scores, labels, _ = detector.model.detect(tf.constant(fitted), min(runner.size) / _SHORT_SIDE)
    others, _, their_labels = runner.run(fitted)
    overlaps = boxes.iou(found, tf.constant(others)).numpy() * (labels.numpy()[:, None] == their_labels[None])
    return overlaps.max(axis=1, initial=0.0)[scores.numpy() > _SURE].tolist()


def fixed_size(text: str | None, short_side: int) -> tuple[int, int]:
    """(height, width) that --size means; raises ValueError for anything else."""
    if text is None:
        return short_side, round(short_side * 4 / 3)
    parts = text.lower().split("x")
    if len(parts) != 2 or not all(part.isdecimal() and int(part) >= 64 for part in parts):
        raise ValueError(f"--size={text}: must be HEIGHTxWIDTH, both at least 64, such as 600x800.")
    return int(parts[0]), int(parts[1])


def report_on(detector: Detector, runner: DetectorRunner, images: Mapping[str, str]) -> None:
    """Prints how near a file's detections are to Keras's on photos, given by name and path."""
    overlaps = []
    for name, path in images.items():
        these = compare(detector, runner, dataset.read_image(path))
        if len(images) <= _FEW:
            worst = f", least overlap {min(these):.3f}" if these else ""
            print(f"  {name}: {len(these)} of Keras's detections above {_SURE}{worst}")
        overlaps += these
    same = sum(overlap > _SAME for overlap in overlaps)
    print(f"  IoU > {_SAME} with {same} of Keras's {len(overlaps)} detections above {_SURE}")


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"Unexpected argument {argv[1]!r}; everything is given by flags.")
    logging.set_verbosity(logging.WARNING)  # TensorFlow reports every file that it saves
    try:
        unknown = [name for name in _RECIPES.value if name not in _NAMES]
        if unknown:
            raise ValueError(f"--recipes: {unknown[0]!r} is none of {', '.join(_NAMES)}.")
        images = {path: path for path in _IMAGES.value}
        for path in images:
            dataset.read_image(path)  # better now than after the conversion
        detector = detectors.load(_RUN.value)
        annotations = dataset.open_split(_VOC.value, _SPLIT.value, detector.classes) if _VOC.value else []
        images |= {annotation.id: annotation.path for annotation in annotations}
        size = fixed_size(_SIZE.value, detector.recipe.short_side)
        for recipe in _RECIPES.value:
            path = write(detector, size, recipe, _RUN.value, _OUTPUT.value)
            print(f"{path}: {os.path.getsize(path) / 1e6:.2f} MB, an image of {size[0]}x{size[1]}", flush=True)
            runner = DetectorRunner(path, _THREADS.value)
            if images:
                report_on(detector, runner, images)
            if annotations:
                result = metric.score(
                    detector.classes, annotations, batch_detection.detect_all(runner, annotations, None, {})
                )
                eleven, area = 100 * result.map11, 100 * result.map_area
                print(f"  mAP on {_SPLIT.value}: {eleven:.1f} (11-point), {area:.1f} (area)")
    except (ValueError, OSError, ImportError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    app.run(main)
