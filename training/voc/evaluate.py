"""Average precision of a trained detector, or of other people's detections, by the rules of PASCAL VOC.

python -m training.voc.evaluate --voc_dir=VOCdevkit/VOC2007 --split=test --run_dir=RUN --output_dir=OUT
python -m training.voc.evaluate --voc_dir=VOCdevkit/VOC2007 --split=test --detections=DIR

An evaluation that was broken off goes on where it was, by the same command, if it has an --output_dir.
"""

import json
import os
import signal
import sys

from absl import app, flags

from fd_keras.io import sha256_of
from fd_keras.training.voc import batch_detection, dataset, detections, evaluation

_VOC = flags.DEFINE_string("voc_dir", None, "VOCdevkit/VOC2007; several with commas between.", required=True)
_SPLIT = flags.DEFINE_string("split", "test", "List of ImageSets/Main to score.")
_RUN = flags.DEFINE_string("run_dir", None, "Run of training.voc.train.")
_KIND = flags.DEFINE_string("kind", "last", "Which of the run's models.")
_DETECTIONS = flags.DEFINE_string("detections", None, "Folder of comp4_det_SPLIT_CLASS.txt instead of a run.")
_CLASSES = flags.DEFINE_string("classes", None, "With --detections: a file with one a line, or a list with commas.")
_OUTPUT = flags.DEFINE_string("output_dir", None, "Folder for result files, JSON, curves and a page of images.")
_JSON = flags.DEFINE_bool("json", False, "Print JSON.")


def evaluate_run() -> evaluation.Evaluation:
    """The evaluation of --run_dir."""
    from fd_keras.training.voc import detector as detectors

    detector = detectors.load(_RUN.value, _KIND.value)
    annotations = dataset.open_split(_VOC.value, _SPLIT.value, detector.classes)
    model = sha256_of(detectors.model_path(_RUN.value, _KIND.value, detector.name))
    key = {"model": model, "voc_dir": _VOC.value, "split": _SPLIT.value}
    found = batch_detection.detect_all(detector, annotations, _OUTPUT.value, key)
    return evaluation.evaluate(
        detector.name, _VOC.value, _SPLIT.value, detector.classes, annotations, found, detector.config
    )


def evaluate_files() -> evaluation.Evaluation:
    """The evaluation of --detections."""
    classes = dataset.read_classes(_CLASSES.value) if _CLASSES.value else dataset.CLASSES
    annotations = dataset.open_split(_VOC.value, _SPLIT.value, classes)
    found = detections.read(_DETECTIONS.value, _SPLIT.value, classes, [image.id for image in annotations])
    return evaluation.evaluate(_DETECTIONS.value, _VOC.value, _SPLIT.value, classes, annotations, found)


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"Unexpected argument {argv[1]!r}; everything is given by flags.")
    if (_RUN.value is None) == (_DETECTIONS.value is None):
        raise app.UsageError("Give either --run_dir or --detections.")
    if _CLASSES.value and _RUN.value:
        raise app.UsageError("--classes goes with --detections; a run knows its classes.")
    if _DETECTIONS.value and _OUTPUT.value and os.path.realpath(_DETECTIONS.value) == os.path.realpath(_OUTPUT.value):
        raise app.UsageError("--output_dir is --detections: its files would be written over; give another folder.")
    try:
        result = evaluate_run() if _RUN.value else evaluate_files()
        print(json.dumps(evaluation.content(result)) if _JSON.value else evaluation.text(result))
        if _OUTPUT.value:
            written = evaluation.write(result, _OUTPUT.value)
            print(f"\nin {_OUTPUT.value}: {', '.join(written)}", file=sys.stderr if _JSON.value else sys.stdout)
            if _RUN.value:
                batch_detection.finish(_OUTPUT.value)
    except KeyboardInterrupt:
        resumes = _OUTPUT.value and _RUN.value
        print("stopped" + ("; the same command goes on from here" if resumes else ""), file=sys.stderr)
        sys.exit(128 + signal.SIGINT)
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    app.run(main)
