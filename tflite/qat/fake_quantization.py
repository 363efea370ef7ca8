"""Fake quantization with tensorflow-model-optimization (tfmot), which only this module imports.

Layers are wrapped one by one. tfmot's `quantize_apply` would rewrite the model first: it leaves the kernel of a
convolution with a ReLU but without batch normalization in float, does not support ReLU6, uses a single scale for
depthwise and dense kernels where the converter uses one per output channel, and starts with ranges of +-6.
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
Ranges = Mapping[str, tuple[float, float]]  # minimum and maximum output of each computing node, by name


def quantized(graph: Graph, ranges: Ranges) -> tf_keras.Model:
    """The graph's twin, with kernels and outputs rounded in the forward pass; gradients bypass the rounding.

    Its variables are in quantization steps of the int8 network, see `units`, so that one learning rate works for all
    channels, whose scales differ by a factor of hundreds after equalization.

    Raises:
        RuntimeError: If a kernel is left in float.
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
    """The graph's nodes with weights, by name, with float weights taken from the model that `quantized` returned."""
    return {node.name: _with_weights(model, node, ranges) for node in graph.weighted}


def _with_weights(model: tf_keras.Model, node: WeightedNode, ranges: Ranges) -> WeightedNode:
    unit, found = units(node, ranges[node.name]), keras_twin.variables(model, node)
    return node.replace(**{name: variable.numpy() * unit[name] for name, variable in found.items()})


def units(node: WeightedNode, ends: tuple[float, float]) -> dict[str, np.ndarray]:
    """Initial quantization steps of a node: the kernel's per output channel, and for the bias the output's."""
    kernel = node.per_output(scales(node.matrix))
    return {"kernel": kernel.astype("float32"), "bias": np.array((ends[1] - ends[0]) / LEVELS, "float32")}


def unquantized(model: tf_keras.Model, graph: Graph) -> list[str]:
    """Names of the nodes whose kernels are not rounded by a quantizer."""
    return [node.name for node in graph.weighted if not _is_quantized(model, node)]


def _is_quantized(model: tf_keras.Model, node: WeightedNode) -> bool:
    layer, kernel = model.get_layer(keras_twin.layer_name(node)), keras_twin.variables(model, node)["kernel"]
    if not isinstance(layer, _quantization.QuantizeWrapperV2):
        return False
    return any(variable is kernel and isinstance(how, PerOutput) for variable, how, _ in layer._weight_vars)


def _wrapped(node: Node, layer, ranges: Ranges):
    """Wraps a layer with tfmot's wrapper, unless it only copies integers."""
    if node.name not in ranges:
        return layer
    return _quantization.QuantizeWrapperV2(layer, Rounded(node, ranges[node.name]), name=layer.name)


class InUnits(_quantization.quantizers.Quantizer):
    """A variable in units, without rounding; used for biases, whose 32 bits need none."""

    def __init__(self, unit: np.ndarray):
        self.unit = unit

    def build(self, tensor_shape, name, layer):
        """Creates no variables."""
        return {}

    def __call__(self, inputs, training, weights, **kwargs):
        """The variable in float."""
        return inputs * self.unit

    def get_config(self):
        """The unit, for Keras."""
        return {"unit": self.unit.tolist()}


class PerOutput(InUnits):
    """Rounds a kernel to multiples from -127 to 127 of a scale per output channel, like the converter.

    The scale is always computed from the current kernel; tfmot's quantizers keep it in variables that lag by one step.
    """

    def __call__(self, inputs, training, weights, **kwargs):
        """The kernel in float, rounded."""
        flat = tf.reshape(super().__call__(inputs, training, weights), (-1, self.unit.size))
        largest = tf.stop_gradient(
            tf.maximum(tf.reduce_max(tf.abs(flat), axis=0), 1e-9)
        )  # the floor is for channels of zeros
        rounded = tf.quantization.fake_quant_with_min_max_vars_per_channel(flat, -largest, largest, narrow_range=True)
        return tf.reshape(rounded, inputs.shape)


class Rounded(_quantization.QuantizeConfig):
    """Configures tfmot's wrapper to round a layer's kernel, if any, and its output to 256 levels within a range."""

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
        """Replaces the variables with the rounded weights."""
        for name, values in zip(self._quantizers, quantize_weights, strict=True):
            setattr(layer, name, values)

    def get_activations_and_quantizers(self, layer):
        """Returns none, since the output after the ReLU is rounded instead."""
        return []

    def set_quantize_activations(self, layer, quantize_activations):
        """Does nothing, see `get_activations_and_quantizers`."""

    def get_output_quantizers(self, layer):
        """The quantizer of the output."""
        return [self._output]

    def get_config(self):
        """Returns nothing, since the models are never saved."""
        return {}
