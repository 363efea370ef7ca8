"""Draws what a trained detector finds in photos, and prints it.

python -m training.voc.detect --run_dir=RUN photo.jpg folder/
"""

import json
import os
import sys
from collections.abc import Sequence

from absl import app, flags

from fd_keras import imagenet
from fd_keras.progress import progress
from fd_keras.training.voc import dataset, draw
from fd_keras.training.voc.detections import Detections

_RUN = flags.DEFINE_string("run_dir", None, "Run of training.voc.train.", required=True)
_KIND = flags.DEFINE_string("kind", "last", "Which of the run's models.")
_OUTPUT = flags.DEFINE_string("output_dir", "detections", "Folder for the drawn photos.")
_SCORE = flags.DEFINE_float("min_score", 0.5, "Score from which on a detection is shown.", 0, 1)
_UPRIGHT = flags.DEFINE_bool("upright", True, "Turn photos as their EXIF orientation says.")
_JSON = flags.DEFINE_bool("json", False, "Print a line of JSON for each photo.")


def outputs(paths: Sequence[str], folder: str) -> list[str]:
    """Where the drawn photos go: PNG for PNG, JPEG for all else.

    Raises:
        ValueError: if two photos would go to one place.
    """
    places: dict[str, str] = {}
    for path in paths:
        stem, extension = os.path.splitext(os.path.basename(path))
        place = os.path.join(folder, f"{stem}_detected{'.png' if extension.lower() == '.png' else '.jpg'}")
        if place in places:
            raise ValueError(f"{places[place]} and {path} would both be drawn to {place}; do them one by one.")
        places[place] = path
    return list(places)


def rows(found: Detections, classes: Sequence[str]) -> list[dict]:
    """The detections, best first, as plain data."""
    return [
        {"class": classes[label], "score": round(float(score), 4), "box": [round(float(side), 1) for side in box]}
        for label, score, box in zip(found.labels, found.scores, found.boxes, strict=True)
    ]


def text(path: str, place: str, found: Sequence[dict]) -> str:
    """The detections for people; boxes are x1 y1 x2 y2 in pixels."""
    lines = [
        f"  {row['score']:.2f}  {row['class']:12}  {' '.join(f'{side:7.1f}' for side in row['box'])}" for row in found
    ]
    return "\n".join([f"{path} -> {place}", *(lines or ["  nothing"])])


def main(argv: list[str]) -> None:
    if len(argv) < 2:
        raise app.UsageError("Name photos, or folders of them.")
    try:
        paths = [path for argument in argv[1:] for path in imagenet.list_images(argument)]
        places = outputs(paths, _OUTPUT.value)
        from fd_keras.training.voc import detector as detectors

        detector = detectors.load(_RUN.value, _KIND.value)
        os.makedirs(_OUTPUT.value, exist_ok=True)
        broken = 0
        for path, place in progress(list(zip(paths, places, strict=True))):
            try:
                pixels = dataset.read_image(path, _UPRIGHT.value)
            except dataset.DataError as error:
                print(f"error: {error}", file=sys.stderr)
                broken += 1
                continue
            found = detector(pixels)
            found = found[found.scores >= _SCORE.value]
            draw.save(draw.draw(pixels, draw.detection_marks(found, detector.classes)), place)
            found = rows(found, detector.classes)
            line = {"image": path, "drawn": place, "detections": found}
            print(json.dumps(line) if _JSON.value else text(path, place, found), flush=True)
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    sys.exit(int(broken > 0))


if __name__ == "__main__":
    app.run(main)
