"""Detections, and the devkit's result files such as comp4_det_test_cat.txt.

Each line of a file is an image name, a score and a box in 1-based pixels: "000004 0.702732 89 112 516 466".
"""

import dataclasses
import glob
import math
import os
from collections.abc import Iterable, Sequence

import numpy as np

from fd_keras.io import join, remove_unfinished, write_atomically


@dataclasses.dataclass(frozen=True, eq=False)
class Detections:
    """The detections in one image.

    Attributes:
        boxes: Boxes, float32 (k, 4): [x1, y1, x2, y2] in 0-based pixels of the original image, both ends included;
            float64 if read from a file, to keep all digits.
        scores: Scores, float32 (k,); float64 if read from a file.
        labels: Indices of the classes, int64 (k,).
        order: Positions in the whole split, which rank detections with equal scores, int64 (k,): line numbers if read
            from a file. None to rank them in their order here.
    """

    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    order: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.scores)

    def __getitem__(self, which) -> "Detections":
        """Selects detections by an index array, a mask or a slice."""
        order = None if self.order is None else self.order[which]
        return Detections(self.boxes[which], self.scores[which], self.labels[which], order)

    @staticmethod
    def empty() -> "Detections":
        """Returns an instance without detections."""
        return Detections(np.zeros((0, 4), "float32"), np.zeros(0, "float32"), np.zeros(0, "int64"))


def write(folder: str, split: str, classes: Sequence[str], found: Iterable[tuple[str, Detections]]) -> list[str]:
    """Writes one result file per class, also for classes without detections.

    Numbers have nine digits, which preserve a float32 exactly. Files are written atomically.

    Args:
        folder: Folder of the files; created if it does not exist.
        split: Name of the split, part of the file names.
        classes: Class names in label order.
        found: Pairs of image name and detections.

    Returns:
        The paths of the files.
    """
    lines: list[list[str]] = [[] for _ in classes]
    for name, image in found:
        boxes = image.boxes.astype("float64") + 1
        for label, score, box in zip(image.labels, image.scores, boxes, strict=True):
            lines[label].append(f"{name} {score:.9g} " + " ".join(f"{side:.9g}" for side in box) + "\n")
    os.makedirs(folder, exist_ok=True)
    remove_unfinished(folder)
    paths = [join(folder, f"comp4_det_{split}_{_in_file_name(name)}.txt") for name in classes]
    for path, text in zip(paths, lines, strict=True):
        write_atomically(path, "".join(text).encode())
    return paths


def read(folder: str, split: str, classes: Sequence[str], names: Iterable[str]) -> dict[str, Detections]:
    """Reads a folder of result files.

    Args:
        folder: Folder with a file comp4_det_SPLIT_CLASS.txt (or comp3_...) for each class; a file may be empty.
        split: Name of the split, part of the file names.
        classes: Class names in label order.
        names: Names of the split's images.

    Returns:
        Detections by image name, in the split's order.

    Raises:
        FileNotFoundError: If a class has no file.
        ValueError: If a line is malformed, or names an image that is not in the split.
    """
    rows: dict[str, list[tuple]] = {name: [] for name in names}
    for label, name in enumerate(classes):
        path = _find(folder, split, name)
        for number, line in enumerate(_lines(path), 1):
            if line.strip():
                image, values = _parse(line, f"{path}:{number}")
                if image not in rows:
                    raise ValueError(f"{path}:{number}: image {image!r} is not in the split {split}.")
                rows[image].append((label, number, *values))
    return {name: _from_rows(found) for name, found in rows.items()}


def _in_file_name(class_name: str) -> str:
    """Returns a class name as part of a file name; COCO and YOLO data can have names with slashes."""
    return class_name.replace("/", "%2F")


def _find(folder: str, split: str, name: str) -> str:
    name = _in_file_name(name)
    if not os.path.isdir(folder):
        raise FileNotFoundError(f"{folder}: no such folder.")
    path = os.path.join(glob.escape(folder), f"comp[34]*_det_{glob.escape(split)}_{glob.escape(name)}.txt")
    found = sorted(glob.glob(path))
    if not found:
        raise FileNotFoundError(
            f"{folder}: has no file comp4_det_{split}_{name}.txt. Add it, empty if there are no detections; for "
            "classes other than VOC's, pass --classes."
        )
    if len(found) > 1:
        raise ValueError(f"{folder}: has both {' and '.join(map(os.path.basename, found))}; remove one.")
    return found[0]


def _lines(path: str) -> list[str]:
    try:
        with open(path, encoding="utf-8-sig") as file:
            return file.readlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not valid UTF-8 ({error}).") from None


def _parse(line: str, where: str) -> tuple[str, list[float]]:
    """Parses a line to (image, [score, x1, y1, x2, y2]), with the box in 0-based pixels."""
    name, *texts = line.strip().rsplit(maxsplit=5)
    if len(texts) != 5:
        raise ValueError(f"{where}: expected an image, a score and a box (xmin ymin xmax ymax), got {line.strip()!r}.")
    try:
        score, *box = map(float, texts)
    except ValueError as error:
        raise ValueError(f"{where}: {error}.") from None
    if not all(map(math.isfinite, (score, *box))):
        raise ValueError(f"{where}: {line.strip()!r} contains a number that is not finite.")
    if box[2] - box[0] + 1 < 0 or box[3] - box[1] + 1 < 0:
        raise ValueError(f"{where}: {line.strip()!r} has xmin > xmax or ymin > ymax.")
    return name, [score, *(side - 1 for side in box)]


def _from_rows(rows: list[tuple]) -> Detections:
    if not rows:
        return Detections.empty()
    label, line, scores, *box = (np.array(column) for column in zip(*rows, strict=True))
    return Detections(np.stack(box, -1), scores, label, line)
