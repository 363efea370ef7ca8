import keras
import numpy as np
import pytest
from tensorflow.lite.python import schema_py_generated as schema

from fd_keras.tflite.int8 import pipeline
from fd_keras.tflite.int8.equalize import equalize, fold_input
from fd_keras.tflite.int8.fold import fold
from fd_keras.tflite.int8.gptq import MOVING
from fd_keras.tflite.int8.graph import Conv, run, walk
from fd_keras.tflite.int8.pipeline import as_taken, clip_logits, divergence, in_batches, prepare, ranges
from fd_keras.tflite.recipes import RECIPES

PREPARED = [name for name, recipe in RECIPES.items() if recipe.settings]


@pytest.fixture(scope="module")
def graphs(network, calibration):
    """FD-MobileNet equalized, and the images it was equalized on."""
    images = calibration.images.astype("float32")
    return equalize(fold_input(fold(network("fd_mobilenet"))), images), images


@pytest.mark.parametrize("recipe", PREPARED)
def test_the_converter_keeps_the_rounded_weights(tiny, calibration, convert_tiny, recipe):
    """The integers in the file are the ones chosen here."""
    graph = prepare(tiny, calibration.images, RECIPES[recipe].settings)
    (node,) = (node for node in graph if isinstance(node, Conv))
    expected = np.round(node.kernel / (np.abs(node.kernel).max(axis=(0, 1, 2)) / 127)).transpose(3, 0, 1, 2)
    with open(convert_tiny(recipe), "rb") as file:
        model = schema.ModelT.InitFromPackedBuf(file.read(), 0)
    (weights,) = (tensor for tensor in model.subgraphs[0].tensors if tensor.shape.tolist() == list(expected.shape))
    found = np.frombuffer(model.buffers[weights.buffer].data.tobytes(), "int8").reshape(expected.shape)
    np.testing.assert_array_equal(found, expected)


def test_ranges_of_exact_inputs_are_those_of_the_outputs(graphs):
    graph, images = graphs
    found = ranges(graph, images[:4], rounding=False)
    for node, values in walk(graph, images[:4]):
        if isinstance(node, MOVING):
            assert node.name not in found
        elif node.relu:
            assert found[node.name] == (0.0, 6.0)
        else:
            low, high = float(values.numpy().min()), float(values.numpy().max())
            assert found[node.name] == pytest.approx((min(low, 0), max(high, 0)))


def test_rounded_inputs_change_the_ranges_a_little(graphs):
    graph, images = graphs
    exact, rounded = (ranges(graph, images[:4], rounding=rounding) for rounding in (False, True))
    assert exact.keys() == rounded.keys()
    assert exact != rounded
    ends = np.array([[*exact[name], *rounded[name]] for name in exact])
    np.testing.assert_allclose(ends[:, 2:], ends[:, :2], atol=0.2 * np.abs(ends).max())


def test_no_more_images_are_taken_than_memory_allows(graphs, monkeypatch):
    graph, images = graphs
    assert len(as_taken(graph, images, True)) == len(images)
    largest = max(values.shape.num_elements() for _, values in walk(graph, images[:1]))
    monkeypatch.setattr(pipeline, "_MOST_BYTES", 4 * largest * 3.5)
    np.testing.assert_array_equal(as_taken(graph, images, True), images[:3])


def test_batches_are_of_all_images_in_order(graphs, monkeypatch):
    graph, images = graphs
    monkeypatch.setattr(pipeline, "_BATCH", 3)
    found = list(in_batches(graph, images[:7]))
    assert [len(batch) for batch in found] == [3, 3, 1]
    np.testing.assert_allclose(np.concatenate(found), run(graph, images[:7]).numpy(), rtol=0, atol=1e-6)


# --- logits ----------------------------------------------------------------------------------------------


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
