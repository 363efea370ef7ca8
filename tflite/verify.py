"""Runs the same images through a Keras model and the .tflite files made from it, and compares.

python -m tflite.verify --tflite=out/a_float32.tflite,out/a_int8.tflite --images=photos --labels=labels.txt
python -m tflite.verify --tflite=out/a_int8.tflite --images=photos --sensitivity=alone --calibration_dir=training_photos
"""

import json
import os
import sys
from collections.abc import Sequence

from absl import app, flags

from fd_keras.io import check_figure, sha256_of
from fd_keras.litert import Runner
from fd_keras.tflite.format import sidecar
from fd_keras.tflite.verification import sensitivity
from fd_keras.tflite.verification.ablation import EvaluationSet
from fd_keras.tflite.verification.compare import Comparison, compare, tflite_classifier
from fd_keras.tflite.verification.reference import calibration_of, reference_classifier, reference_of
from fd_keras.tflite.verification.sensitivity import MODES

_TFLITE = flags.DEFINE_list("tflite", None, "Files to check.", required=True)
_IMAGES = flags.DEFINE_string("images", None, "Folder of images.", required=True)
_LABELS = flags.DEFINE_string("labels", None, "Text file of lines `image-name label`; needed for top-1 and top-5.")
_REFERENCE = flags.DEFINE_string("reference", None, "A .keras or .tflite; default: what the first file was made from.")
_RESIZE = flags.DEFINE_bool("resize", True, "Resize as for evaluation before the central crop, or only crop.")
_THREADS = flags.DEFINE_integer("threads", os.cpu_count() or 1, "Threads of the interpreter.", lower_bound=1)
_JSON = flags.DEFINE_bool("json", False, "Print JSON instead of a table.")
_RECORD = flags.DEFINE_bool("record", False, "Write the accuracy into the .json of each file; needs --labels.")
_CLASSES = flags.DEFINE_integer("per_class", 0, "Also print the classes that lose most, this many.", lower_bound=0)
_CHECK = flags.DEFINE_bool("check", False, "Exit with status 1 if a file is too far from the reference.")
_DROP = flags.DEFINE_float("max_drop", 1.0, "For --check: points of top-1 that a file may lose.", lower_bound=0)
_AGREEMENT = flags.DEFINE_float("min_agreement", 92.0, "For --check: percent of images that must agree.")
_SENSITIVITY = flags.DEFINE_enum(
    "sensitivity",
    None,
    MODES,
    "Rank the layers of an int8 file: each the only one of integers, or the only one of floats.",
)
_CALIBRATION = flags.DEFINE_string("calibration_dir", None, "For --sensitivity: the folder it was calibrated on.")
_PLOT = flags.DEFINE_string("plot", None, "For --sensitivity: draw it into this .png, .svg or .pdf.")


def report(names: Sequence[str], results: Sequence[Comparison], sizes: Sequence[int | None]) -> list[dict]:
    """One record a classifier, the reference first."""
    return [
        {"file": name, **result.percentages(), "size_bytes": size, "by_class": result.by_class()[: _CLASSES.value]}
        for name, result, size in zip(names, results, sizes, strict=True)
    ]


def table(records: Sequence[dict]) -> str:
    """The records as aligned text."""

    def cell(value: float | None, form: str) -> str:
        return format("-" if value is None else format(value, form), ">" + form.split(".")[0])

    width = max(len(record["file"]) for record in records)
    lines = [f"{'':{width}}   top-1   top-5  top-1 lost (95%)  agreement  ties  largest error  size kB"]
    for r in records:
        lost = "-" if r["drop"] is None else f"{r['drop']:.2f} +- {r['drop_margin']:.2f}"
        size = r["size_bytes"] and r["size_bytes"] / 1e3
        lines.append(
            f"{r['file']:{width}}  {cell(r['top1'], '6.2f')}  {cell(r['top5'], '6.2f')}  {lost:>16}  "
            f"{r['agreement']:9.2f}  {r['ties']:4}  {r['largest_error']:13.2g}  {cell(size, '7.0f')}"
        )
    return "\n".join([*lines, f"in percent of {records[0]['images']} images; ties: images with several classes first"])


def class_table(record: dict) -> str:
    """The classes that lost most in a file."""
    rows = [
        f"  class {row['label']:4}  {row['images']:4} images  {row['reference']:6.1f} -> {row['top1']:5.1f}"
        for row in record["by_class"]
    ]
    return "\n".join([f"{record['file']}: top-1 of the reference and of the file", *rows])


def failures(records: Sequence[dict], max_drop: float, min_agreement: float) -> list[str]:
    """What is wrong with the files (all records but the first) by these limits."""
    found = []
    for record in records[1:]:
        if record["drop"] is not None and record["drop"] > max_drop:
            found.append(f"{record['file']}: top-1 is {record['drop']:.2f} points lower, allowed are {max_drop}.")
        if record["agreement"] < min_agreement:
            found.append(f"{record['file']}: agrees on {record['agreement']:.2f}%, wanted are {min_agreement}%.")
    return found


def record_accuracy(records: Sequence[dict]) -> None:
    """Notes what was measured in the sidecars, from where `android_bench` takes it."""
    of = {"images": records[0]["images"], "labels": _LABELS.value, "labels_sha256": sha256_of(_LABELS.value)}
    reference = {"reference": records[0]["file"], "reference_top1": records[0]["top1"]}
    for path, measured in zip(_TFLITE.value, records[1:], strict=True):
        own = {key: measured[key] for key in ("top1", "top5", "agreement", "ties")}
        sidecar.record(path, accuracy=own | of | reference)


def rank_layers(images: EvaluationSet) -> None:
    """What `--sensitivity` does."""
    if len(_TFLITE.value) > 1 or _CALIBRATION.value is None:
        raise ValueError("--sensitivity takes one file, and --calibration_dir, the folder it was calibrated on.")
    if _PLOT.value:
        check_figure(_PLOT.value)
    path, mode = _TFLITE.value[0], _SENSITIVITY.value
    calibration, settings = calibration_of(path, _CALIBRATION.value)
    include = sidecar.read_sidecar(path)["include_preprocessing"]
    results = sensitivity.measure(reference_of(path), calibration, images, settings, include, mode)
    records = sensitivity.ranked(results, mode)
    print(json.dumps(records, indent=1) if _JSON.value else sensitivity.table(records))
    if _PLOT.value:
        sensitivity.plot(_PLOT.value, records, mode)


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"Unexpected argument {argv[1]!r}; everything is given by flags.")
    try:
        if _RECORD.value and not _LABELS.value:
            raise ValueError("--record needs --labels: without them there is no accuracy.")
        if _SENSITIVITY.value:
            size = Runner(_TFLITE.value[0]).input_shape[:2]
            return rank_layers(EvaluationSet.load(_IMAGES.value, _LABELS.value, size, _RESIZE.value))
        candidates = [tflite_classifier(path, _THREADS.value) for path in _TFLITE.value]
        reference = reference_classifier(_REFERENCE.value, _TFLITE.value[0], _THREADS.value)
        size = Runner(_TFLITE.value[0]).input_shape[:2]
        images = EvaluationSet.load(_IMAGES.value, _LABELS.value, size, _RESIZE.value)
        results = compare(reference, candidates, images.batches())
        sizes = [None, *map(os.path.getsize, _TFLITE.value)]
        records = report([_REFERENCE.value or "Keras", *map(os.path.basename, _TFLITE.value)], results, sizes)
        if _RECORD.value:
            record_accuracy(records)
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    if _JSON.value:
        print(json.dumps(records, indent=1))
    else:
        tables = [class_table(record) for record in records[1:] if record["by_class"]]
        print("\n\n".join([table(records), *tables]))
    if _CHECK.value and (found := failures(records, _DROP.value, _AGREEMENT.value)):
        sys.exit("\n".join(found))


if __name__ == "__main__":
    app.run(main)
