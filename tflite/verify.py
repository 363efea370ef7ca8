"""Compares .tflite files with their source model on the same images.

fd-keras verify --tflite=OUT/a_float32.tflite,OUT/a_int8.tflite --images=PHOTOS
fd-keras verify --tflite=OUT/a_int8.tflite --run_dir=RUN --record
fd-keras verify --tflite=OUT/a_int8.tflite --images=PHOTOS --sensitivity=alone --calibration_dir=TRAINING_PHOTOS

Top-1 needs labels. They come from PHOTOS, if it has a folder named after each class; from --labels, with a line for
each photo; or from RUN, the run folder of the model, whose held-out photos are used.
"""

import json
import logging
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from absl import flags

from fd_keras import class_names
from fd_keras.io import check_figure, printable, sha256_of
from fd_keras.next_step import next_line
from fd_keras.program import Program, ProgramError, UsageError, define_positive, flag_group
from fd_keras.tflite.recipes import MEASURES, SENSITIVITY_MODES

if TYPE_CHECKING:
    from fd_keras.tflite.verification.compare import Comparison
    from fd_keras.tflite.verification.evaluation_set import EvaluationSet, SourceImages
    from fd_keras.training.sources import Source

with flag_group("Files and images"):
    _TFLITE = flags.DEFINE_list("tflite", None, "Files to check.", required=True)
    _IMAGES = flags.DEFINE_string("images", None, "Folder of images, or of class folders, for top-1 and top-5.")
    _RUN = flags.DEFINE_string("run_dir", None, "Run folder whose held-out photos are used instead of --images.")
    _LABELS = flags.DEFINE_string("labels", None, "Text file of lines `image-name label` for --images.")
    _REFERENCE = flags.DEFINE_string("reference", None, "A .keras or .tflite (default: first file's source model).")
    _RESIZE = flags.DEFINE_bool("resize", True, "Resize as for evaluation before the central crop.")
    _THREADS = flags.DEFINE_integer("threads", os.cpu_count() or 1, "Number of threads.", lower_bound=1)
with flag_group("Output"):
    _JSON = flags.DEFINE_bool("json", False, "Print JSON instead of a table.")
    _RECORD = flags.DEFINE_bool("record", False, "Write the accuracy into the .json of each file.")
    _CLASSES = flags.DEFINE_integer("per_class", 0, "Number of classes with the largest drop to print.", lower_bound=0)
with flag_group("Limits"):
    _CHECK = flags.DEFINE_bool("check", False, "Exit with status 1 if a file exceeds a limit.")
    _DROP = flags.DEFINE_float("max_drop", 1.0, "For --check: maximum drop of top-1, in points.", lower_bound=0)
    _AGREEMENT = flags.DEFINE_float("min_agreement", 92.0, "For --check: minimum percentage of images that agree.", 0)
    _ERROR = define_positive("max_error", 50.0, "For --check: maximum error, in % of the reference's deviation.")
    _MEASURE = flags.DEFINE_enum("measure", None, MEASURES, "Kind of the outputs (default: by the reference's head).")
with flag_group("Sensitivity of layers"):
    _SENSITIVITY = flags.DEFINE_enum(
        "sensitivity",
        None,
        SENSITIVITY_MODES,
        "Rank the layers of an int8 file: each as the only int8 layer, or as the only float layer.",
    )
    _CALIBRATION = flags.DEFINE_string("calibration_dir", None, "Folder of the file's calibration images.")
    _PLOT = flags.DEFINE_string("plot", None, "Plot the ranking to this .png, .svg or .pdf.")


def report(names: Sequence[str], results: "Sequence[Comparison]", sizes: Sequence[int | None]) -> list[dict]:
    """Builds one record for each classifier, the reference first."""
    return [
        {"file": name, **result.percentages(), "size_bytes": size, "by_class": result.by_class()[: _CLASSES.value]}
        for name, result, size in zip(names, results, sizes, strict=True)
    ]


def table(records: Sequence[dict]) -> str:
    """Formats the records as aligned text."""

    def cell(value: float | None, form: str) -> str:
        return format("-" if value is None else format(value, form), ">" + form.split(".")[0])

    width = max(len(record["file"]) for record in records)
    lines = [f"{'':{width}}   top-1   top-5  top-1 lost (95%)  agreement  ties  error %  largest error  size kB"]
    for r in records:
        lost = "-" if r["drop"] is None else f"{r['drop']:.2f} +- {r['drop_margin']:.2f}"
        size = r["size_bytes"] and r["size_bytes"] / 1e3
        lines.append(
            f"{r['file']:{width}}  {cell(r['top1'], '6.2f')}  {cell(r['top5'], '6.2f')}  {lost:>16}  "
            f"{cell(r['agreement'], '9.2f')}  {r['ties']:4}  {cell(r['relative_error'], '7.2f')}  "
            f"{r['largest_error']:13.2g}  {cell(size, '7.0f')}"
        )
    notes = f"in percent of {records[0]['images']} images; ties: images with several classes first; error: of the "
    return "\n".join([*lines, notes + "reference's standard deviation", *measure_notes(records[0])])


def measure_notes(reference: dict) -> list[str]:
    """Notes on what was compared, and on the limits of these images; `reference` is the reference's record."""
    from fd_keras.head import HEADS

    notes = [f"compared: {HEADS[reference['measure']].text}"]
    if reference["measure"] == "classes" and reference["error_decides"]:
        notes.append(
            "The reference predicts the same class for all of these images, so the error of the scores is compared too."
        )
    return notes


def class_table(record: dict) -> str:
    """Formats the classes with the largest drop in a file."""
    rows = [
        f"  class {row['label']:4}  {row['images']:4} images  {row['reference']:6.1f} -> {row['top1']:5.1f}"
        for row in record["by_class"]
    ]
    return "\n".join([f"{record['file']}: top-1 of the reference and of the file", *rows])


RECORDED = ("top1", "top5", "agreement", "ties", "measure", "relative_error", "largest_error", "mean_error")


def record_accuracy(records: Sequence[dict], images: "EvaluationSet | SourceImages") -> None:
    """Writes the accuracy to the sidecars, where `fd-keras bench` reads it."""
    from fd_keras.tflite.format import sidecar

    of = {"images": records[0]["images"], **photos_facts(images)}
    reference = {"reference": records[0]["file"], "reference_top1": records[0]["top1"]}
    for path, measured in zip(_TFLITE.value, records[1:], strict=True):
        own = {key: measured[key] for key in RECORDED}
        sidecar.record(path, accuracy=own | of | reference)


def photos_facts(images: "EvaluationSet | SourceImages") -> dict:
    """Facts that identify the labeled photos, for the record."""
    from fd_keras.tflite.verification.evaluation_set import SourceImages

    if isinstance(images, SourceImages):
        return {"photos": images.source.name, "photos_fingerprint": images.source.fingerprint}
    return {"labels": _LABELS.value, "labels_sha256": sha256_of(_LABELS.value)} if _LABELS.value else {}


def images_for(path: str) -> "EvaluationSet | SourceImages":
    """Loads the images that the flags name, cropped to a file's input size, with labels in the file's class order.

    Raises:
        ValueError: If the classes are not the file's, images cannot be read, or --record has no labels.
        OSError: If the images do not exist.
    """
    from fd_keras.litert import Runner
    from fd_keras.tflite.verification.evaluation_set import EvaluationSet, SourceImages

    runner = Runner(path)
    classes = max(runner.classes, 2)  # a single score is that of class 1 of two
    source = None if _LABELS.value else labeled_photos(path, classes)
    if source is not None:
        return SourceImages(source, runner.input_shape, _RESIZE.value)
    if _RECORD.value and not _LABELS.value:
        raise ValueError(
            f"--record needs labels: name the folders in --images={_IMAGES.value} after the classes, or pass --labels."
        )
    names = class_names.names_of(path, classes) if _LABELS.value else None
    return EvaluationSet.load(_IMAGES.value or "", _LABELS.value, runner.input_shape, classes, _RESIZE.value, names)


def labeled_photos(path: str, classes: int) -> "Source | None":
    """The photos of the run or of class folders, with labels in a file's class order; None if --images has no labels.

    Raises:
        ValueError: If the run has another number of classes.
        OSError: If the photos do not exist.
    """
    from fd_keras.training import evaluation_photos

    if not _RUN.value:
        return photos_in_folders(_IMAGES.value or "", path, classes)
    source = evaluation_photos.of_run(_RUN.value)
    if len(source.classes) != classes:
        raise ValueError(f"{path} has {classes} classes, but {_RUN.value} is a run of {len(source.classes)}.")
    return source


def photos_in_folders(root: str, path: str, classes: int) -> "Source | None":
    """The photos of class folders; None if there are none, or (with a warning) if they are not the file's classes."""
    from fd_keras.training import evaluation_photos

    if not os.path.isdir(root):  # a single photo, or missing
        return None
    source = evaluation_photos.of_folder(root, class_names.names_of(path, classes), classes)
    if source is None and (folders := evaluation_photos.class_folders(root)):
        shown = ", ".join(map(printable, folders[:3]))
        logging.warning("%s: its folders (%s) are not the model's classes, so its images have no labels", root, shown)
    return source


def rank_layers(path: str, mode: str) -> None:
    """Prints and plots the sensitivity of a file's layers to int8."""
    from fd_keras.tflite.format import sidecar
    from fd_keras.tflite.verification import sensitivity
    from fd_keras.tflite.verification.reference import calibration_of, reference_of

    if len(_TFLITE.value) > 1 or _CALIBRATION.value is None:
        raise UsageError("--sensitivity needs one file and --calibration_dir, the folder of its calibration images")
    if _PLOT.value:
        check_figure(_PLOT.value)
    images = images_for(path)
    calibration, settings = calibration_of(path, _CALIBRATION.value)
    include = (sidecar.read_sidecar(path) or {}).get("include_preprocessing", True)
    results = sensitivity.measure(reference_of(path), calibration, images, settings, include, mode)
    records = sensitivity.ranked(results, mode)
    print(json.dumps(records, indent=1) if _JSON.value else sensitivity.table(records))
    if _PLOT.value:
        sensitivity.plot(_PLOT.value, records, mode)


def measured(images: "EvaluationSet | SourceImages") -> list[dict]:
    """Measures the reference and all files; returns their records."""
    from fd_keras.head import HEADS
    from fd_keras.litert import Runner
    from fd_keras.tflite.verification.compare import compare, tflite_classifier
    from fd_keras.tflite.verification.reference import reference_classifier

    candidates = [tflite_classifier(path, _THREADS.value) for path in _TFLITE.value]
    reference = reference_classifier(_REFERENCE.value, _TFLITE.value[0], _THREADS.value)
    head = HEADS[_MEASURE.value] if _MEASURE.value else reference.head
    steps = [Runner(path).output["quantization"][0] for path in _TFLITE.value]
    results = compare(reference, candidates, images.batches(), head, steps)
    sizes = [None, *map(os.path.getsize, _TFLITE.value)]
    return report([_REFERENCE.value or "Keras", *map(os.path.basename, _TFLITE.value)], results, sizes)


def check_flags() -> None:
    """Raises UsageError for flags that contradict each other, or that are missing."""
    if (_IMAGES.value is None) == (_RUN.value is None):
        raise UsageError("pass either --images, a folder of images, or --run_dir, a run folder")
    if _LABELS.value and _RUN.value:
        raise UsageError("--labels cannot be combined with --run_dir, whose photos already have labels; remove it")


def main(argv: list[str]) -> None:
    """Prints the comparison, or the sensitivity of the layers."""
    check_flags()
    if _SENSITIVITY.value:
        rank_layers(_TFLITE.value[0], _SENSITIVITY.value)
        return
    images = images_for(_TFLITE.value[0])
    records = measured(images)
    if _RECORD.value:
        record_accuracy(records, images)
    if _JSON.value:
        print(json.dumps(records, indent=1))
    else:
        tables = [class_table(record) for record in records[1:] if record["by_class"]]
        print("\n\n".join([table(records), *tables]))
    from fd_keras.tflite.verification.compare import failures

    found = failures(records, _DROP.value, _AGREEMENT.value, _ERROR.value) if _CHECK.value else []
    if found:
        raise ProgramError("\n".join(found))
    if not _JSON.value:
        folders = dict.fromkeys(os.path.dirname(path) or "." for path in _TFLITE.value)
        print(next_line("bench", models=",".join(folders), target="host"))


PROGRAM = Program(main)

if __name__ == "__main__":
    PROGRAM.run()
