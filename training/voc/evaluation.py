"""What an evaluation leaves: a table, JSON, curves and the page."""

import dataclasses
import io
import json
import math
import os
from collections.abc import Mapping, Sequence

import numpy as np

from fd_keras import zoo
from fd_keras.io import write_atomically
from fd_keras.training.voc import dataset, detections, evaluation_page, metric
from fd_keras.training.voc.dataset import Annotation
from fd_keras.training.voc.detections import Detections
from fd_keras.training.voc.detector_recipe import PAPER

TEST_IMAGES = 4952  # of VOC2007's test set, on which the paper's figures are
FILES = {"results": "results.json", "curves": "curves.png", "page": "index.html"}


@dataclasses.dataclass(frozen=True, eq=False)
class Evaluation:
    """Detections of a split and what they are worth.

    Attributes:
        title: of the detector.
        voc_dirs: as given.
        split: for example "test".
        classes: names in label order.
        annotations: of the split.
        found: by image.
        result: the average precision.
        config: of the detector, {"backbone", "alpha", ...}; None for other people's detections.
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
    title: str, voc_dirs: str, split: str, classes: Sequence[str], annotations: Sequence[Annotation],
    found: Mapping[str, Detections], config: Mapping | None = None,
) -> Evaluation:  # fmt: skip
    """Scores the detections of a split."""
    result = metric.score(classes, annotations, found)
    return Evaluation(title, voc_dirs, split, tuple(classes), annotations, found, result, config)


def paper_row(config: Mapping | None) -> zoo.PaperDetectionRow | None:
    """The row of the paper's table 3 that a detector belongs to."""
    network = config and (config.get("backbone"), config.get("alpha"))
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
            f"{each.name:{wide}}  {_percent(each.ap11):>8}{_percent(each.ap_area):>8}{each.objects:9} {hits}".rstrip()
        )
    objects, hits = sum(each.objects for each in result.classes), sum(int(each.hits.sum()) for each in result.classes)
    lines.append(f"{'mean':{wide}}  {_percent(result.map11):>8}{_percent(result.map_area):>8}{objects:9} {hits:8}")
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
    lines.append(f"{title:26} {budget:6}  {paper:>5}  {_percent(evaluation.result.map11):>5}")
    if not evaluation.is_papers:
        where = f"{evaluation.split} of {len(evaluation.annotations)} images"
        lines.append(f"The paper's is on VOC2007's test set of {TEST_IMAGES} images, this on {where}: not comparable.")
    side = evaluation.config.get("short_side", PAPER.short_side)
    if side != PAPER.short_side:
        lines.append(
            f"The paper's network sees images of {PAPER.short_side} pixels, the short side, this one of {side}."
        )
    return lines


def _percent(value: float) -> str:
    return "-" if math.isnan(value) else f"{100 * value:.1f}"


def content(evaluation: Evaluation) -> dict:
    """What results.json holds; AP as shares of 1, null where there are no objects."""
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


def write(evaluation: Evaluation, folder: str) -> list[str]:
    """Writes result files, results.json, curves.png and index.html; returns what was written, for people."""
    paths = detections.write(folder, evaluation.split, evaluation.classes, evaluation.found.items())
    written = [f"{len(paths)} files comp4_det_{evaluation.split}_CLASS.txt"]
    write_atomically(
        os.path.join(folder, FILES["results"]),
        (json.dumps(content(evaluation), indent=2, allow_nan=False) + "\n").encode(),
    )
    write_atomically(os.path.join(folder, FILES["page"]), evaluation_page.html(evaluation).encode())
    image = curves(evaluation.title, evaluation.result)
    if image:
        write_atomically(os.path.join(folder, FILES["curves"]), image)
    written += [FILES["results"], FILES["page"]] + [FILES["curves"]] * bool(image)
    return written + ([] if image else ["no curves: pip install matplotlib"])


def curves(title: str, result: metric.Result) -> bytes | None:
    """Precision over recall of each class, as PNG; None where matplotlib is not installed."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return None
    columns = min(5, len(result.classes))
    rows = math.ceil(len(result.classes) / columns)
    figure = Figure(figsize=(2.3 * columns + 0.5, 2.0 * rows + 0.8), layout="constrained")
    figure.suptitle(
        f"{title}: mAP {_percent(result.map11)} (11-point), {_percent(result.map_area)} (area)", fontsize=11
    )
    axes = np.atleast_1d(figure.subplots(rows, columns, sharex=True, sharey=True)).ravel()
    for axis, each in zip(axes, result.classes, strict=False):
        axis.set_title(f"{each.name}  {_percent(each.ap11)}", fontsize=9)
        if len(each.recall) and each.objects:
            recall, precision = np.r_[0, each.recall], np.r_[each.precision[0], each.precision]
            axis.plot(recall, precision, color="C0", linewidth=1.2)
            axis.fill_between(recall, precision, color="C0", alpha=0.12, linewidth=0)
        axis.grid(alpha=0.25)
        axis.set(xlim=(0, 1), ylim=(0, 1.03))
        axis.spines[["top", "right"]].set_visible(False)
        axis.tick_params(labelsize=7)
    for axis in axes[len(result.classes) :]:
        axis.set_axis_off()
    figure.supxlabel("recall", fontsize=9)
    figure.supylabel("precision", fontsize=9)
    image = io.BytesIO()
    figure.savefig(image, format="png", dpi=110)
    return image.getvalue()
