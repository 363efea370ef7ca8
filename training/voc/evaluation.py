"""Evaluates a detector on a split: average precision as a table and as JSON, compared with the paper's."""

import dataclasses
import math
from collections.abc import Mapping, Sequence

from fd_keras import zoo
from fd_keras.training.voc import coco_metric, dataset, metric
from fd_keras.training.voc.annotation import Annotation
from fd_keras.training.voc.detections import Detections
from fd_keras.training.voc.detector_recipe import PAPER

TEST_IMAGES = 4952  # number of images of VOC2007's test set, which the paper uses


@dataclasses.dataclass(frozen=True, eq=False)
class Evaluation:
    """Detections in a split and their average precision.

    Attributes:
        title: Name of the detector.
        voc_dirs: Paths of the data sets, comma-separated.
        split: Name of the split, for example "test".
        classes: Class names in label order.
        annotations: Annotations of the split.
        found: Detections by image name.
        result: Average precision by VOC's rules.
        coco: Average precision by COCO's rules.
        config: Configuration of the detector, {"backbone", "alpha", ...}; None for result files.
    """

    title: str
    voc_dirs: str
    split: str
    classes: tuple[str, ...]
    annotations: Sequence[Annotation]
    found: Mapping[str, Detections]
    result: metric.Result
    coco: coco_metric.CocoResult
    config: Mapping | None = None

    @property
    def is_papers(self) -> bool:
        """Whether the split is VOC2007's test set, which the paper uses."""
        return self.split == "test" and len(self.annotations) == TEST_IMAGES and self.classes == dataset.CLASSES


def evaluate(
    title: str,
    voc_dirs: str,
    split: str,
    classes: Sequence[str],
    annotations: Sequence[Annotation],
    found: Mapping[str, Detections],
    config: Mapping | None = None,
) -> Evaluation:
    """Scores the detections in a split; for the arguments, see `Evaluation`."""
    result, coco = metric.score(classes, annotations, found), coco_metric.score(classes, annotations, found)
    return Evaluation(title, voc_dirs, split, tuple(classes), annotations, found, result, coco, config)


def paper_row(config: Mapping | None) -> zoo.PaperDetectionRow | None:
    """Returns the row of the paper's table 3 with a detector's network, or None."""
    network = (config or {}).get("backbone"), (config or {}).get("alpha")
    return next((row for row in zoo.PAPER_TABLE3 if (row.arch, row.alpha) == network), None)


def paper_aps(evaluation: Evaluation) -> list[float] | None:
    """Returns the paper's AP of each class for the same network, from 0 to 1; None if there is none."""
    row = paper_row(evaluation.config)
    return [ap / 100 for ap in row.class_aps] if row and evaluation.classes == dataset.CLASSES else None


def text(evaluation: Evaluation) -> str:
    """Formats the table for the terminal, with AP in percent."""
    result, columns = evaluation.result, _columns(evaluation)
    objects = [each.objects for each in result.classes]
    hits = [int(each.hits.sum()) for each in result.classes]
    wide = max(map(len, (*evaluation.classes, "mean")))
    lines = [
        f"{evaluation.title} on {evaluation.split} of {evaluation.voc_dirs}: {result.images} images",
        "",
        f"{'AP, %':{wide}}  {''.join(f'{name:>8}' for name in columns)}  objects    found",
    ]
    counts = zip([*objects, sum(objects)], [*hits, sum(hits)], strict=True)
    aps_of = zip(*columns.values(), strict=True)
    for name, aps, (count, hit) in zip([*evaluation.classes, "mean"], aps_of, counts, strict=True):
        cells = "".join(f"{percent(ap):>8}" for ap in aps)
        lines.append(f"{name:{wide}}  {cells}{count:9} {hit if count else '':>8}".rstrip())
    at50, at75 = percent(evaluation.coco.mean_ap50), percent(evaluation.coco.mean_ap75)
    lines += ["", f"COCO: mean over overlaps from 0.5 to 0.95; at 0.5 {at50}, at 0.75 {at75}"]
    if result.empty:
        lines += ["", f"without objects, excluded from the mean: {', '.join(result.empty)}"]
    return "\n".join(lines + _table3(evaluation))


def _columns(evaluation: Evaluation) -> dict[str, list[float]]:
    """Returns columns by title: AP of each class and the mean by each rule, and the paper's."""
    result, coco = evaluation.result, evaluation.coco
    row, paper = paper_row(evaluation.config), paper_aps(evaluation)
    return {
        "11-point": [*(each.ap11 for each in result.classes), result.map11],
        **({"paper": [*paper, row.mean_ap / 100]} if row and paper else {}),
        "area": [*(each.ap_area for each in result.classes), result.map_area],
        "COCO": [*coco.classes, coco.mean_ap],
    }


def _table3(evaluation: Evaluation) -> list[str]:
    """Formats the paper's table of mean APs, with the one measured here."""
    mine = paper_row(evaluation.config)
    if mine is None and evaluation.classes != dataset.CLASSES:
        return []
    here = percent(evaluation.result.map11)
    lines = ["", f"{'table 3 (11-point mAP, %)':26} MFLOPs  paper   here"]
    for row in zoo.PAPER_TABLE3:
        lines.append(f"{row.title:26} {row.mflops:6}  {row.mean_ap:5.1f}  {here if row is mine else '':>5}".rstrip())
    if mine is None:
        lines.append(f"{'this detector':26} {'':6}  {'':5}  {here:>5}")
    return lines + differences(evaluation)


def differences(evaluation: Evaluation) -> list[str]:
    """Returns sentences on why figures are not comparable with the paper's."""
    lines = []
    if not evaluation.is_papers:
        where = f"{evaluation.split} of {len(evaluation.annotations)} images"
        lines.append(
            f"Not comparable: the paper's figures are on VOC2007's test set of {TEST_IMAGES} images, these on {where}."
        )
    config = evaluation.config or {}
    side = config.get("short_side", PAPER.short_side)
    if config.get("detector") == "retinanet":
        lines.append(
            f"The paper's detector is a Faster R-CNN with a short side of {PAPER.short_side} pixels, this one a "
            f"RetinaNet with squares of {config['side']} pixels."
        )
    elif side != PAPER.short_side:
        lines.append(
            f"The paper's detector uses images with a short side of {PAPER.short_side} pixels, this one {side}."
        )
    return lines


def percent(value: float) -> str:
    """Formats a value from 0 to 1 as a percentage, or "-" for nan."""
    return "-" if math.isnan(value) else f"{100 * value:.1f}"


def content(evaluation: Evaluation) -> dict:
    """Returns the content of results.json, with AP from 0 to 1, or null for classes without objects."""
    result, coco, row = evaluation.result, evaluation.coco, paper_row(evaluation.config)
    paper = paper_aps(evaluation) or [None] * len(result.classes)
    return {
        "detector": evaluation.title,
        "config": evaluation.config and dict(evaluation.config),
        "voc_dir": evaluation.voc_dirs,
        "split": evaluation.split,
        "images": result.images,
        "map11": _known(result.map11),
        "map_area": _known(result.map_area),
        "map_coco": _known(coco.mean_ap),
        "map_coco_50": _known(coco.mean_ap50),
        "map_coco_75": _known(coco.mean_ap75),
        "classes": [
            {"name": each.name, "objects": each.objects, "found": int(each.hits.sum()),
             "false": int((~each.hits).sum()), "ap11": _known(each.ap11), "ap_area": _known(each.ap_area),
             "ap_coco": _known(ap), "paper_ap11": theirs and round(theirs, 4)}
            for each, ap, theirs in zip(result.classes, coco.classes, paper, strict=True)
        ],
        "left_out_of_the_mean": result.empty,
        "paper_map11": row and round(row.mean_ap / 100, 4),
        "is_papers_test_set": evaluation.is_papers,
    }  # fmt: skip


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value
