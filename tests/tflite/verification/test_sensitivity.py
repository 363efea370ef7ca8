"""Layers as integers one at a time: against the converted file, and against a network with one bad layer."""

import dataclasses
import json

import numpy as np
import pytest

from fd_keras.tflite.recipes import RECIPES, Int8Settings
from fd_keras.tflite.verification import sensitivity
from fd_keras.tflite.verification.ablation import EvaluationSet
from fd_keras.tflite.verification.sensitivity import Simulation, measure, plot, ranked, simulations, table


@pytest.fixture(scope="module")
def variants(network, calibration):
    """The simulations of FD-MobileNet in both modes."""
    model = network("fd_mobilenet")
    images = calibration.images
    return {mode: simulations(model, images, Int8Settings(), True, mode) for mode in sensitivity.MODES}


def scores_of(simulation: Simulation, images: np.ndarray) -> np.ndarray:
    return simulation(images.astype("float32"))


@pytest.mark.parametrize("name", ["fd_mobilenet", "fd_shufflenet"])
def test_all_integers_are_those_of_the_file(network, converted, calibration, images, name):
    """The distance left is that of the file's own output, whose steps are 1/256, and of pads and means."""
    simulated = simulations(network(name), calibration.images, Int8Settings(), True, "kept_float")
    floats, integers = scores_of(simulated["float"], images), scores_of(simulated["int8"], images)
    file = converted(name, "int8").runner(images)
    assert np.abs(integers - file).mean() < 0.5 * np.abs(floats - file).mean() + 1 / 512


def test_without_integers_it_is_the_model(network, variants, images):
    expected = network("fd_mobilenet").predict_on_batch(images)
    # The frame of the image is a colour of whole levels.
    np.testing.assert_allclose(scores_of(variants["alone"]["float"], images), expected, rtol=0, atol=2e-3)


def test_every_layer_that_rounds_is_looked_at(variants):
    for mode in sensitivity.MODES:
        titles = list(variants[mode])
        assert titles[:2] == ["float", "int8"]
        assert [name for name in titles if name.startswith(("conv", "predictions"))] == [
            node.name for node in variants[mode]["int8"].graph if node.kind in ("conv", "depthwise", "dense")
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
    return EvaluationSet.load(str(folder), None, images.shape[1:3], resize=False)


@pytest.mark.parametrize("mode", sensitivity.MODES)
def test_a_layer_with_one_giant_channel_is_ranked_first(network, calibration, evaluation, mode, monkeypatch):
    """Without the steps that would mend it: its grid is too coarse for all other channels."""
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
        return graph.updated({
            bad: node.replace(kernel=node.kernel * factors[:, None], bias=node.bias * factors, cap=None),
            after.name: after.replace(kernel=kernel),
        }), images  # fmt: skip

    monkeypatch.setattr(sensitivity, "equalized", spoilt)
    nothing = Int8Settings(equalize=False, clip=False, fit=0.0, compensate=False, bias=False, clip_logits=False)
    results = measure(network("fd_mobilenet"), calibration, evaluation, nothing, True, mode)
    records = ranked(results, mode)
    assert [record["layer"] for record in records[:3]] == ["float", "int8", bad]
    assert records[0]["agreement"] == 100


def test_ranges_of_two_halves_are_refused(network, calibration):
    with pytest.raises(ValueError, match="--int8_split"):
        simulations(network("fd_mobilenet"), calibration.images, Int8Settings(split=1), True, "alone")


# --- what is shown -----------------------------------------------------------------------------------------


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


# --- the program -------------------------------------------------------------------------------------------


@pytest.fixture
def program(converted, run_program, network, tmp_path, save_images, images, calibration):
    """`python -m tflite.verify --sensitivity` on a file whose sidecar names a saved model and calibration images."""
    from fd_keras.tflite.export import write
    from fd_keras.tflite.format.sidecar import saved_source
    from fd_keras.tflite.recipes import load_calibration

    save_images(tmp_path / "training", calibration.images[:8])
    save_images(tmp_path / "photos", images[:8])
    network("fd_mobilenet").save(tmp_path / "mine.keras")
    loaded = load_calibration(str(tmp_path / "training"), images.shape[1:3], 8)
    source = saved_source(str(tmp_path / "mine.keras"))
    # One step is enough to tell whether the sidecar's settings are taken.
    recipe = dataclasses.replace(RECIPES["int8"], settings=Int8Settings(fit=0.0, compensate=False))
    list(write(network("fd_mobilenet"), "mine", source, [recipe], str(tmp_path), calibration=loaded))

    def run(*flags: str):
        return run_program("tflite.verify", "--tflite=mine_int8.tflite", "--images=photos", "--noresize", *flags)

    return run


def test_verify_ranks_layers_and_refuses_other_images(program, tmp_path):
    done = program("--sensitivity=alone", "--calibration_dir=training", "--json", "--plot=layers.png")
    assert done.returncode == 0, done.stderr
    records = json.loads(done.stdout)
    assert [row["layer"] for row in records[:2]] == ["float", "int8"]
    assert records[0]["agreement"] == 100
    assert {"conv", "conv_dw_1"} & {row["layer"] for row in records[2:]}
    assert (tmp_path / "layers.png").stat().st_size > 1000
    for flags, word in ((["--sensitivity=alone"], "--calibration_dir"),
                        (["--sensitivity=alone", "--calibration_dir=photos"], "not those")):  # fmt: skip
        run = program(*flags)
        assert run.returncode == 1
        assert "Traceback" not in run.stderr
        assert word in run.stderr
