"""A network that computes as the integer one will, by tensorflow-model-optimization. The one module that imports it.

Its layers are wrapped one by one. tfmot's own way, `quantize_apply`, rewrites the model first: it leaves the kernel of
a convolution with a ReLU but without batch normalization in float, knows no ReLU6, gives depthwise and dense kernels
one scale where the converter gives each output channel its own, and starts at ranges of +-6.
"""

from collections.abc import Mapping

import numpy as np
import tensorflow as tf
import tensorflow_model_optimization as tfmot  # pyright: ignore[reportMissingImports]  (an extra)
import tf_keras  # pyright: ignore[reportMissingImports]  (an extra)

from fd_keras.tflite.int8.equalize import LEVELS
from fd_keras.tflite.int8.gptq import scales
from fd_keras.tflite.int8.graph import DepthwiseConv, Graph, Node, WeightedNode
from fd_keras.tflite.qat import keras_twin

_quantization = tfmot.quantization.keras
Ranges = Mapping[str, tuple[float, float]]  # lowest and highest output of each node that computes, by name


def quantized(graph: Graph, ranges: Ranges) -> tf_keras.Model:
    """The graph's twin whose kernels and outputs are rounded in the forward pass; gradients pass by the rounding.

    Its variables are counted in steps of the integer network, see `units`: equalized channels differ by a factor of
    hundreds, and one learning rate has to do for all.

    Raises:
        RuntimeError: if a kernel is left in float.
    """
    model = keras_twin.build(graph, tf_keras, lambda node, layer: _wrapped(node, layer, ranges))
    for node in graph.weighted:
        for name, variable in keras_twin.variables(model, node).items():
            variable.assign(variable / units(node, ranges[node.name])[name])
    left = unquantized(model, graph)
    if left:
        raise RuntimeError(f"No quantizer rounds the kernels of {', '.join(left)}.")
    return model


def weights(model: tf_keras.Model, graph: Graph, ranges: Ranges) -> dict[str, WeightedNode]:
    """The graph's nodes that have weights, by name, with those of the model that `quantized` made of it, in float."""
    return {node.name: _with_weights(model, node, ranges) for node in graph.weighted}


def _with_weights(model: tf_keras.Model, node: WeightedNode, ranges: Ranges) -> WeightedNode:
    unit, found = units(node, ranges[node.name]), keras_twin.variables(model, node)
    return node.replace(**{name: variable.numpy() * unit[name] for name, variable in found.items()})


def units(node: WeightedNode, ends: tuple[float, float]) -> dict[str, np.ndarray]:
    """One step of a node's integers at the start: of the kernel for each output channel, of the bias the output's."""
    kernel = node.per_output(scales(node.matrix))
    return {"kernel": kernel.astype("float32"), "bias": np.array((ends[1] - ends[0]) / LEVELS, "float32")}


def unquantized(model: tf_keras.Model, graph: Graph) -> list[str]:
    """The nodes whose kernels no quantizer rounds."""
    return [node.name for node in graph.weighted if not _is_quantized(model, node)]


def _is_quantized(model: tf_keras.Model, node: WeightedNode) -> bool:
    layer, kernel = model.get_layer(keras_twin.layer_name(node)), keras_twin.variables(model, node)["kernel"]
    if not isinstance(layer, _quantization.QuantizeWrapperV2):
        return False
    return any(variable is kernel and isinstance(how, PerOutput) for variable, how, _ in layer._weight_vars)


def _wrapped(node: Node, layer, ranges: Ranges):
    """The layer in tfmot's wrapper, unless it only moves integers about."""
    if node.name not in ranges:
        return layer
    return _quantization.QuantizeWrapperV2(layer, Rounded(node, ranges[node.name]), name=layer.name)


class InUnits(_quantization.quantizers.Quantizer):
    """A variable counted in units: for a bias, whose 32 bits need no rounding."""

    def __init__(self, unit: np.ndarray):
        self.unit = unit

    def build(self, tensor_shape, name, layer):
        """No variables of its own."""
        return {}

    def __call__(self, inputs, training, weights, **kwargs):
        """The variable in float."""
        return inputs * self.unit

    def get_config(self):
        """The unit, for Keras."""
        return {"unit": self.unit.tolist()}


class PerOutput(InUnits):
    """Rounds a kernel to -127 to 127 times a scale of each output channel, as the converter will.

    The scale is the kernel's at every moment; tfmot's quantizers keep it in variables that lag a step behind.
    """

    def __call__(self, inputs, training, weights, **kwargs):
        """The kernel in float, rounded."""
        flat = tf.reshape(super().__call__(inputs, training, weights), (-1, self.unit.size))
        largest = tf.stop_gradient(tf.maximum(tf.reduce_max(tf.abs(flat), axis=0), 1e-9))  # of an empty channel too
        rounded = tf.quantization.fake_quant_with_min_max_vars_per_channel(flat, -largest, largest, narrow_range=True)
        return tf.reshape(rounded, inputs.shape)


class Rounded(_quantization.QuantizeConfig):
    """Makes the wrapper round a layer's kernel, if it has one, and its output to 256 levels between two ends."""

    def __init__(self, node: Node, ends: tuple[float, float]):
        low, high = ends
        self._output = _quantization.quantizers.FixedQuantizer(8, low, max(high, low + 1e-6), narrow_range=False)
        self._quantizers = {}
        if isinstance(node, WeightedNode):
            unit, kernel = units(node, ends), "depthwise_kernel" if isinstance(node, DepthwiseConv) else "kernel"
            self._quantizers = {kernel: PerOutput(unit["kernel"]), "bias": InUnits(unit["bias"])}

    def get_weights_and_quantizers(self, layer):
        """The layer's variables, each with its quantizer."""
        return [(getattr(layer, name), quantizer) for name, quantizer in self._quantizers.items()]

    def set_quantize_weights(self, layer, quantize_weights):
        """Puts the rounded weights in the variables' place."""
        for name, values in zip(self._quantizers, quantize_weights, strict=True):
            setattr(layer, name, values)

    def get_activations_and_quantizers(self, layer):
        """None: the output, after the ReLU, is rounded instead."""
        return []

    def set_quantize_activations(self, layer, quantize_activations):
        """Does nothing, see `get_activations_and_quantizers`."""

    def get_output_quantizers(self, layer):
        """The quantizer of the output."""
        return [self._output]

    def get_config(self):
        """Nothing: the models are never saved."""
        return {}
