"""The report of an evaluation, an HTML page without scripts or network requests: curves, best and worst images."""

import dataclasses
import math
import os
from collections.abc import Sequence
from html import escape

import numpy as np
from PIL import Image

from fd_keras import zoo
from fd_keras.progress import progress
from fd_keras.training import html_page
from fd_keras.training.voc import dataset, draw, metric
from fd_keras.training.voc.annotation import Annotation
from fd_keras.training.voc.detections import Detections
from fd_keras.training.voc.evaluation import Evaluation, differences, paper_row

SHOWN = 12  # number of best images, and of worst
SIDE = 640  # maximum side of a picture in pixels
POINTS = 80  # maximum number of points of a curve
_QUALITY = 82  # JPEG quality of the pictures

# Colors that are visible on photos.
HIT, FALSE, MISSED, IGNORED = "#22a05a", "#e0383e", "#f5b301", "#8a93a0"
_LEGEND = ((HIT, "hit"), (FALSE, "false"), (MISSED, "missed (dashed)"), (IGNORED, "hit a difficult object, ignored"))

_STYLE = """
.grid { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fill, minmax(min(21rem, 100%), 1fr));
  align-items: start; }
.curves { display: grid; gap: .6rem; grid-template-columns: repeat(auto-fill, minmax(9.5rem, 1fr)); }
.curves figure { background: var(--card); border-radius: .5rem; padding: .5rem .6rem; }
.curves figcaption { display: flex; justify-content: space-between; gap: .3rem; color: var(--ink); }
.curves b { white-space: nowrap; } .curves figcaption { font-size: .85rem; }
.curves small { color: var(--soft); } .curves svg { display: block; width: 100%; height: auto; }
img { display: block; max-width: 100%; max-height: 26rem; width: auto; height: auto;
  border-radius: .4rem; }
.numbers { border-collapse: collapse; font-size: .85rem; font-variant-numeric: tabular-nums; white-space: nowrap; }
.numbers th, .numbers td { padding: .2rem .45rem; text-align: right; border-bottom: 1px solid var(--line); }
.numbers th:first-child { text-align: left; }
.legend { display: flex; flex-wrap: wrap; gap: .2rem 1.2rem; font-size: .9rem; padding: 0; list-style: none; }
.mark { display: inline-block; width: .8rem; height: .8rem; border-radius: 2px; margin-right: .4rem;
  vertical-align: -.05rem; }
@media (max-width: 34rem) { .curves { grid-template-columns: 1fr 1fr; } }
"""


@dataclasses.dataclass(frozen=True, eq=False)
class Seen:
    """An image whose detections are matched with its objects.

    Attributes:
        annotation: Annotation of the image.
        found: Detections whose scores are high enough to be shown.
        outcomes: Outcome of each detection, int64 (k,), see `metric.match`.
        missed: Whether each object is neither difficult nor hit by a detection, bool (n,).
    """

    annotation: Annotation
    found: Detections
    outcomes: np.ndarray
    missed: np.ndarray

    @property
    def counts(self) -> tuple[int, int, int]:
        """Numbers of hits, false detections and missed objects."""
        hits, false = (int((self.outcomes == kind).sum()) for kind in (metric.HIT, metric.FALSE))
        return hits, false, int(self.missed.sum())

    @property
    def f1(self) -> float:
        """F1 score of precision and recall; nan without objects and detections."""
        hits, false, missed = self.counts
        return 2 * hits / (2 * hits + false + missed) if hits + false + missed else math.nan


def look(annotation: Annotation, found: Detections, score: float) -> Seen:
    """Matches the detections with a score of at least `score` with the objects."""
    found = found[found.scores >= score]
    outcomes = metric.match(annotation, found)
    hit = found[outcomes == metric.HIT]
    missed = ~annotation.difficult
    for label in np.unique(hit.labels):
        mine = np.flatnonzero(annotation.labels == label)
        best = metric.iou(hit.boxes[hit.labels == label], annotation.boxes[mine]).argmax(-1)
        missed[mine[best]] = False
    return Seen(annotation, found, outcomes, missed)


def ranked(seen: Sequence[Seen]) -> list[Seen]:
    """Sorts images from best to worst: by F1, then by more hits, fewer errors and higher scores."""

    def worth(image: Seen) -> tuple:
        hits, false, missed = image.counts
        return image.f1, hits, -false - missed, float(image.found.scores.mean()) if len(image.found) else 0.0

    return sorted((image for image in seen if not math.isnan(image.f1)), key=worth, reverse=True)


def html(evaluation: Evaluation) -> str:
    """Returns the report as HTML."""
    score = evaluation.result.best_score
    seen = ranked([look(image, evaluation.found[image.id], score) for image in evaluation.annotations])
    shown = [image for image in seen if os.path.isfile(image.annotation.path)]
    count = min(SHOWN, len(shown) // 2)
    pictures = [_picture(image, evaluation.classes) for image in progress(shown[:count] + shown[::-1][:count])]
    legend = "".join(f'<li><span class="mark" style="background:{color}"></span>{name}</li>' for color, name in _LEGEND)
    body = f"""<h1>{escape(evaluation.title)}</h1>
<p class="soft">Detection on {escape(evaluation.split)} of {escape(evaluation.voc_dirs)}, {len(evaluation.annotations)}
images. Average precision by the rules of PASCAL VOC and COCO, in percent.</p>
{_figures(evaluation)}
{_table3(evaluation)}
<h2>Precision over recall</h2>
<p class="soft">Each class with its number of objects and 11-point average precision. Both axes range from 0 to 1.</p>
<div class="curves">{"".join(map(_curve, evaluation.result.classes))}</div>
<h2>Images</h2>
<p class="soft">Detections are shown if their score is at least {score:.2f}, which gives the best F1 score over all
classes. Images are ranked by their own F1 score, then by the number of
hits.{_missing(len(seen) - len(shown), len(seen))}</p>
<ul class="legend">{legend}</ul>
<h2>Best</h2>
<div class="grid">{"".join(pictures[:count]) or "<p>There are too few images.</p>"}</div>
<h2>Worst</h2>
<div class="grid">{"".join(pictures[count:]) or "<p>There are too few images.</p>"}</div>"""
    return html_page.document(f"{evaluation.title} on {evaluation.split}", body, _STYLE)


def _table3(evaluation: Evaluation) -> str:
    """Returns the paper's table 3 with this detector below; empty for classes other than VOC's."""
    if evaluation.classes != dataset.CLASSES:
        return ""
    aps = [evaluation.result.map11, *(each.ap11 for each in evaluation.result.classes)]
    rows = [[row.title, *(f"{ap:.1f}" for ap in (row.mean_ap, *row.class_aps))] for row in zoo.PAPER_TABLE3]
    rows.append([f"<b>{html_page.name(evaluation.title)}</b>", *(f"<b>{_percent(ap)}</b>" for ap in aps)])
    table = html_page.table("Table 3 of the paper", ["Network", "mAP", *evaluation.classes], rows, "numbers")
    notes = " ".join(differences(evaluation))
    return f"""<h2>Table 3 of the paper</h2>
<p class="soft">11-point average precision of the paper's Faster R-CNN detectors (arXiv 1802.03750), and of this one.
{escape(notes)}</p>
{table}"""


def _missing(count: int, total: int) -> str:
    return f" {count} of {total} are not shown, since their files are missing." if count else ""


def _figures(evaluation: Evaluation) -> str:
    result, row = evaluation.result, paper_row(evaluation.config)
    items = [(_percent(result.map11), "mAP, 11-point"), (_percent(result.map_area), "mAP, area")]
    items.append((_percent(evaluation.coco.mean_ap), "mAP, COCO"))
    if row:
        where = "" if evaluation.is_papers else ", on VOC2007's test set (not this one)"
        items.append((f"{row.mean_ap:.1f}", f"{row.title} in the paper's table 3{where}"))
    left_out = f'<p class="soft">Without objects, excluded from the mean: {escape(", ".join(result.empty))}.</p>'
    return html_page.figures(items) + (left_out if result.empty else "")


def _percent(value: float) -> str:
    return "–" if math.isnan(value) else f"{100 * value:.1f}"


def _curve(result: metric.ClassResult) -> str:
    """Returns the curve of a class as SVG, with the unit square scaled to 100 by 60."""
    path = ""
    if len(result.recall) and result.objects:
        pick = np.unique(np.linspace(0, len(result.recall) - 1, POINTS).round().astype(int))
        points = [(0.0, result.precision[0]), *zip(result.recall[pick], result.precision[pick], strict=True)]
        line = " ".join(f"{'L' if i else 'M'}{100 * x:.1f} {60 - 58 * y:.1f}" for i, (x, y) in enumerate(points))
        area = f"{line} L{100 * points[-1][0]:.1f} 60 L0 60 Z"
        path = f'<path d="{area}" fill="var(--curve)" opacity=".12"/>'
        path += f'<path d="{line}" fill="none" stroke="var(--curve)" stroke-width="1.5"/>'
    name = escape(result.name)
    return f"""<figure><figcaption><span>{name} <small>{result.objects}</small></span><b>{_percent(result.ap11)}</b>
</figcaption><svg viewBox="0 0 100 61" role="img" aria-label="Precision over recall of {name}">
<path d="M0 0V60H100" fill="none" stroke="var(--line)"/>{path}</svg></figure>"""


def _picture(seen: Seen, classes: Sequence[str]) -> str:
    hits, false, missed = seen.counts
    image = draw.draw(*_scaled(seen.annotation.read(), _marks(seen, classes)))
    name = escape(seen.annotation.id)
    text = f"{hits} hit{'s' * (hits != 1)}, {false} false, {missed} missed"
    return f"""<figure><img src="{html_page.jpeg_url(image, _QUALITY)}" width="{image.width}" height="{image.height}"
loading="lazy" alt="{name} with boxes: {text}"><figcaption>{name}: {text}</figcaption></figure>
"""


def _marks(seen: Seen, classes: Sequence[str]) -> list[draw.Mark]:
    truth, found = seen.annotation, seen.found
    marks = [
        draw.Mark(tuple(box.tolist()), f"{classes[label]}?", MISSED, dashed=True)
        for box, label in zip(truth.boxes[seen.missed], truth.labels[seen.missed], strict=True)
    ]
    colors = {metric.HIT: HIT, metric.FALSE: FALSE, metric.IGNORED: IGNORED}
    for index in np.argsort(found.scores, kind="stable").tolist():
        text = f"{classes[int(found.labels[index])]} {found.scores[index]:.2f}"
        marks.append(draw.Mark(tuple(found.boxes[index].tolist()), text, colors[int(seen.outcomes[index])]))
    return marks


def _scaled(pixels: np.ndarray, marks: list[draw.Mark]) -> tuple[np.ndarray, list[draw.Mark]]:
    """Scales image and marks to the size on the page, so that lines and text have the same size in all pictures."""
    height, width = pixels.shape[:2]
    scale = min(1.0, SIDE / max(height, width))
    if scale == 1:
        return pixels, marks
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.LANCZOS))
    return small, [dataclasses.replace(mark, box=tuple(scale * side for side in mark.box)) for mark in marks]
