"""Builds a Keras model from a graph, with Keras 2 or 3: layers are named after its nodes, weights copied by name."""

import functools
import re
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

from fd_keras.tflite.int8.graph import Conv, Dense, DepthwiseConv, Graph, Input, Node, WeightedNode, grouped_conv2d


def build(graph: Graph, keras: ModuleType, wrap: Callable = lambda node, layer: layer):
    """Builds the model with the graph's weights.

    Args:
        graph: Network to build.
        keras: The module `keras` or `tf_keras`.
        wrap: Function of a node and its layer that returns the layer to use, with the same name and weights.

    Returns:
        A `keras.Model`. Convolutions and dense layers have weights; the layers of other nodes have none.
    """
    tensors = {}
    for node in graph:
        if isinstance(node, Input):
            tensors[node.name] = keras.Input(graph.input_shape, name=layer_name(node))
            continue
        inputs = [tensors[name] for name in node.inputs]
        tensors[node.name] = wrap(node, _layer(node, keras))(inputs if len(inputs) > 1 else inputs[0])
    image, *_ = tensors.values()
    model = keras.Model(image, tensors[graph.output.name])
    for node in graph.weighted:
        for name, variable in variables(model, node).items():
            variable.assign(getattr(node, name))
    return model


def variables(model: Any, node: WeightedNode) -> Mapping[str, Any]:
    """A node's kernel and bias in a model, by the names "kernel" and "bias"."""
    layer = model.get_layer(layer_name(node))
    # Keras 2 has "conv/kernel:0", or "conv/depthwise_kernel:0" in depthwise layers; Keras 3 has "kernel".
    found = {
        variable.name.split("/")[-1].split(":")[0].removeprefix("depthwise_"): variable
        for variable in layer.trainable_weights
    }
    for name in ("kernel", "bias"):
        if name not in found or tuple(found[name].shape) != getattr(node, name).shape:
            raise ValueError(f"The twin's layer {layer.name!r} has no {name} that matches the node's.")
    return found


def layer_name(node: Node) -> str:
    """The node's name without characters that Keras 2 or 3 rejects in layer names."""
    return re.sub(r"[^A-Za-z0-9_.-]", "-", node.name).lstrip("_-.") or "layer"


def _layer(node: Node, keras: ModuleType):
    """The Keras layer that computes a node, with its ReLU and cap."""
    common = {"activation": node.activate, "name": layer_name(node)}
    match node:
        case Dense():
            return keras.layers.Dense(node.channels, **common)
        case DepthwiseConv():
            height, width, _, multiplier = node.kernel.shape
            window = (height, width)
            return keras.layers.DepthwiseConv2D(window, node.stride, node.padding, multiplier, **common)
        case Conv():
            convolution = _grouped(keras) if node.groups > 1 else keras.layers.Conv2D
            window = node.kernel.shape[:2]
            return convolution(node.channels, window, node.stride, node.padding, groups=node.groups, **common)
    return _operation(keras)(node)


@functools.cache
def _grouped(keras: ModuleType) -> type:
    class Grouped(keras.layers.Conv2D):
        """A grouped convolution as several plain ones, since TensorFlow has no CPU gradient for the grouped op."""

        def convolution_op(self, inputs, kernel):
            return grouped_conv2d(inputs, kernel, self.strides[0], self.padding, self.groups)

    return Grouped


@functools.cache
def _operation(keras: ModuleType) -> type:
    class Operation(keras.layers.Layer):
        """A node without weights to train."""

        def __init__(self, node: Node):
            super().__init__(name=layer_name(node))
            self._node = node

        def call(self, inputs):
            return self._node.output(inputs if isinstance(inputs, list | tuple) else [inputs])

    return Operation
