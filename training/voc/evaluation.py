"""The evaluation of a detector on a split: its scores, as a table and as plain data, beside the paper's."""

import dataclasses
import math
from collections.abc import Mapping, Sequence

from fd_keras import zoo
from fd_keras.training.voc import dataset, metric
from fd_keras.training.voc.annotation import Annotation
from fd_keras.training.voc.detections import Detections
from fd_keras.training.voc.detector_recipe import PAPER

TEST_IMAGES = 4952  # of VOC2007's test set, on which the paper's figures are


@dataclasses.dataclass(frozen=True, eq=False)
class Evaluation:
    """Detections of a split and their average precision.

    Attributes:
        title: Name of the detector.
        voc_dirs: Folders of the data set, as given.
        split: Name of the split, for example "test".
        classes: Class names in label order.
        annotations: Annotations of the split.
        found: Detections by image.
        result: Average precision.
        config: Configuration of the detector, {"backbone", "alpha", ...}; None for detections made elsewhere.
    """

    title: str
    voc_dirs: str
    split: str
    classes: tuple[str, ...]
    annotations: Sequence[Annotation]
    found: Mapping[str, Detections]
    result: metric.Result
    config: Mapping | None = None

    @property
    def is_papers(self) -> bool:
        """Whether it is the set that the paper's figures are on."""
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
    """Scores the detections of a split."""
    result = metric.score(classes, annotations, found)
    return Evaluation(title, voc_dirs, split, tuple(classes), annotations, found, result, config)


def paper_row(config: Mapping | None) -> zoo.PaperDetectionRow | None:
    """The row of the paper's table 3 that a detector belongs to, if it belongs to one."""
    network = (config or {}).get("backbone"), (config or {}).get("alpha")
    return next((row for row in zoo.PAPER_TABLE3 if (row.arch, row.alpha) == network), None)


def text(evaluation: Evaluation) -> str:
    """The table of the terminal; AP in percent."""
    result = evaluation.result
    wide = max(map(len, (*evaluation.classes, "mean")))
    lines = [
        f"{evaluation.title} on {evaluation.split} of {evaluation.voc_dirs}: {result.images} images",
        "",
        f"{'AP, %':{wide}}  11-point    area  objects    found",
    ]
    for each in result.classes:
        hits = f"{int(each.hits.sum()):8}" if each.objects else ""
        lines.append(
            f"{each.name:{wide}}  {percent(each.ap11):>8}{percent(each.ap_area):>8}{each.objects:9} {hits}".rstrip()
        )
    objects, hits = sum(each.objects for each in result.classes), sum(int(each.hits.sum()) for each in result.classes)
    lines.append(f"{'mean':{wide}}  {percent(result.map11):>8}{percent(result.map_area):>8}{objects:9} {hits:8}")
    if result.empty:
        lines += ["", f"no objects, and left out of the mean: {', '.join(result.empty)}"]
    return "\n".join(lines + _table3(evaluation))


def _table3(evaluation: Evaluation) -> list[str]:
    row = paper_row(evaluation.config)
    if row is None:
        return []
    budget = next(r.mflops for r in zoo.PAPER_TABLE2 if (r.arch, r.alpha) == (row.arch, row.alpha))
    title = f"{zoo.get_arch(row.arch).title} {row.alpha:g}x"
    paper = "-" if row.mean_ap is None else f"{row.mean_ap:.1f}"
    lines = ["", f"{'table 3 (11-point mAP, %)':26} MFLOPs  paper   here"]
    lines.append(f"{title:26} {budget:6}  {paper:>5}  {percent(evaluation.result.map11):>5}")
    if not evaluation.is_papers:
        where = f"{evaluation.split} of {len(evaluation.annotations)} images"
        lines.append(f"The paper's is on VOC2007's test set of {TEST_IMAGES} images, this on {where}: not comparable.")
    side = (evaluation.config or {}).get("short_side", PAPER.short_side)
    if side != PAPER.short_side:
        lines.append(
            f"The paper's network sees images of {PAPER.short_side} pixels, the short side, this one of {side}."
        )
    return lines


def percent(value: float) -> str:
    """A share of 1 in percent, "-" if it is nan."""
    return "-" if math.isnan(value) else f"{100 * value:.1f}"


def content(evaluation: Evaluation) -> dict:
    """The content of results.json; AP as shares of 1, null where there are no objects."""
    result, row = evaluation.result, paper_row(evaluation.config)
    return {
        "detector": evaluation.title,
        "config": evaluation.config and dict(evaluation.config),
        "voc_dir": evaluation.voc_dirs,
        "split": evaluation.split,
        "images": result.images,
        "map11": _known(result.map11),
        "map_area": _known(result.map_area),
        "classes": [
            {"name": each.name, "objects": each.objects, "found": int(each.hits.sum()),
             "false": int((~each.hits).sum()), "ap11": _known(each.ap11), "ap_area": _known(each.ap_area)}
            for each in result.classes
        ],
        "left_out_of_the_mean": result.empty,
        "paper_map11": row and row.mean_ap and round(row.mean_ap / 100, 4),
        "is_papers_test_set": evaluation.is_papers,
    }  # fmt: skip


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value
