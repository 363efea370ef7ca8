"""A detector over all images of a split, in a way that can be broken off and taken up again."""

import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from fd_keras.progress import progress
from fd_keras.training.reporting import duration
from fd_keras.training.voc import dataset
from fd_keras.training.voc.dataset import Annotation
from fd_keras.training.voc.detections import Detections

PARTIAL = "unfinished.jsonl"  # what was found so far, a line an image; goes when the evaluation is whole


def detect_all(
    detector: Callable[[np.ndarray], Detections], annotations: Sequence[Annotation], folder: str | None, key: Mapping
) -> dict[str, Detections]:
    """Finds what is on every image of a split.

    Args:
        detector: of a uint8 RGB image.
        annotations: of the split.
        folder: where each image's detections are noted down at once, and those found earlier taken from; None: nowhere.
        key: says what is run on what; detections of another key are not taken.

    Returns:
        what was found, by image in the split's order.
    """
    done, notes = _resume(folder, key) if folder else ({}, None)
    rest = [annotation for annotation in annotations if annotation.id not in done]
    if done:
        print(f"{len(annotations) - len(rest)} of {len(annotations)} images were done before", file=sys.stderr)
    start = time.monotonic()
    try:
        for annotation in progress(rest):
            found = detector(dataset.read_image(annotation.path))
            done[annotation.id] = found
            if notes:
                notes.write(_line(annotation.id, found))
                notes.flush()
    finally:
        if notes:
            notes.close()
    if rest:
        seconds = time.monotonic() - start
        print(f"{len(rest)} images in {duration(seconds)}, {seconds / len(rest):.2f} s an image", file=sys.stderr)
    return {annotation.id: done[annotation.id] for annotation in annotations}


def finish(folder: str) -> None:
    """Deletes the notes, once what they were taken for is written."""
    os.unlink(os.path.join(folder, PARTIAL))


def _resume(folder: str, key: Mapping):
    """(what was found earlier, the file to add to)."""
    os.makedirs(folder, exist_ok=True)
    path = os.path.join(folder, PARTIAL)
    head = json.dumps(key, sort_keys=True) + "\n"
    done, size = {}, 0
    if os.path.exists(path):
        with open(path, encoding="utf-8", newline="") as file:
            if file.readline() == head:
                size = len(head.encode())
                for name, found, length in _whole_lines(file):
                    done[name], size = found, size + length
    notes = open(path, "a" if size else "w", encoding="utf-8")
    if size:
        notes.truncate(size)
    else:
        notes.write(head)
    return done, notes


def _line(name: str, found: Detections) -> str:
    parts = {"boxes": found.boxes, "scores": found.scores, "labels": found.labels}
    return json.dumps({"id": name} | {part: array.tolist() for part, array in parts.items()}) + "\n"


def _whole_lines(file) -> Iterator[tuple[str, Detections, int]]:
    """Name, detections and length in bytes, up to where a killed process left off in the middle of a line."""
    for line in file:
        try:
            row = json.loads(line)
        except ValueError:
            return
        if not line.endswith("\n"):
            return
        boxes = np.array(row["boxes"], "float32").reshape(-1, 4)
        found = Detections(boxes, np.array(row["scores"], "float32"), np.array(row["labels"], "int64"))
        yield row["id"], found, len(line.encode())
