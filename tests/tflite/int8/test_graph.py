import pickle
import weakref

import keras
import numpy as np
import pytest
import tensorflow as tf

from fd_keras.tflite.int8.graph import (
    Add,
    Affine,
    AveragePool,
    Concat,
    Conv,
    Dense,
    DepthwiseConv,
    Flatten,
    GlobalAveragePool,
    GlobalMaxPool,
    Graph,
    Input,
    MaxPool,
    Pad,
    Shuffle,
    Softmax,
    logits,
    run,
    walk,
)

RNG = np.random.default_rng(0)
X = RNG.normal(size=(2, 6, 8, 4)).astype("float32")


def random(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype("float32")


# --- nodes, against numpy --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("node", "expected"),
    [
        (GlobalAveragePool("n", ("x",), 4), X.mean(axis=(1, 2))),
        (GlobalMaxPool("n", ("x",), 4), X.max(axis=(1, 2))),
        (Flatten("n", ("x",), 192), X.reshape(2, -1)),
        (Shuffle("n", ("x",), 4, 2), X[..., [0, 2, 1, 3]]),
        (Affine("n", ("x",), 4, np.arange(4.0, dtype="float32"), np.ones(4, "float32")), X * np.arange(4) + 1),
        (MaxPool("n", ("x",), 4, 2, 2, "valid"), X.reshape(2, 3, 2, 4, 2, 4).max(axis=(2, 4))),
        (AveragePool("n", ("x",), 4, 2, 2, "valid"), X.reshape(2, 3, 2, 4, 2, 4).mean(axis=(2, 4))),
        (Pad("n", ("x",), 4, ((1, 0), (2, 3)), 0.5), np.pad(X, ((0, 0), (1, 0), (2, 3), (0, 0)), constant_values=0.5)),
        (Softmax("n", ("x",), 4), np.exp(X) / np.exp(X).sum(axis=-1, keepdims=True)),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, np.ndarray) else "",
)
def test_nodes_of_one_input(node, expected):
    np.testing.assert_allclose(np.asarray(node.compute([X])), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("count", [2, 3])
def test_nodes_of_several_inputs(count):
    inputs = [X + i for i in range(count)]
    names = tuple("abc"[:count])
    np.testing.assert_allclose(Add("n", names, 4).compute(inputs), sum(inputs), rtol=1e-5)
    np.testing.assert_array_equal(Concat("n", names, 4 * count).compute(inputs), np.concatenate(inputs, axis=-1))


@pytest.mark.parametrize("batch", [2, None])
def test_a_frame_has_a_number_for_each_channel(batch):
    pad = Pad("n", ("x",), 4, ((1, 0), (0, 2)), np.array([1.0, 2.0, 3.0, 4.0]))
    padded = tf.function(lambda x: pad.compute([x]), input_signature=[tf.TensorSpec((batch, 6, 8, 4))])
    found = padded(tf.constant(X)).numpy()
    np.testing.assert_array_equal(found[:, 1:, :8], X)
    frame = np.ones(found.shape[:3], bool)
    frame[:, 1:, :8] = False
    assert (found[frame] == [1, 2, 3, 4]).all()


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("padding", ["same", "valid"])
def test_convolutions_are_keras_s(groups, padding):
    layer = keras.layers.Conv2D(6, 3, 2, padding, groups=groups, bias_initializer="random_normal")
    expected = np.asarray(layer(X))
    node = Conv("n", ("x",), 6, *layer.get_weights(), 2, padding, groups)
    np.testing.assert_allclose(node.compute([X]), expected, rtol=0, atol=1e-5)


def test_depthwise_convolutions_are_keras_s():
    layer = keras.layers.DepthwiseConv2D(3, 2, "same", depth_multiplier=2, bias_initializer="random_normal")
    expected = np.asarray(layer(X))
    node = DepthwiseConv("n", ("x",), 8, *layer.get_weights(), 2, "same")
    np.testing.assert_allclose(node.compute([X]), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("relu", "cap", "expected"),
    [
        (False, None, [-1, 3, 9]),
        (True, None, [0, 3, 9]),
        (True, 6.0, [0, 3, 6]),
        (True, 2.5, [0, 2.5, 2.5]),
        (True, np.array([1.0, 2.0, 10.0], "float32"), [0, 2, 9]),
    ],
)
def test_relus_end_at_their_caps(relu, cap, expected):
    node = Dense("n", ("x",), 3, np.eye(3, dtype="float32"), np.zeros(3, "float32"), relu=relu, cap=cap)
    np.testing.assert_array_equal(node.output([np.array([[-1, 3, 9]], "float32")])[0], expected)


# --- scales of channels ----------------------------------------------------------------------------------


LINEAR = {
    "conv": Conv("n", ("x",), 6, random(3, 3, 4, 6), random(6)),
    "grouped conv": Conv("n", ("x",), 6, random(3, 3, 2, 6), random(6), groups=2),
    "depthwise": DepthwiseConv("n", ("x",), 8, random(3, 3, 4, 2), random(8)),
    "dense": Dense("n", ("x",), 6, random(4, 6), random(6)),
    "affine": Affine("n", ("x",), 4, random(4), random(4)),
}


@pytest.mark.parametrize("kind", LINEAR)
def test_a_scaled_kernel_scales_inputs_and_outputs(kind):
    node, into = LINEAR[kind], np.array([1.0, 2.0, 0.5, 3.0], "float32")
    out = np.linspace(0.5, 2, node.channels, dtype="float32")
    x = X[:, 0, 0] if isinstance(node, Dense) else X
    scaled = node.replace(kernel=node.kernel * node.per_input(into) * node.per_output(out), bias=node.bias * out)
    np.testing.assert_allclose(scaled.compute([x]), node.compute([x * into]) * out, rtol=1e-4, atol=1e-5)


def test_fan_in_is_what_an_output_sums_over():
    found = {kind: node.fan_in for kind, node in LINEAR.items() if kind != "affine"}
    assert found == {"conv": 36, "grouped conv": 18, "depthwise": 9, "dense": 4}
    assert LINEAR["depthwise"].matrix.shape == (9, 8)


# --- graphs ----------------------------------------------------------------------------------------------


@pytest.fixture
def graph() -> Graph:
    """A graph that adds two branches of an image, and applies a softmax."""
    nodes = [
        Input("image", (), 4),
        Affine("double", ("image",), 4, np.full(4, 2, "float32"), np.zeros(4, "float32"), relu=True),
        Affine("triple", ("image",), 4, np.full(4, 3, "float32"), np.zeros(4, "float32")),
        Add("sum", ("double", "triple"), 4),
        GlobalAveragePool("mean", ("sum",), 4),
        Softmax("scores", ("mean",), 4),
    ]
    return Graph({node.name: node for node in nodes}, (6, 8, 4))


def test_every_node_is_run_in_order_with_its_output(graph):
    found = {node.name: np.asarray(values) for node, values in walk(graph, X)}
    assert list(found) == list(graph.nodes)
    np.testing.assert_allclose(found["sum"], np.maximum(2 * X, 0) + 3 * X, rtol=1e-5)
    np.testing.assert_array_equal(run(graph, X), found["scores"])


def test_later_nodes_take_what_the_caller_computes(graph):
    """The simulation of integers relies on this."""
    found = {node.name: np.asarray(v) for node, v in walk(graph, X, lambda node, inputs: inputs[0] + 1)}
    np.testing.assert_allclose(found["scores"], X + 4, rtol=1e-5)


def test_outputs_that_are_no_longer_needed_are_freed(graph):
    kept = {}
    for node, values in walk(graph, X):
        kept[node.name] = weakref.ref(values)
        del values
        alive = {name for name, reference in kept.items() if reference() is not None}
        needed = {name for name in kept if any(user.name not in kept for user in graph.consumers(name))}
        assert alive <= needed | {node.name}


def test_logits_are_the_input_of_the_softmax(graph):
    assert logits(graph).output.name == "mean"
    assert logits(logits(graph)).output.name == "mean"


def test_nodes_are_found_and_replaced_by_name(graph):
    assert [node.name for node in graph.consumers("image")] == ["double", "triple"]
    changed = graph.updated({"double": graph.nodes["double"].replace(relu=False)})
    assert list(changed.nodes) == list(graph.nodes)
    assert [node.name for node in changed if node is not graph.nodes[node.name]] == ["double"]
    np.testing.assert_allclose(run(logits(changed), X), (5 * X).mean(axis=(1, 2)), rtol=1e-4, atol=1e-5)


def test_graphs_can_be_pickled(graph):
    """Quantization-aware training relies on this."""
    again = pickle.loads(pickle.dumps(graph))
    assert [type(node) for node in again] == [type(node) for node in graph]
    np.testing.assert_array_equal(run(again, X), run(graph, X))
