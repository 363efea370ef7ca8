"""Validates detection data sets (VOC, COCO, YOLO): counts images and objects, and lists all problems.

    fd-keras detect check VOCdevkit/VOC2007

Exits with status 1 if anything is unusable.
"""

import argparse
import collections
import dataclasses
from collections.abc import Sequence

import numpy as np

from fd_keras.cli import parse_args, program_name, run_module, summary
from fd_keras.io import printable
from fd_keras.next_step import next_line, unused
from fd_keras.progress import progress
from fd_keras.training.voc import annotation, dataset, devkit

SHOWN = 20  # maximum number of problems of one kind to list; the rest is counted


@dataclasses.dataclass
class DatasetReport:
    """Content and problems of one folder.

    Attributes:
        folder: Path of the folder.
        splits: Image names by split.
        images: Usable annotations by image name.
        repairs: Boxes that are clipped or dropped.
        unusable: Error messages, one for each list, annotation or image that cannot be used.
    """

    folder: str
    splits: dict[str, list[str]] = dataclasses.field(default_factory=dict)
    images: dict[str, annotation.Annotation] = dataclasses.field(default_factory=dict)
    repairs: annotation.Repairs = dataclasses.field(default_factory=annotation.Repairs)
    unusable: list[str] = dataclasses.field(default_factory=list)


def inspect(folder: str, splits: Sequence[str], classes: Sequence[str]) -> DatasetReport:
    """Reads all annotations and decodes all images of some splits, collecting all errors.

    Raises:
        DataError: If the data set cannot be opened.
    """
    reader = dataset.reader(folder, classes)
    report = DatasetReport(folder)
    for split in splits or reader.splits():
        try:
            report.splits[split] = reader.names(split)
        except annotation.DataError as error:
            report.unusable.append(str(error))
    if not report.splits and not report.unusable:
        report.unusable.append(f"{folder}: found no lists in {devkit.LISTS}.")
    for name in progress(sorted(set().union(*report.splits.values())), unit="images"):
        try:
            image = annotation.annotate(reader.describe(name), classes, annotation.TO_TRAIN, report.repairs)
            image.read()
            report.images[name] = image
        except annotation.DataError as error:
            report.unusable.append(str(error))
    for split, names in report.splits.items():
        if all(name in report.images and not len(report.images[name].labels) for name in names):
            report.unusable.append(f"{folder}: no image of {split} has an object; check other splits with --split.")
    return report


def text(report: DatasetReport, classes: Sequence[str]) -> str:
    """Formats the report: numbers of images and objects by class and split, as in the devkit's tables, and problems."""
    wide = max(map(len, (*classes, "difficult, not counted above")))
    lines = [report.folder, " " * wide + "".join(f"{split:>18}" for split in report.splits)]
    lines.append(" " * wide + "    images objects" * len(report.splits))
    tables = [_counts([report.images[n] for n in names if n in report.images]) for names in report.splits.values()]
    for label, name in enumerate(classes):
        lines.append(f"{name:{wide}}" + "".join(f"{images[label]:10}{objects[label]:8}" for images, objects in tables))
    for key, name in (("all", "all"), ("difficult", "difficult, not counted above"), ("none", "without an object")):
        lines.append(f"{name:{wide}}" + "".join(f"{images[key]:10}{objects[key]:8}" for images, objects in tables))
    for kind, files in report.repairs.files.items():
        lines += ["", f"{len(files)} {'box' if len(files) == 1 else 'boxes'} {kind}:"]
        lines += _listed([f"{file} ({count})" if count > 1 else file for file, count in _tally(files)])
    if report.unusable:
        lines += ["", f"{len(report.unusable)} unusable:", *_listed(report.unusable)]
    lines += ["", "unusable: see above" if report.unusable else "usable as it is"]
    return "\n".join(lines)


def _counts(images: Sequence[annotation.Annotation]) -> tuple[collections.Counter, collections.Counter]:
    """Counts images and objects by label; the keys all, difficult and none are totals."""
    with_it, objects = collections.Counter(), collections.Counter()
    for image in images:
        easy = image.labels[~image.difficult]
        objects.update(easy.tolist())
        objects.update({"all": len(easy), "difficult": int(image.difficult.sum())})
        with_it.update(np.unique(easy).tolist())
        with_it.update({"all": 1, "difficult": int(image.difficult.any()), "none": int(not len(image.labels))})
    return with_it, objects


def _tally(files: Sequence[str]) -> list[tuple[str, int]]:
    return sorted(collections.Counter(files).items())


def _listed(items: Sequence[str]) -> list[str]:
    more = [f"  and {len(items) - SHOWN} more"] if len(items) > SHOWN else []
    return [f"  {item}" for item in items[:SHOWN]] + more


def parser() -> argparse.ArgumentParser:
    """Returns the argument parser."""
    parser = argparse.ArgumentParser(prog=program_name(__spec__), description=summary(__doc__), allow_abbrev=False)
    parser.add_argument("folders", metavar="DATA", help="VOCdevkit/VOC2007, COCO .json or YOLO .yaml, comma-separated")
    parser.add_argument("--split", help="splits to check, comma-separated (default: all)")
    parser.add_argument("--classes", help="comma-separated names, or a file with one per line (default: the data's)")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the program; returns the exit status, 1 if anything is unusable."""
    args = parse_args(parser(), arguments)
    classes = dataset.classes_of(args.folders, args.classes)
    splits = args.split.split(",") if args.split else []
    reports = [inspect(folder, splits, classes) for folder in dataset.paths_of(args.folders)]
    for line in "\n\n".join(text(report, classes) for report in reports).split("\n"):
        print(printable(line))
    shared = _shared(reports)
    if shared:
        print(f"\nunusable together: {len(shared)} image names are in more than one folder, for example {shared[0]}")
    unusable = bool(shared) or any(report.unusable for report in reports)
    if not unusable and (split := _to_train_on(reports)):
        flags = {"voc_dir": args.folders, "split": split, "classes": args.classes, "init_weights": "imagenet"}
        print(next_line("detect train", **flags, run_dir=unused("run")))
    return int(unusable)


def _to_train_on(reports: Sequence[DatasetReport]) -> str | None:
    """Returns the training split that all folders have; None if there is none."""
    return next((split for split in ("trainval", "train") if all(split in r.splits for r in reports)), None)


def _shared(reports: Sequence[DatasetReport]) -> list[str]:
    """Returns the image names that occur in several folders."""
    counts = collections.Counter(name for report in reports for name in report.images)
    return [name for name, count in counts.items() if count > 1]


if __name__ == "__main__":
    run_module(main)
