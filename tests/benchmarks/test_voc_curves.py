import pathlib
import shutil

import pytest
from PIL import Image

from benchmarks import voc_curves

RESULTS = pathlib.Path(__file__).parents[2] / "docs" / "results"


def test_all_histories_are_drawn(tmp_path):
    shutil.copytree(RESULTS / "voc", tmp_path / "voc")
    voc_curves.main([str(tmp_path)])
    panels = [panel for figure in voc_curves.FIGURES.values() for panel in figure.values()]
    assert {curve.run for panel in panels for curve in panel} == {path.stem for path in (RESULTS / "voc").glob("*.csv")}
    for name in voc_curves.FIGURES:
        with Image.open(tmp_path / name) as image:
            assert image.width > 2 * image.height


def test_the_curves_end_at_the_losses_in_the_docs(monkeypatch):
    figures = {}
    monkeypatch.setattr(voc_curves, "write_figure", lambda path, figure: figures.update({path: figure}))
    voc_curves.draw(RESULTS, "voc_train.png")
    (figure,) = figures.values()
    last = {line.get_label(): line.get_ydata()[-1] for line in figure.axes[1].lines}
    table = {"FD-MobileNet 0.5x": 0.66, "MobileNet 0.25x": 0.86, "FD-MobileNet 0.25x": 0.77}  # docs/results/voc.md
    assert last == pytest.approx(table, abs=0.005)
