"""Runs a detector on all images of a split; an interrupted evaluation can be resumed."""

import contextlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from fd_keras.progress import duration, progress
from fd_keras.training.voc.annotation import Annotation
from fd_keras.training.voc.detections import Detections

PARTIAL = "unfinished.jsonl"  # detections so far, one line per image; deleted when the evaluation is done


def detect_all(
    detector: Callable[[np.ndarray], Detections], annotations: Sequence[Annotation], folder: str | None, key: Mapping
) -> dict[str, Detections]:
    """Detects the objects in all images of a split.

    Args:
        detector: Function that detects objects in uint8 RGB images.
        annotations: Annotations of the split.
        folder: Folder in which detections are saved after each image, to resume an interrupted call; None to not save.
        key: Identifies detector and split; saved detections with another key are ignored.

    Returns:
        Detections by image name, in the split's order.
    """
    start = time.monotonic()
    with _notes(folder, key) as (done, note):
        rest = [annotation for annotation in annotations if annotation.id not in done]
        if done:
            print(f"resumed after {len(annotations) - len(rest)} of {len(annotations)} images", file=sys.stderr)
        for annotation in progress(rest):
            done[annotation.id] = detector(annotation.read())
            note(annotation.id, done[annotation.id])
    if rest:
        seconds = time.monotonic() - start
        print(f"{len(rest)} images in {duration(seconds)}, {seconds / len(rest):.2f} s/image", file=sys.stderr)
    return {annotation.id: done[annotation.id] for annotation in annotations}


def finish(folder: str) -> None:
    """Deletes the saved detections, after the evaluation is written."""
    os.unlink(os.path.join(folder, PARTIAL))


@contextlib.contextmanager
def _notes(folder: str | None, key: Mapping) -> Iterator[tuple[dict[str, Detections], Callable]]:
    """Yields the saved detections by image, and a function (name, detections) that saves more."""
    if folder is None:
        yield {}, lambda name, found: None
        return
    os.makedirs(folder, exist_ok=True)
    path = os.path.join(folder, PARTIAL)
    head = json.dumps(key, sort_keys=True) + "\n"
    done, size = _found_earlier(path, head)
    with open(path, "a" if size else "w", encoding="utf-8") as file:
        file.truncate(size)
        file.write("" if size else head)

        def note(name: str, found: Detections) -> None:
            file.write(_line(name, found))
            file.flush()

        yield done, note


def _found_earlier(path: str, head: str) -> tuple[dict[str, Detections], int]:
    """Returns the saved detections and the length of their lines in bytes; nothing if the key differs."""
    done, size = {}, 0
    if os.path.exists(path):
        with open(path, encoding="utf-8", newline="") as file:
            if file.readline() == head:
                size = len(head.encode())
                for name, found, length in _whole_lines(file):
                    done[name], size = found, size + length
    return done, size


def _line(name: str, found: Detections) -> str:
    parts = {"boxes": found.boxes, "scores": found.scores, "labels": found.labels}
    return json.dumps({"id": name} | {part: array.tolist() for part, array in parts.items()}) + "\n"


def _whole_lines(file) -> Iterator[tuple[str, Detections, int]]:
    """Yields name, detections and length in bytes of each line, up to an incomplete line of a killed process."""
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
