"""Writes the files of an evaluation: result files, results.json, curves.png and index.html."""

import json
import math
import os

import numpy as np

from fd_keras.io import check_figure, write_atomically, write_figure
from fd_keras.training.voc import detections, evaluation_page, metric
from fd_keras.training.voc.evaluation import Evaluation, content, percent

RESULTS, REPORT, CURVES = "results.json", "index.html", "curves.png"


def write(evaluation: Evaluation, folder: str) -> list[str]:
    """Writes all files to a folder, which is created if needed; returns their names for the terminal."""
    paths = detections.write(folder, evaluation.split, evaluation.classes, evaluation.found.items())
    results = json.dumps(content(evaluation), indent=2, allow_nan=False) + "\n"
    write_atomically(os.path.join(folder, RESULTS), results.encode())
    write_atomically(os.path.join(folder, REPORT), evaluation_page.html(evaluation).encode())
    names = [f"{len(paths)} files comp4_det_{evaluation.split}_CLASS.txt", RESULTS, REPORT]
    curves = os.path.join(folder, CURVES)
    try:
        check_figure(curves)
    except ValueError as error:
        return [*names, f"no curves ({error})"]
    draw_curves(curves, evaluation.title, evaluation.result)
    return [*names, CURVES]


def draw_curves(path: str, title: str, result: metric.Result) -> None:
    """Plots precision over recall for each class."""
    from matplotlib.figure import Figure

    columns = min(5, len(result.classes))
    rows = math.ceil(len(result.classes) / columns)
    figure = Figure(figsize=(2.3 * columns + 0.5, 2.0 * rows + 0.8), layout="constrained")
    figure.suptitle(f"{title}: mAP {percent(result.map11)} (11-point), {percent(result.map_area)} (area)", fontsize=11)
    axes = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
    for axis, each in zip(axes, result.classes, strict=False):
        _draw_curve(axis, each)
    for axis in axes[len(result.classes) :]:
        axis.set_axis_off()
    figure.supxlabel("recall", fontsize=9)
    figure.supylabel("precision", fontsize=9)
    write_figure(path, figure)


def _draw_curve(axis, result: metric.ClassResult) -> None:
    axis.set_title(f"{result.name}  {percent(result.ap11)}", fontsize=9)
    if len(result.recall) and result.objects:
        recall, precision = np.r_[0, result.recall], np.r_[result.precision[0], result.precision]
        axis.plot(recall, precision, color="C0", linewidth=1.2)
        axis.fill_between(recall, precision, color="C0", alpha=0.12, linewidth=0)
    axis.grid(alpha=0.25)
    axis.set(xlim=(0, 1), ylim=(0, 1.03))
    axis.spines[["top", "right"]].set_visible(False)
    axis.tick_params(labelsize=7)
