"""Converts a trained detector to .tflite files with built-in operations only, each with a .json that describes it.

    fd-keras detect convert --run_dir=RUN --output_dir=OUT --images=photo.jpg,other.jpg
    fd-keras detect convert --run_dir=RUN --output_dir=OUT --voc_dir=VOCdevkit/VOC2007 --split=test

A file takes one image of fixed size, float32 RGB 0..255 of shape (1, height, width, 3). It returns `boxes` (100, 4),
the edges x1, y1, x2, y2 in pixels of the image; `scores` (100,), best first; `labels` int32 (100,); and `count` int32,
the number of detections; later rows are not used. Photos of other shapes are resized to fit, and padded at the right
and the bottom.
"""

import functools
import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from absl import flags, logging

from fd_keras.next_step import next_line
from fd_keras.program import Program, UsageError, flag_group
from fd_keras.tflite.output import check_folder
from fd_keras.tflite.recipes import check_names

if TYPE_CHECKING:
    import numpy as np

    from fd_keras.tflite.detector import TFLiteDetector
    from fd_keras.training.voc.detector import Detector

_NAMES = ("float32", "float16", "int8_weights", "dynamic")  # not int8, which would need ranges for boxes in pixels
with flag_group("Conversion"):
    _RUN = flags.DEFINE_string("run_dir", None, "Run folder of `fd-keras detect train`.", required=True)
    _OUTPUT = flags.DEFINE_string("output_dir", None, "Folder to write to.", required=True)
    _RECIPES = flags.DEFINE_list("recipes", ["float32", "int8_weights"], f"Files to write: {', '.join(_NAMES)}.")
    _SIZE = flags.DEFINE_string(
        "size", None, "Input size, HEIGHTxWIDTH (default: 4:3 with the run's short side; for a RetinaNet: its square)."
    )
with flag_group("Comparison with Keras"):
    _IMAGES = flags.DEFINE_list("images", [], "Photos on which the files are compared with Keras.")
    _VOC = flags.DEFINE_string(
        "voc_dir",
        None,
        "VOCdevkit/VOC2007, a COCO .json or a YOLO data.yaml: compare and score the files on its --split.",
    )
    _SPLIT = flags.DEFINE_string("split", "test", "Split of --voc_dir, a list in ImageSets/Main; COCO: all images.")
    _THREADS = flags.DEFINE_integer("threads", 1, "Number of LiteRT threads.", lower_bound=1)

_SAME = 0.95  # boxes with a larger IoU count as the same
_FEW = 20  # up to this number of photos, each one gets a line


def parse_size(text: str | None) -> tuple[int, int] | None:
    """Parses --size as (height, width); raises UsageError unless it is HEIGHTxWIDTH with sides from 64 to 8192."""
    if text is None:
        return None
    parts = text.lower().split("x")
    if len(parts) != 2 or not all(part.isdecimal() and 64 <= int(part) <= 8192 for part in parts):
        raise UsageError(f"--size={text}: must be HEIGHTxWIDTH, both between 64 and 8192, such as 600x800")
    return int(parts[0]), int(parts[1])


def report_on(detector: "Detector", runner: "TFLiteDetector", images: Mapping[str, "Callable[[], np.ndarray]"]) -> None:
    """Prints how well a file's detections match Keras's on photos; `images` has functions that read them, by name."""
    from fd_keras.tflite.detector import SURE, compare

    overlaps = []
    for name, read in images.items():
        these = compare(detector, runner, read())
        if len(images) <= _FEW:
            worst = f", least overlap {min(these):.3f}" if these else ""
            print(f"  {name}: {len(these)} of Keras's detections above {SURE}{worst}")
        overlaps += these
    same = sum(overlap > _SAME for overlap in overlaps)
    print(f"  IoU > {_SAME} with {same} of Keras's {len(overlaps)} detections above {SURE}")


def main(argv: list[str]) -> None:
    """Writes the files, and compares each with Keras."""
    check_names(_RECIPES.value, _NAMES)
    parse_size(_SIZE.value)
    if not os.path.isdir(_RUN.value):
        raise FileNotFoundError(f"--run_dir={_RUN.value}: no such folder")
    check_folder(_OUTPUT.value)
    from fd_keras.tflite.detector import TFLiteDetector, file_size, write
    from fd_keras.training.voc import annotation, batch_detection, dataset, metric
    from fd_keras.training.voc import detector as detectors

    logging.set_verbosity(logging.WARNING)  # otherwise TensorFlow logs every file that it saves
    images = {path: functools.partial(annotation.read_image, path) for path in _IMAGES.value}
    for read in images.values():
        read()  # to fail before the conversion, not after it
    detector = detectors.load(_RUN.value)
    annotations = []
    if _VOC.value:
        annotations = dataset.open_split(_VOC.value, _SPLIT.value, detector.classes, annotation.TO_EVALUATE)
    images |= {image.id: image.read for image in annotations}
    size = file_size(detector, parse_size(_SIZE.value))
    for recipe in dict.fromkeys(_RECIPES.value):
        path = write(detector, size, recipe, _RUN.value, _OUTPUT.value)
        print(f"{path}: {os.path.getsize(path) / 1e6:.2f} MB, an image of {size[0]}x{size[1]}", flush=True)
        runner = TFLiteDetector(path, _THREADS.value)
        if images:
            report_on(detector, runner, images)
        if annotations:
            found = batch_detection.detect_all(runner, annotations, None, {})
            result = metric.score(detector.classes, annotations, found)
            eleven, area = 100 * result.map11, 100 * result.map_area
            print(f"  mAP on {_SPLIT.value}: {eleven:.1f} (11-point), {area:.1f} (area)")
    print(next_line("bench", models=_OUTPUT.value, target="host"))


PROGRAM = Program(main)

if __name__ == "__main__":
    PROGRAM.run()
