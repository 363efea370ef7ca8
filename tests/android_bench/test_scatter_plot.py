import re

from fd_keras.android_bench import page
from fd_keras.android_bench.report_model import read_report, top1_accuracy
from fd_keras.android_bench.scatter_plot import scatter_plot


def test_the_papers_accuracy_is_not_used_for_quantized_files(results):
    text = page.html(read_report(results))
    assert "fd_mobilenet_1.0_224_float32: 30.600 ms, 65.3% (paper)" in text
    assert "fd_mobilenet_1.0_224_int8:" not in text
    assert top1_accuracy({"paper_top1": 45.1, "recipe": "int8"}) is None


def _line(arch, ms, top1, recipe="float32"):
    names = {"model": arch, "label": f"{arch}_{recipe}", "recipe": recipe, "arch": arch, "alpha": 1.0}
    return {**names, "ms": ms, "accuracy": {"top1": top1}}


def test_points_have_the_right_positions_and_the_front_connects_the_best():
    summary = [_line("fd_mobilenet", 10, 60), _line("mobilenet", 20, 70), _line("shufflenet", 30, 65)]
    text = scatter_plot(summary)
    places = [tuple(map(float, pair)) for pair in re.findall(r'cx="([\d.]+)" cy="([\d.]+)"', text)]
    (x1, y1), (x2, y2), (x3, y3) = places
    assert x1 < x2 < x3
    assert y2 < y3 < y1  # SVG counts from the top
    assert f'd="M{x1} {y1} L{x2} {y2}"' in text
    assert text.count("<li>") == 3
    assert all(name in text for name in ("FD-MobileNet 1x", "MobileNet 1x", "ShuffleNet 1x"))


def test_without_accuracies_a_note_replaces_the_plot():
    text = scatter_plot([{"ms": 1.0, "recipe": "int8", "model": "a", "label": "a_int8"}])
    assert "<svg" not in text
    assert "fd-keras verify --record" in text


def test_equal_points_and_the_lowest_accuracy_do_not_crash():
    assert scatter_plot([_line("fd_mobilenet", 10, 0)] * 2).count("<circle") == 2
