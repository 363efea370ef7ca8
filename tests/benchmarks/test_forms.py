import numpy as np

from benchmarks import forms
from fd_keras.litert import Runner
from fd_keras.tflite.recipes import RECIPES


def test_the_nine_networks_of_the_paper_are_the_default():
    assert len(forms.parse_networks(None)) == 9
    assert forms.parse_networks("shufflenet:0.25,mobilenet:1") == [("shufflenet", 0.25), ("mobilenet", 1.0)]


def test_all_forms_of_a_network_give_the_same_scores(tmp_path, monkeypatch):
    monkeypatch.setattr(forms, "SIZE", 32)
    monkeypatch.setattr(forms, "TYPES", {"float32": RECIPES["float32"]})
    paths = {(form, kind): path for form, kind, path in forms.write_forms("fd_mobilenet", 0.25, tmp_path)}
    assert list(paths) == [(form, "float32") for form in forms.FORMS]
    image = np.random.default_rng(1).integers(0, 256, (1, 32, 32, 3)).astype("float32")
    base, *others = (Runner(paths[form, "float32"])(image) for form in forms.FORMS)
    for other in others:
        np.testing.assert_allclose(other, base, rtol=0, atol=1e-6)


def test_networks_are_compared_with_the_fd_mobilenet_before_them(capsys):
    names = [("fd_mobilenet", 1.0), ("mobilenet", 0.5), ("fd_mobilenet", 0.25), ("shufflenet", 0.25)]
    times = {(*name, "x"): [float(10**i)] * 3 for i, name in enumerate(names)}
    forms.print_families(times, names, {"title": ("x",)})
    lines = capsys.readouterr().out.splitlines()[2:]
    assert [line.split() for line in lines] == [
        ["mobilenet", "0.5x", "fd_mobilenet", "1x", "10.00", "(10.00-10.00)"],
        ["shufflenet", "0.25x", "fd_mobilenet", "0.25x", "10.00", "(10.00-10.00)"],
    ]
