import re
from xml.etree import ElementTree

from fd_keras.android_bench.curve_plot import curves


def _line(**changes):
    point = {"ms": 2.0, "mhz": None, "temperature": None, "battery": None, "after_pause": False}
    points = [{**point, "began": 60 * n, "secs": 60 * n + 60} for n in range(3)]
    return {"model": "x", "recipe": "<int8>", "minutes": 3, "points": points, **changes}


def _svg(line):
    text = curves(line)
    return ElementTree.fromstring(re.search(r"<svg.*</svg>", text, re.DOTALL)[0]), text


def test_each_measured_quantity_has_a_curve():
    line = _line()
    root, text = _svg(line)
    assert len(root.findall("path")) == 1
    assert "<int8>" not in text
    for number, point in enumerate(line["points"]):
        point |= {"temperature": 40 + number, "mhz": 2000 - number, "battery": 80}
    root, _ = _svg(line)
    latency, _, temperature, _ = (path.get("d") for path in root.findall("path"))
    heights = [float(place.split()[1]) for place in re.split("[ML]", temperature)[1:]]
    assert heights == sorted(heights, reverse=True)  # SVG counts from the top
    assert latency.count("L") == 2
    assert {"3", "40", "42", "MHz", "°C"} <= {text.text for text in root.iter("text")}


def test_missing_values_and_pauses_are_gaps():
    line = _line()
    line["points"][1] |= {"after_pause": True}
    line["points"][2]["temperature"] = 40.0
    root, _ = _svg(line)
    assert [title.text for title in root.iter("title")] == ["after a pause"] * 2
    assert "nan" not in ElementTree.tostring(root).decode()
