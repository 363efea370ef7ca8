"""Tests single-layer quantization against the converted file, and on a network with one sensitive layer."""

import numpy as np
import pytest

from fd_keras.tflite.recipes import SENSITIVITY_MODES, Int8Settings
from fd_keras.tflite.verification import sensitivity
from fd_keras.tflite.verification.evaluation_set import EvaluationSet
from fd_keras.tflite.verification.sensitivity import Simulation, measure, plot, ranked, simulations, table


@pytest.fixture(scope="module")
def variants(network, calibration):
    """The simulations of FD-MobileNet in both modes."""
    model = network("fd_mobilenet")
    images = calibration.images
    return {mode: simulations(model, images, Int8Settings(), True, mode) for mode in SENSITIVITY_MODES}


def scores_of(simulation: Simulation, images: np.ndarray) -> np.ndarray:
    return simulation(images.astype("float32"))


@pytest.mark.parametrize("name", ["fd_mobilenet", "fd_shufflenet"])
def test_int8_simulation_equals_the_file(network, converted, calibration, images, name):
    """The remaining error comes from the file's output, whose steps are 1/256, and from pads and means."""
    simulated = simulations(network(name), calibration.images, Int8Settings(), True, "kept_float")
    floats, integers = scores_of(simulated["float"], images), scores_of(simulated["int8"], images)
    file = converted(name, "int8").runner(images)
    assert np.abs(integers - file).mean() < 0.5 * np.abs(floats - file).mean() + 1 / 512


def test_float_simulation_equals_the_model(network, variants, images):
    expected = network("fd_mobilenet").predict_on_batch(images)
    # The frame of the image has a color of whole levels.
    np.testing.assert_allclose(scores_of(variants["alone"]["float"], images), expected, rtol=0, atol=2e-3)


def test_every_layer_that_rounds_is_measured(variants):
    for mode in SENSITIVITY_MODES:
        titles = list(variants[mode])
        assert titles[:2] == ["float", "int8"]
        assert [name for name in titles if name.startswith(("conv", "predictions"))] == [
            node.name for node in variants[mode]["int8"].graph.weighted
        ]


def test_alone_one_layer_has_rounded_weights_and_output(variants, images):
    floats = variants["alone"]["float"]
    for title, variant in list(variants["alone"].items())[2:]:
        assert list(variant.ranges) == [title]
        changed = [node.name for node in variant.graph if node is not floats.graph.nodes[node.name]]
        assert changed == [title]


def test_kept_float_all_others_have(variants):
    whole = variants["kept_float"]["int8"]
    for title, variant in list(variants["kept_float"].items())[2:]:
        assert set(whole.ranges) - set(variant.ranges) == {title}
        changed = [node.name for node in variant.graph if node is not whole.graph.nodes[node.name]]
        assert changed == [title]


@pytest.fixture
def evaluation(images, save_images, tmp_path):
    folder = save_images(tmp_path / "photos", images[:16])
    return EvaluationSet.load(str(folder), None, images.shape[1:3], 10, resize=False)


@pytest.mark.parametrize("mode", SENSITIVITY_MODES)
def test_a_layer_with_one_giant_channel_is_ranked_first(network, calibration, evaluation, mode, monkeypatch):
    """The steps that would correct it are off, so its grid is too coarse for all other channels."""
    bad = "conv_dw_3"
    original = sensitivity.equalized

    def spoilt(*args):
        graph, images = original(*args)
        node = graph.nodes[bad]
        factors = np.ones(node.channels, "float32")
        factors[0] = 1e4
        after = graph.consumers(bad)[0]
        kernel = after.kernel.copy()
        kernel[:, :, 0] /= 1e4
        return graph.updated(
            {
                bad: node.replace(kernel=node.kernel * factors[:, None], bias=node.bias * factors, cap=None),
                after.name: after.replace(kernel=kernel),
            }
        ), images

    monkeypatch.setattr(sensitivity, "equalized", spoilt)
    nothing = Int8Settings(equalize=False, clip=False, fit=0.0, compensate=False, bias=False, clip_logits=False)
    results = measure(network("fd_mobilenet"), calibration, evaluation, nothing, True, mode)
    records = ranked(results, mode)
    assert [record["layer"] for record in records[:3]] == ["float", "int8", bad]
    assert records[0]["agreement"] == 100


def test_split_ranges_are_rejected(network, calibration):
    with pytest.raises(ValueError, match="--int8_split"):
        simulations(network("fd_mobilenet"), calibration.images, Int8Settings(split=1), True, "alone")


def record(layer: str, agreement: float, top1: float | None = None) -> dict:
    return {"layer": layer, "agreement": agreement, "top1": top1, "images": 10}


def test_table_and_plot_have_every_layer(tmp_path):
    records = [record("float", 100.0), record("int8", 80.0), record("a", 85.0), record("b", 99.0)]
    lines = table(records).splitlines()
    assert [line.split()[0] for line in lines[1:]] == ["float", "int8", "a", "b"]
    assert "85.00" in lines[3]
    plot(str(tmp_path / "s.svg"), records, "alone")
    assert "<svg" in (tmp_path / "s.svg").read_text()
    plot(str(tmp_path / "s.png"), records, "kept_float")
    assert (tmp_path / "s.png").read_bytes().startswith(b"\x89PNG")
