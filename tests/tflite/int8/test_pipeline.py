"""The steps of the int8 recipe, each against a plain calculation."""

import dataclasses

import keras
import numpy as np
import pytest
from tensorflow.lite.python import schema_py_generated as schema

from fd_keras.tflite.int8.equalize import best_clip, best_cut, equalize, fold_input
from fd_keras.tflite.int8.fold import fold
from fd_keras.tflite.int8.gptq import Correction, correct, fit, nearest, round_weights
from fd_keras.tflite.int8.graph import run, walk
from fd_keras.tflite.int8.pipeline import clip_logits, divergence, prepare
from fd_keras.tflite.recipes import RECIPES, Int8Settings
from fd_keras.tflite.verification import ablation
from fd_keras.tflite.verification.compare import compare, keras_classifier, tflite_classifier

PREPARED = [name for name, recipe in RECIPES.items() if recipe.settings]


# --- choices of ranges -------------------------------------------------------------------------------------


def rounding_error(values: np.ndarray, end: float) -> float:
    """Squared error of 256 levels from 0 to `end`, by doing it."""
    step = end / 255
    return float(np.mean((np.clip(np.round(values / step), 0, 255) * step - values) ** 2))


@pytest.mark.parametrize("tail", [0.0, 0.001, 0.02])
def test_best_clip_errs_no_more_than_any_other(tail):
    rng = np.random.default_rng(0)
    values = np.abs(rng.normal(size=40_000))
    values[rng.random(40_000) < tail] *= 8
    chosen = rounding_error(values, best_clip(values))
    others = [rounding_error(values, values.max() * part) for part in np.linspace(0.05, 1, 60)]
    assert chosen <= 1.05 * min(others)  # it counts in a histogram


def test_best_clip_keeps_what_is_even_and_drops_a_giant_among_very_many():
    even = np.linspace(0, 3, 2_000_000)
    assert best_clip(even) > 2.9
    # n (c / 255)^2 / 12 + (1000 - c)^2 is least at c = 1000 / (1 + n / 780300)
    assert best_clip(np.append(even, 1000.0)) == pytest.approx(1000 / (1 + len(even) / 780_300), rel=0.05)


@pytest.mark.parametrize("values", [np.zeros(5), -np.ones(5), np.zeros(0)])
def test_nothing_positive_needs_no_range(values):
    assert best_clip(values) == 0


def test_best_cut_leaves_the_smaller_part_to_the_crowd():
    crowd = np.random.default_rng(0).uniform(0, 1, 10_000)
    assert best_cut(np.append(crowd, [6.0])) < 1.5
    assert best_cut(6 - crowd) > 4.5


# --- roundings ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def regression():
    """Correlated inputs of 12 numbers, as neighbouring pixels are, and weights to four outputs."""
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(500, 3)) @ rng.normal(size=(3, 12)) + 0.1 * rng.normal(size=(500, 12))
    return inputs - inputs.mean(axis=0), rng.normal(size=(12, 4)) * [1, 10, 0.1, 1]


def steps_of(rounded: np.ndarray, weights: np.ndarray) -> np.ndarray:
    return rounded / (np.abs(weights).max(axis=0) / 127)


def rounded_by(how: str, inputs: np.ndarray, weights: np.ndarray) -> np.ndarray:
    return nearest(weights) if how == "nearest" else round_weights(weights, inputs.T @ inputs)


@pytest.mark.parametrize("how", ["nearest", "round_weights"])
def test_weights_become_whole_steps_and_the_largest_stays(regression, how):
    inputs, weights = regression
    steps = steps_of(rounded_by(how, inputs, weights), weights)
    np.testing.assert_allclose(steps, np.round(steps), atol=1e-6)
    largest = np.abs(weights).argmax(axis=0)
    np.testing.assert_allclose(np.abs(steps[largest, range(4)]), 127)
    assert np.abs(steps).max() <= 127 + 1e-9


def test_nearest_is_off_by_half_a_step_at_most(regression):
    _, weights = regression
    assert np.abs(steps_of(nearest(weights) - weights, weights)).max() <= 0.5 + 1e-9


def test_roundings_that_make_up_for_each_other_err_less(regression):
    inputs, weights = regression
    plain, clever = (
        np.sum((inputs @ (rounded_by(how, inputs, weights) - weights)) ** 2, axis=0)
        for how in ("nearest", "round_weights")
    )
    assert clever.sum() < 0.5 * plain.sum()


@pytest.mark.parametrize("rounding", [nearest, lambda w: round_weights(w, np.eye(3))])
def test_output_without_weights_stays_zero(rounding):
    weights = np.array([[0.0, 1.0], [0.0, -0.5], [0.0, 0.25]])
    assert not rounding(weights)[:, 0].any()


def test_fit_without_a_ridge_is_least_squares(regression):
    inputs, weights = regression
    wanted = inputs @ weights + np.random.default_rng(1).normal(size=(500, 4))
    start = weights + 0.5
    fitted = fit(start, inputs.T @ inputs, inputs.T @ (wanted - inputs @ start), 1e-12)
    np.testing.assert_allclose(fitted, np.linalg.lstsq(inputs, wanted, rcond=None)[0], rtol=1e-4)


def test_a_strong_ridge_holds_the_weights(regression):
    inputs, weights = regression
    wanted = inputs @ (weights + 1)
    fitted = fit(weights, inputs.T @ inputs, inputs.T @ (wanted - inputs @ weights), 1e9)
    np.testing.assert_allclose(fitted, weights, atol=1e-4)


# --- whole graphs ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def graphs(network, calibration):
    """FD-MobileNet equalized, and the images it was equalized on."""
    images = calibration.images.astype("float32")
    return equalize(fold_input(fold(network("fd_mobilenet"))), images), images


def mean_errors(exact, graph, images) -> list[float]:
    """How far each layer's mean output per channel is from the exact one, in parts of the channels' deviation."""
    errors = []
    for (node, wanted, _), (_, got, _) in zip(walk(exact, images), walk(graph, images), strict=True):
        if node.kind in ("conv", "depthwise"):
            wanted, got = (values.numpy().reshape(-1, node.channels) for values in (wanted, got))
            errors.append(float(np.abs((got - wanted).mean(axis=0)).max() / wanted.std()))
    return errors


def test_bias_correction_restores_the_means(graphs):
    exact, images = graphs
    without, corrected = (
        mean_errors(exact, correct(exact, exact, images, Correction(fit=0, compensate=False, bias=bias)), images)
        for bias in (False, True)
    )
    assert np.mean(corrected) < 0.6 * np.mean(without)


@pytest.mark.parametrize("how", [Correction(), Correction(fit=0), Correction(fit=0, compensate=False, bias=False)])
def test_corrected_weights_are_whole_steps(graphs, how):
    exact, images = graphs
    for node in correct(exact, exact, images[:8], how):
        if node.kernel is None:
            continue
        kernel = node.kernel.reshape(-1, node.channels)
        steps = kernel / (np.abs(kernel).max(axis=0) / 127)
        np.testing.assert_allclose(steps, np.round(steps), atol=1e-3, err_msg=node.name)


@pytest.mark.parametrize("recipe", PREPARED)
def test_the_converter_keeps_the_rounded_weights(tiny, calibration, convert_tiny, recipe):
    """The integers in the file are the ones chosen here."""
    graph = prepare(tiny, calibration.images, RECIPES[recipe].settings)
    (node,) = (node for node in graph if node.kind == "conv")
    expected = np.round(node.kernel / (np.abs(node.kernel).max(axis=(0, 1, 2)) / 127)).transpose(3, 0, 1, 2)
    with open(convert_tiny(recipe), "rb") as file:
        model = schema.ModelT.InitFromPackedBuf(file.read(), 0)
    (weights,) = (tensor for tensor in model.subgraphs[0].tensors if tensor.shape.tolist() == list(expected.shape))
    found = np.frombuffer(model.buffers[weights.buffer].data.tobytes(), "int8").reshape(expected.shape)
    np.testing.assert_array_equal(found, expected)


def test_divergence_of_equal_logits_is_zero_and_shifts_do_not_count():
    logits = np.random.default_rng(0).normal(size=(20, 6)).astype("float32")
    assert divergence(logits, logits + 3) == pytest.approx(0, abs=1e-6)
    other = logits[:, ::-1]
    p, q = (np.exp(x) / np.exp(x).sum(axis=1, keepdims=True) for x in (logits.astype("float64"), other))
    assert divergence(logits, other) == pytest.approx(np.mean(np.sum(p * np.log(p / q), axis=1)), rel=1e-4)


def test_clipped_logits_hardly_change_the_scores(graphs):
    graph, images = graphs
    clipped = clip_logits(graph, images)
    before, after = run(graph, images).numpy(), run(clipped, images).numpy()
    assert list(clipped)[-2].relu
    np.testing.assert_array_equal(before.argmax(axis=1), after.argmax(axis=1))
    assert np.abs(before - after).max() < 0.05


def test_logits_without_a_softmax_are_not_clipped(images):
    image = keras.Input(images.shape[1:])
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(4, 3)(image))
    graph = fold(keras.Model(image, keras.layers.Dense(3)(x)))
    assert clip_logits(graph, images[:4]) is graph


# --- the table of steps ------------------------------------------------------------------------------------


def test_steps_add_up_to_the_recipe():
    (first, plain), *rows = ablation.stages()
    assert plain == RECIPES["int8_plain"]
    assert rows[-1][1] == RECIPES["int8"]
    fields = [field.name for field in dataclasses.fields(Int8Settings)]
    for (_, before), (title, after) in zip(rows, rows[1:], strict=False):
        changed = [name for name in fields if getattr(before.settings, name) != getattr(after.settings, name)]
        assert len(changed) == 1, title


def test_ablation_measures_every_step(monkeypatch, tiny, calibration, convert_tiny, images, tmp_path, save_images):
    """Two rows will do; the last one is the recipe itself."""
    rows = ablation.stages()
    monkeypatch.setattr(ablation, "stages", lambda: [rows[0], rows[-1]])
    folder = save_images(tmp_path / "photos", images[:20])
    photos = ablation.EvaluationSet.load(str(folder), None, images.shape[1:3], resize=False)
    found = ablation.ablation(tiny, calibration, photos, True)
    head, keras_row, *table, foot = ablation.ablation_table(found).splitlines()
    assert [line.split("  ")[0] for line in table] == [rows[0][0], rows[-1][0]]
    assert "20 images" in foot
    classifiers = [tflite_classifier(convert_tiny(recipe), 1) for recipe in ("int8_plain", "int8")]
    results = compare(keras_classifier(tiny), classifiers, photos.batches())
    for line, result in zip((keras_row, *table), results, strict=True):
        assert line.split()[-2:] == [f"{result.percentages()['agreement']:.2f}", str(result.ties)]
    ablation.ablation_plot(str(tmp_path / "steps.svg"), found)
    assert all(row["title"] in (tmp_path / "steps.svg").read_text() for row in found[1:])


# --- images to measure on ----------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 32, 33])
def test_evaluation_yields_every_image_once_with_its_label(tmp_path, save_images, images, count):
    folder = save_images(tmp_path / "photos", np.resize(images, (count, *images.shape[1:])))
    lines = [f"{i:03}.png {i * 7 % 10}\n" for i in range(count)]
    (tmp_path / "labels.txt").write_text("".join(lines[::-1]) + "other.png 3\n")
    photos = ablation.EvaluationSet.load(str(folder), str(tmp_path / "labels.txt"), images.shape[1:3], resize=False)
    arrays, labels = zip(*photos.batches(), strict=True)
    expected = np.resize(images, (count, *images.shape[1:])).astype("uint8")
    np.testing.assert_array_equal(np.concatenate(arrays), expected)
    assert np.concatenate(labels).tolist() == [i * 7 % 10 for i in range(count)]
    assert arrays[0].dtype == np.float32


def test_image_without_a_label_is_named(tmp_path, save_images, images):
    folder = save_images(tmp_path / "photos", images[:2])
    (tmp_path / "labels.txt").write_text("000.png 1\n")
    with pytest.raises(ValueError, match=r"labels\.txt.*001\.png"):
        ablation.EvaluationSet.load(str(folder), str(tmp_path / "labels.txt"), (32, 32))
