"""A graph as a Keras model, with either Keras: layers by the names of its nodes, weights carried over by name."""

import functools
import re
from collections.abc import Callable, Mapping
from types import ModuleType

from fd_keras.tflite.int8.graph import WEIGHTED, Graph, Node, activate, apply, linear


def build(graph: Graph, keras: ModuleType, wrap: Callable = lambda node, layer: layer):
    """Builds the model and gives it the graph's weights.

    Args:
        graph: what to build.
        keras: the module `keras` or `tf_keras`.
        wrap: called with each node and its layer; returns the layer to use, with the same name and weights.

    Returns:
        A `keras.Model`. Its convolutions and dense layers have weights; the other nodes are layers without any.
    """
    tensors = {}
    for node in graph:
        if node.kind == "input":
            image = tensors[node.name] = keras.Input(graph.input_shape, name=layer_name(node))
            continue
        inputs = [tensors[name] for name in node.inputs]
        tensors[node.name] = wrap(node, _layer(node, keras))(inputs if len(inputs) > 1 else inputs[0])
    model = keras.Model(image, tensors[graph.output.name])
    for node in graph:
        for name, variable in variables(model, node).items():
            variable.assign(getattr(node, name))
    return model


def variables(model, node: Node) -> Mapping[str, object]:
    """A node's kernel and bias in a model, by these names; none if it has no weights."""
    if node.kind not in WEIGHTED:
        return {}
    layer = model.get_layer(layer_name(node))
    # "conv/kernel:0" in Keras 2, where a depthwise layer's is the "depthwise_kernel"; "kernel" in Keras 3.
    found = {
        variable.name.split("/")[-1].split(":")[0].removeprefix("depthwise_"): variable
        for variable in layer.trainable_weights
    }
    for name in ("kernel", "bias"):
        if name not in found or tuple(found[name].shape) != getattr(node, name).shape:
            raise ValueError(f"The twin's layer {layer.name!r} has no {name} like the node's.")
    return found


def layer_name(node: Node) -> str:
    """The node's name without what one Keras or the other refuses in a layer's."""
    return re.sub(r"[^A-Za-z0-9_.-]", "-", node.name).lstrip("_-.") or "layer"


def _layer(node: Node, keras: ModuleType):
    """The Keras layer that computes a node, with its ReLU and cap."""
    common = {"activation": functools.partial(activate, node), "name": layer_name(node)}
    if node.kind == "dense":
        return keras.layers.Dense(node.channels, **common)
    if node.kind == "depthwise":
        return keras.layers.DepthwiseConv2D(
            node.kernel.shape[:2], node.stride, node.padding, depth_multiplier=node.kernel.shape[3], **common
        )
    if node.kind == "conv":
        convolution = _grouped(keras) if node.groups > 1 else keras.layers.Conv2D
        return convolution(
            node.channels, node.kernel.shape[:2], node.stride, node.padding, groups=node.groups, **common
        )
    return _operation(keras)(node)


@functools.cache
def _grouped(keras: ModuleType) -> type:
    class Grouped(keras.layers.Conv2D):
        """A grouped convolution as several plain ones; TensorFlow has no gradient of the one op on a CPU."""

        def convolution_op(self, inputs, kernel):
            return linear("conv", inputs, kernel, self.strides[0], self.padding, self.groups)

    return Grouped


@functools.cache
def _operation(keras: ModuleType) -> type:
    class Operation(keras.layers.Layer):
        """A node without weights to train."""

        def __init__(self, node: Node):
            super().__init__(name=layer_name(node))
            self._node = node

        def call(self, inputs):
            values = apply(self._node, inputs if isinstance(inputs, list | tuple) else [inputs])
            return activate(self._node, values)

    return Operation
