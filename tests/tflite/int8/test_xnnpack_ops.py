import keras
import numpy as np
import pytest

from fd_keras import zoo
from fd_keras.layers import ChannelShuffle
from fd_keras.tflite.int8.equalize import fold_input
from fd_keras.tflite.int8.fold import fold
from fd_keras.tflite.int8.graph import AveragePool, Conv, DepthwiseConv, Shuffle, run
from fd_keras.tflite.int8.xnnpack_ops import arrange, with_depthwise_pooling

FLOAT_AND_INT8 = ("float32", "int8")


@pytest.mark.parametrize("name", zoo.ARCHS)
def test_arranged_networks_compute_the_same(network, images, name):
    graph = fold_input(fold(network(name)))
    expected = run(graph, images[:4]).numpy()
    np.testing.assert_allclose(run(arrange(graph), images[:4]).numpy(), expected, rtol=0, atol=1e-6)


def shuffles(graph) -> list[str]:
    return [node.name for node in graph if isinstance(node, Shuffle)]


def test_only_the_shuffle_after_an_ungrouped_convolution_is_removed(network):
    graph = fold(network("shufflenet"))
    first, *others = shuffles(graph)
    before = graph.nodes[graph.nodes[first].inputs[0]]
    assert isinstance(before, Conv)
    assert before.groups == 1
    assert shuffles(arrange(graph)) == others


def test_a_shuffle_is_kept_if_another_node_needs_its_input():
    image = keras.Input((8, 8, 3))
    straight = keras.layers.Conv2D(6, 1)(image)
    both = keras.layers.Add()([straight, ChannelShuffle(3)(straight)])
    graph = fold(keras.Model(image, keras.layers.GlobalAveragePooling2D()(both)))
    batch = np.random.default_rng(0).normal(size=(2, 8, 8, 3)).astype("float32")
    arranged = arrange(graph)
    assert shuffles(arranged)
    np.testing.assert_allclose(run(arranged, batch).numpy(), run(graph, batch).numpy(), rtol=0, atol=1e-6)


def test_average_pooling_without_padding_becomes_a_depthwise_convolution():
    image = keras.Input((9, 9, 3))
    padded = keras.layers.AveragePooling2D(3, 2, "same")(image)
    pooled = keras.layers.AveragePooling2D(2, 1)(padded)
    graph = fold(keras.Model(image, keras.layers.GlobalAveragePooling2D()(pooled)))
    arranged = with_depthwise_pooling(graph)
    assert [type(node) for node in list(arranged)[1:3]] == [AveragePool, DepthwiseConv]
    batch = np.random.default_rng(0).normal(size=(2, 9, 9, 3)).astype("float32")
    np.testing.assert_allclose(run(arranged, batch).numpy(), run(graph, batch).numpy(), rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", zoo.ARCHS)
@pytest.mark.parametrize("recipe", FLOAT_AND_INT8)
def test_files_have_no_ops_for_normalization_or_separate_padding(converted, name, recipe):
    ops = converted(name, recipe).ops
    names = [op.name for op in ops]
    assert "PADV2" not in names
    assert "AVERAGE_POOL_2D" not in names
    assert "MUL" not in names
    assert "SUB" not in names
    padded = [op.outputs[0].name for op in ops if op.name == "PAD"]
    takers = {op.name for op in ops for tensor in op.inputs if tensor.name in padded}
    assert takers <= {"CONV_2D", "DEPTHWISE_CONV_2D"}
