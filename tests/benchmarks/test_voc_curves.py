import pathlib
import shutil

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
            colors = image.convert("RGB").getcolors(1 << 24)
        assert colors is not None
        assert {(31, 119, 180), (255, 127, 14)} <= {color for _, color in colors}  # C0 and C1
