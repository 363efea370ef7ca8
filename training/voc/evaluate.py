"""Measures the average precision of a run or of result files, by the rules of PASCAL VOC and COCO.

    fd-keras detect evaluate --voc_dir=VOCdevkit/VOC2007 --split=test --run_dir=RUN --output_dir=OUT
    fd-keras detect evaluate --voc_dir=VOCdevkit/VOC2007 --split=test --detections=DIR

With --output_dir, an interrupted evaluation of a run can be resumed by the same command.
"""

import json
import os
import sys
from typing import TYPE_CHECKING

from absl import flags

from fd_keras.io import sha256_of
from fd_keras.next_step import next_line
from fd_keras.program import Program, Stopped, UsageError, flag_group

if TYPE_CHECKING:
    from fd_keras.training.voc.evaluation import Evaluation

with flag_group("Data"):
    _VOC = flags.DEFINE_string(
        "voc_dir", None, "VOCdevkit/VOC2007, a COCO .json or a YOLO data.yaml; comma-separated.", required=True
    )
    _SPLIT = flags.DEFINE_string(
        "split", "test", "Split to score: a list in ImageSets/Main, or train, val or test of YOLO; COCO has only one."
    )
with flag_group("Detections"):
    _RUN = flags.DEFINE_string("run_dir", None, "Run of fd-keras detect train.")
    _DETECTIONS = flags.DEFINE_string("detections", None, "Folder of comp4_det_SPLIT_CLASS.txt instead of a run.")
    _CLASSES = flags.DEFINE_string(
        "classes", None, "Classes of --detections: comma-separated names, or a file with one per line."
    )
with flag_group("Output"):
    _OUTPUT = flags.DEFINE_string("output_dir", None, "Folder for result files, JSON, curves and a report with images.")
    _JSON = flags.DEFINE_bool("json", False, "Print JSON.")


def main(argv: list[str]) -> None:
    """Scores the detections, prints the table and writes the files."""
    check_flags()
    try:
        result = evaluate_run(_RUN.value) if _RUN.value else evaluate_files(_DETECTIONS.value or "")
    except KeyboardInterrupt as error:
        resumes = _OUTPUT.value and _RUN.value
        raise Stopped("stopped" + ("; the same command resumes from here" if resumes else "")) from error
    show(result)
    if _OUTPUT.value:
        write(result, _OUTPUT.value)
    if _RUN.value and not _JSON.value:
        folder = os.path.join(_RUN.value, "tflite")
        data = {"voc_dir": _VOC.value, "split": _SPLIT.value}
        print(next_line("detect convert", run_dir=_RUN.value, output_dir=folder, **data))


def check_flags() -> None:
    """Raises UsageError for flags that contradict each other."""
    if (_RUN.value is None) == (_DETECTIONS.value is None):
        raise UsageError("pass either --run_dir or --detections")
    if _CLASSES.value and _RUN.value:
        raise UsageError("--classes needs --detections; --run_dir uses the classes of the run")
    if _DETECTIONS.value and _OUTPUT.value and os.path.realpath(_DETECTIONS.value) == os.path.realpath(_OUTPUT.value):
        raise UsageError("--output_dir is equal to --detections, whose files would be overwritten; pass another folder")


def evaluate_run(run_dir: str) -> "Evaluation":
    """Evaluates the detector of a run; resumes an interrupted evaluation."""
    from fd_keras.training.voc import batch_detection, dataset, evaluation
    from fd_keras.training.voc import detector as detectors
    from fd_keras.training.voc.annotation import TO_EVALUATE

    detector = detectors.load(run_dir)
    annotations = dataset.open_split(_VOC.value, _SPLIT.value, detector.classes, TO_EVALUATE)
    model = sha256_of(detectors.file_of(run_dir, detector.name))
    key = {"model": model, "voc_dir": _VOC.value, "split": _SPLIT.value}
    found = batch_detection.detect_all(detector, annotations, _OUTPUT.value, key)
    return evaluation.evaluate(
        detector.name, _VOC.value, _SPLIT.value, detector.classes, annotations, found, detector.config
    )


def evaluate_files(folder: str) -> "Evaluation":
    """Evaluates a folder of result files; needs the annotations, but not the images."""
    from fd_keras.training.voc import dataset, detections, evaluation
    from fd_keras.training.voc.annotation import TO_SCORE_FILES

    classes = dataset.classes_of(_VOC.value, _CLASSES.value)
    annotations = dataset.open_split(_VOC.value, _SPLIT.value, classes, TO_SCORE_FILES)
    found = detections.read(folder, _SPLIT.value, classes, [image.id for image in annotations])
    return evaluation.evaluate(folder, _VOC.value, _SPLIT.value, classes, annotations, found)


def show(result: "Evaluation") -> None:
    """Prints the table, or JSON."""
    from fd_keras.training.voc import evaluation

    print(json.dumps(evaluation.content(result)) if _JSON.value else evaluation.text(result))


def write(result: "Evaluation", folder: str) -> None:
    """Writes the files, prints their names, and deletes the state for resuming."""
    from fd_keras.training.voc import batch_detection, evaluation_files

    written = evaluation_files.write(result, folder)
    print(f"\nin {folder}: {', '.join(written)}", file=sys.stderr if _JSON.value else sys.stdout)
    if _RUN.value:
        batch_detection.finish(folder)


PROGRAM = Program(main)

if __name__ == "__main__":
    PROGRAM.run()
