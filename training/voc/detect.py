"""Draws the objects that a trained detector finds in photos, and prints them.

    fd-keras detect predict --run_dir=RUN photo.jpg folder/

Boxes are printed as x1 y1 x2 y2 in pixels of the photo.
"""

import json
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from absl import flags

from fd_keras.photos import list_images
from fd_keras.program import Program, UsageError
from fd_keras.progress import progress
from fd_keras.training.voc import annotation, draw
from fd_keras.training.voc.detections import Detections

if TYPE_CHECKING:
    from fd_keras.training.voc.detector import Detector

_RUN = flags.DEFINE_string("run_dir", None, "Run of fd-keras detect train.", required=True)
_OUTPUT = flags.DEFINE_string("output_dir", "detections", "Folder for the photos with boxes.")
_SCORE = flags.DEFINE_float("min_score", 0.5, "Minimum score of the detections to show.", 0, 1)
_UPRIGHT = flags.DEFINE_bool("upright", True, "Rotate photos by their EXIF orientation.")
_JSON = flags.DEFINE_bool("json", False, "Print one line of JSON per photo.")


def outputs(paths: Sequence[str], folder: str) -> list[str]:
    """Returns the paths of the output photos: PNG for PNG, JPEG for all other formats.

    Raises:
        ValueError: If two photos would have the same output path.
    """
    places: dict[str, str] = {}
    for path in paths:
        stem, extension = os.path.splitext(os.path.basename(path))
        place = os.path.join(folder, f"{stem}_detected{'.png' if extension.lower() == '.png' else '.jpg'}")
        if place in places:
            raise ValueError(f"{places[place]} and {path} would both be written to {place}; rename one.")
        places[place] = path
    return list(places)


def rows(found: Detections, classes: Sequence[str]) -> list[dict]:
    """Returns the detections as JSON objects, best first."""
    return [
        {"class": classes[label], "score": round(float(score), 4), "box": [round(float(side), 1) for side in box]}
        for label, score, box in zip(found.labels, found.scores, found.boxes, strict=True)
    ]


def text(path: str, place: str, found: Sequence[dict]) -> str:
    """Formats the detections of a photo; boxes are x1 y1 x2 y2 in pixels."""
    lines = [
        f"  {row['score']:.2f}  {row['class']:12}  {' '.join(f'{side:7.1f}' for side in row['box'])}" for row in found
    ]
    return "\n".join([f"{path} -> {place}", *(lines or ["  nothing"])])


def main(argv: list[str]) -> int:
    """Detects, draws and prints the objects in each photo; returns 1 if one could not be read."""
    if not argv:
        raise UsageError("pass photos, or folders of photos")
    paths = [path for argument in argv for path in list_images(argument)]
    places = outputs(paths, _OUTPUT.value)
    from fd_keras.training.voc import detector as detectors

    detector = detectors.load(_RUN.value)
    os.makedirs(_OUTPUT.value, exist_ok=True)
    broken = 0
    for path, place in progress(list(zip(paths, places, strict=True))):
        try:
            print(detect(detector, path, place), flush=True)
        except annotation.DataError as error:
            print(f"error: {error}", file=sys.stderr)
            broken += 1
    return int(broken > 0)


def detect(detector: "Detector", path: str, place: str) -> str:
    """Draws the objects in a photo and formats them for printing. Raises DataError if the photo cannot be read."""
    pixels = annotation.read_image(path, _UPRIGHT.value)
    found = detector(pixels)
    found = found[found.scores >= _SCORE.value]
    draw.save(draw.draw(pixels, draw.detection_marks(found, detector.classes)), place)
    objects = rows(found, detector.classes)
    if _JSON.value:
        return json.dumps({"image": path, "drawn": place, "detections": objects})
    return text(path, place, objects)


PROGRAM = Program(main, positional="PHOTO...")

if __name__ == "__main__":
    PROGRAM.run()
