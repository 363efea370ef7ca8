"""Draws the losses of the trainings in docs/results/voc.md from their histories.

    python -m benchmarks.voc_curves docs/results

Reads the folder's `voc/*.csv`, and writes `voc.png` and `voc_train.png` into the folder.
"""

import argparse
import csv
from pathlib import Path
from typing import NamedTuple

from fd_keras.io import write_figure
from fd_keras.training.reporting import style_epochs

WIDE, NARROW, OTHER = "FD-MobileNet 0.5x", "FD-MobileNet 0.25x", "MobileNet 0.25x"
_COLORS = {WIDE: "C0", NARROW: "C1", OTHER: "C2", "classes": "C4", "boxes": "C5"}


class Curve(NamedTuple):
    """A column of a history.

    Attributes:
        run: Name of the history without its suffix.
        column: Name of the column.
        label: Label in the legend, a key of `_COLORS`.
    """

    run: str
    column: str
    label: str


def _of_networks(column: str, **networks: str) -> list[Curve]:
    return [Curve(run, column, label) for run, label in networks.items()]


_SMALL = {"fd050": WIDE, "fd025": NARROW, "mobilenet025": OTHER}
FIGURES = {
    "voc.png": {
        "400 images: loss of the classes": _of_networks("class", **_SMALL),
        "400 images: loss of the boxes": _of_networks("box", **_SMALL),
        "20 images: both losses": [Curve("overfit20", "class", "classes"), Curve("overfit20", "box", "boxes")],
    },
    "voc_train.png": {
        "RetinaNet, 320 pixels: total loss": _of_networks("loss", retina050_train=WIDE, retina025_train=NARROW),
        "Faster R-CNN, 300 pixels: total loss": _of_networks(
            "loss", fd050_train=WIDE, fd025_train=NARROW, mobilenet025_train=OTHER
        ),
    },
}


def draw(results: Path, name: str) -> None:
    """Draws one of `FIGURES` into the folder of the results."""
    from matplotlib.figure import Figure

    panels = FIGURES[name]
    figure = Figure(figsize=(9, 3.2), layout="constrained")
    for axis, (title, curves) in zip(figure.subplots(1, len(panels)), panels.items(), strict=True):
        for curve in curves:
            epochs, losses = _column(results / "voc" / f"{curve.run}.csv", curve.column)
            axis.plot(epochs, losses, color=_COLORS[curve.label], label=curve.label)
        style_epochs(axis, title)
        axis.set_ylim(bottom=0)
        axis.legend(frameon=False, fontsize=9)
    write_figure(str(results / name), figure)


def _column(path: Path, name: str) -> tuple[list[int], list[float]]:
    with open(path, encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return [int(row["epoch"]) for row in rows], [float(row[name]) for row in rows]


def main(arguments: list[str] | None = None) -> None:
    """Draws all figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, help="folder with voc/*.csv, such as docs/results")
    results = parser.parse_args(arguments).results
    for name in FIGURES:
        draw(results, name)


if __name__ == "__main__":
    main()
