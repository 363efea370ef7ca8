"""Opens detection data sets in one of three formats.

- VOCdevkit/VOC2007: PASCAL VOC's folders (`devkit`)
- annotations/instances_val2017.json: COCO's JSON, one file per split (`coco_json`)
- data.yaml: Ultralytics' description of folders with YOLO's text files (`yolo_text`)
"""

import logging
import os
from collections.abc import Sequence

from fd_keras.progress import progress
from fd_keras.training.voc.annotation import (
    TO_TRAIN,
    Annotation,
    DataError,
    Reader,
    Repairs,
    Strictness,
    annotate,
    distinct,
)
from fd_keras.training.voc.coco_json import CocoJson
from fd_keras.training.voc.devkit import CLASSES as VOC_CLASSES
from fd_keras.training.voc.devkit import Devkit
from fd_keras.training.voc.yolo_text import YoloText

CLASSES = VOC_CLASSES
CHECK = "fd-keras detect check"  # the command that lists all problems


def paths_of(data: str | Sequence[str]) -> list[str]:
    """Splits a flag's comma-separated paths of data sets."""
    return data.split(",") if isinstance(data, str) else list(data)


def reader(path: str, classes: Sequence[str] | None = None) -> Reader:
    """Opens a data set; its suffix determines the format.

    Args:
        path: Folder in the devkit's layout, COCO's .json, or YOLO's .yaml.
        classes: Class names in label order; None for those in the data set, or VOC's.

    Raises:
        DataError: If the data set cannot be opened.
    """
    suffix = os.path.splitext(path)[1].lower()
    if suffix == ".json":
        return CocoJson(path, classes)
    return YoloText(path, classes) if suffix in (".yaml", ".yml") else Devkit(path, classes)


def classes_of(data: str | Sequence[str], given: str | None = None) -> tuple[str, ...]:
    """Returns the class names in label order: those of --classes, or those of the data sets.

    Raises:
        ValueError: If --classes cannot be read, or the data sets have different classes.
    """
    if given:
        return read_classes(given)
    first, *others = paths_of(data)
    classes = reader(first).classes
    for path in others:
        if reader(path).classes != classes:
            raise DataError(f"{path}: its classes differ from {first}; pass the classes to use with --classes.")
    return classes


def open_split(
    data: str | Sequence[str], split: str, classes: Sequence[str] = CLASSES, reading: Strictness = TO_TRAIN
) -> list[Annotation]:
    """Reads the annotations of a split, in its order.

    For training, boxes that are partly outside the image are clipped, and those that are completely outside, inverted
    or without an area are dropped; a warning counts both. All other problems are errors.

    Args:
        data: Paths of data sets, see `reader`; a string is comma-separated. Their images are concatenated.
        split: Name of the split, for example "trainval".
        classes: Class names in label order.
        reading: How strictly to read annotations.

    Raises:
        DataError: If a list, an annotation or a needed image is missing or unusable.
    """
    readers = [(path, reader(path, classes)) for path in paths_of(data)]
    names = [(path, opened, name) for path, opened in readers for name in opened.names(split)]
    repairs, found, where = Repairs(), [], {}
    for path, opened, name in progress(names, unit="annotations"):
        if name in where:
            raise DataError(f"{where[name]} and {path} both have an image {name!r}; rename one.")
        where[name] = path
        found.append(annotate(opened.describe(name), classes, reading, repairs))
    for line in repairs.lines():
        logging.warning("%s (%s DATA lists all)", line, CHECK)
    return found


def read_classes(text: str) -> tuple[str, ...]:
    """Reads class names in label order from a file with one per line, or from a comma-separated list.

    Raises:
        ValueError: If the file does not exist, there are no names, or one occurs twice.
    """
    if os.path.isfile(text):
        with open(text, encoding="utf-8-sig") as file:
            names = [line.strip() for line in file]
    elif "," not in text and (os.sep in text or text.endswith(".txt")):
        raise ValueError(f"--classes={text}: no such file.")
    else:
        names = [name.strip() for name in text.split(",")]
    return tuple(distinct(names, f"--classes={text}", "class", ValueError))
