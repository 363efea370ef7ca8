"""Converts a trained Keras model to a graph of convolutions, with batch normalization folded into them."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from fd_keras.tflite.int8.graph import (
    RELU6,
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
    LinearNode,
    MaxPool,
    Node,
    Pad,
    Pool,
    Shuffle,
    Softmax,
)


class UnsupportedModelError(ValueError):
    """A layer that the int8 recipe does not support; the message names the layer and an alternative."""

    def __init__(self, what: str):
        super().__init__(f"{what}, which the int8 recipe does not support; convert with --recipes=int8_plain.")


def fold(model: keras.Model) -> Graph:
    """Converts a classifier to a graph; folds batch norms and activations into the preceding layer, removes dropout.

    Args:
        model: Functional or sequential model, possibly with nested models, of fixed input size, with one input and one
            output.

    Raises:
        UnsupportedModelError: If a layer is not supported.
    """
    height, width, channels = model.inputs[0].shape[1:]
    reader = _Reader()
    reader.add(Input("image", (), channels))
    reader.read(model, "image")
    return Graph(_merged(reader.nodes), (height, width, channels))


class _Reader:
    """Traverses a Keras model from its output back to its input, and collects the nodes in execution order."""

    def __init__(self):
        self.nodes: dict[str, Node] = {}

    def add(self, node: Node) -> str:
        if node.name in self.nodes:
            raise UnsupportedModelError(f"Layer {node.name!r} is used twice")
        self.nodes[node.name] = node
        return node.name

    def read(self, model: keras.Model, source: str) -> str:
        """Appends a (nested) model whose input is the node `source`; returns the node of its output."""
        if len(model.inputs) != 1 or len(model.outputs) != 1:
            counts = f"{len(model.inputs)} inputs and {len(model.outputs)} outputs"
            raise UnsupportedModelError(f"{model.name!r} has {counts}")
        return self._tensor(model.outputs[0], {id(model.inputs[0]): source})

    def _tensor(self, tensor: Any, done: dict[int, str]) -> str:
        if id(tensor) not in done:
            layer, index, _ = tensor._keras_history  # Keras has no public API for the layer of a tensor
            sources = [self._tensor(source, done) for source in layer._inbound_nodes[index].input_tensors]
            done[id(tensor)] = self._layer(layer, sources, tensor.shape[-1])
        return done[id(tensor)]

    def _layer(self, layer: Any, sources: list[str], channels: int) -> str:
        if isinstance(layer, keras.Model):
            return self.read(layer, sources[0])
        if layer.__class__.__name__ in _IDENTITIES:
            return sources[0]
        read = _READERS.get(layer.__class__.__name__)
        if read is None:
            raise UnsupportedModelError(f"Layer {layer.name!r} is a {layer.__class__.__name__}")
        name = self.add(read(layer, tuple(sources), channels))
        return self._activation(layer, name, channels)

    def _activation(self, layer: Any, name: str, channels: int) -> str:
        """Appends the node of a layer's `activation` argument, if it has one."""
        function = getattr(layer, "activation", None)
        if function in (None, keras.activations.linear) or layer.__class__.__name__ == "Activation":
            return name
        return self.add(_activation(function, f"{name}/activation", (name,), channels))


_IDENTITIES = frozenset(
    (
        "ActivityRegularization",
        "Dropout",
        "GaussianNoise",
        "Identity",
        "RandomBrightness",
        "RandomContrast",
        "RandomCrop",
        "RandomFlip",
        "RandomRotation",
        "RandomTranslation",
        "RandomZoom",
        "SpatialDropout2D",
    )
)


# --- readers of layers: (layer, names of its inputs, number of output channels) -> node --------------------

Reader = Callable[[Any, tuple[str, ...], int], Node]


def _activation(function: Callable, name: str, inputs: tuple[str, ...], channels: int) -> Node:
    if function is keras.activations.softmax:
        return Softmax(name, inputs, channels)
    if function is keras.activations.linear:
        return _identity(name, inputs, channels)
    if function is keras.activations.relu:
        return _identity(name, inputs, channels, relu=True)
    if function is keras.activations.relu6:
        return _identity(name, inputs, channels, relu=True, cap=RELU6)
    raise UnsupportedModelError(f"{name!r} is the activation {getattr(function, '__name__', function)!r}")


def _identity(name: str, inputs: tuple[str, ...], channels: int, **activation: Any) -> Affine:
    """A node that only applies its ReLU."""
    return Affine(name, inputs, channels, np.ones(channels, "float32"), np.zeros(channels, "float32"), **activation)


def _kernel_and_bias(layer: Any, channels: int) -> tuple[np.ndarray, np.ndarray]:
    kernel, *bias = (np.asarray(array, "float32") for array in layer.get_weights())
    return kernel, bias[0] if bias else np.zeros(channels, "float32")


def _stride(layer: Any) -> int:
    if tuple(layer.dilation_rate) != (1, 1) or len(set(layer.strides)) > 1:
        raise UnsupportedModelError(f"Layer {layer.name!r} is dilated or strides unevenly")
    return layer.strides[0]


def _read_conv(layer: Any, inputs: tuple[str, ...], channels: int) -> Conv:
    weights = _kernel_and_bias(layer, channels)
    return Conv(layer.name, inputs, channels, *weights, _stride(layer), layer.padding, layer.groups)


def _read_depthwise(layer: Any, inputs: tuple[str, ...], channels: int) -> DepthwiseConv:
    weights = _kernel_and_bias(layer, channels)
    return DepthwiseConv(layer.name, inputs, channels, *weights, _stride(layer), layer.padding)


def _read_dense(layer: Any, inputs: tuple[str, ...], channels: int) -> Dense:
    return Dense(layer.name, inputs, channels, *_kernel_and_bias(layer, channels))


def _read_batch_norm(layer: Any, inputs: tuple[str, ...], channels: int) -> Affine:
    weights = {weight.name: np.asarray(weight, "float64") for weight in layer.weights}
    factor = weights.get("gamma", 1.0) / np.sqrt(weights["moving_variance"] + layer.epsilon)
    offset = weights.get("beta", 0.0) - weights["moving_mean"] * factor
    return Affine(layer.name, inputs, channels, factor.astype("float32"), offset.astype("float32"))


def _read_rescaling(layer: Any, inputs: tuple[str, ...], channels: int) -> Affine:
    factor, offset = (np.broadcast_to(np.ravel(np.float32(v)), channels) for v in (layer.scale, layer.offset))
    return Affine(layer.name, inputs, channels, factor, offset)


def _read_relu(layer: Any, inputs: tuple[str, ...], channels: int) -> Affine:
    if layer.negative_slope or layer.threshold:
        raise UnsupportedModelError(f"Layer {layer.name!r} is not a plain ReLU")
    cap = None if layer.max_value is None else float(layer.max_value)
    return _identity(layer.name, inputs, channels, relu=True, cap=cap)


def _read_pool(kind: type[Pool]) -> Reader:
    def read(layer: Any, inputs: tuple[str, ...], channels: int) -> Pool:
        (window, *_), (stride, *_) = layer.pool_size, layer.strides
        if layer.pool_size != (window, window) or layer.strides != (stride, stride):
            raise UnsupportedModelError(f"Layer {layer.name!r} pools oblong windows or strides unevenly")
        return kind(layer.name, inputs, channels, window, stride, layer.padding)

    return read


def _read_global_pool(kind: type[Node]) -> Reader:
    def read(layer: Any, inputs: tuple[str, ...], channels: int) -> Node:
        if layer.keepdims:
            raise UnsupportedModelError(f"Layer {layer.name!r} pools to maps of 1x1 (keepdims=True)")
        return kind(layer.name, inputs, channels)

    return read


def _read_add(layer: Any, inputs: tuple[str, ...], channels: int) -> Add:
    if len({source.shape for source in layer.input}) > 1:
        raise UnsupportedModelError(f"Layer {layer.name!r} adds tensors of different shapes")
    return Add(layer.name, inputs, channels)


def _read_pad(layer: Any, inputs: tuple[str, ...], channels: int) -> Pad:
    rows, columns = layer.padding
    return Pad(layer.name, inputs, channels, (tuple(rows), tuple(columns)))


def _read_plain(kind: type[Node]) -> Reader:
    return lambda layer, inputs, channels: kind(layer.name, inputs, channels)


def _along_channels(read: Reader) -> Reader:
    """Wraps the reader of a layer with an `axis`, which must be the last one."""

    def checked(layer: Any, inputs: tuple[str, ...], channels: int) -> Node:
        if layer.axis not in (-1, len(layer.output.shape) - 1):
            raise UnsupportedModelError(f"Layer {layer.name!r} works along axis {layer.axis}, not along the channels")
        return read(layer, inputs, channels)

    return checked


_READERS: dict[str, Reader] = {
    "Conv2D": _read_conv,
    "GroupedConv2D": _read_conv,
    "DepthwiseConv2D": _read_depthwise,
    "Dense": _read_dense,
    "BatchNormalization": _along_channels(_read_batch_norm),
    "Rescaling": _read_rescaling,
    "ReLU": _read_relu,
    "Activation": lambda layer, inputs, channels: _activation(layer.activation, layer.name, inputs, channels),
    "Softmax": _along_channels(_read_plain(Softmax)),
    "MaxPooling2D": _read_pool(MaxPool),
    "AveragePooling2D": _read_pool(AveragePool),
    "GlobalAveragePooling2D": _read_global_pool(GlobalAveragePool),
    "GlobalMaxPooling2D": _read_global_pool(GlobalMaxPool),
    "Flatten": _read_plain(Flatten),
    "Add": _read_add,
    "Concatenate": _along_channels(_read_plain(Concat)),
    "ChannelShuffle": lambda layer, inputs, channels: Shuffle(layer.name, inputs, channels, layer.groups),
    "ZeroPadding2D": _read_pad,
}


# --- merging -----------------------------------------------------------------------------------------------


def _merged(nodes: dict[str, Node]) -> dict[str, Node]:
    """Merges affine nodes (batch norms, activations) into the preceding node, where this is exact."""
    merged: dict[str, Node] = {}
    alias: dict[str, str] = {}
    uses = {name: sum(name in other.inputs for other in nodes.values()) for name in nodes}
    for node in nodes.values():
        node = node.replace(inputs=tuple(alias.get(name, name) for name in node.inputs))
        before = merged.get(node.inputs[0]) if node.inputs else None
        absorbed = _absorbed(before, node) if before is not None and uses[before.name] == 1 else None
        if before is None or absorbed is None:
            merged[node.name] = node
            continue
        merged[before.name] = absorbed
        alias[node.name] = before.name
        uses[before.name] = uses[node.name]
    return merged


def _absorbed(before: Node, affine: Node) -> Node | None:
    """Combines `before` and the `affine` node after it; returns None if this is not possible."""
    if not isinstance(affine, Affine) or before.relu:
        return None
    activation = {"relu": affine.relu, "cap": affine.cap}
    if isinstance(before, LinearNode):
        kernel = before.kernel * before.per_output(affine.kernel)
        return before.replace(kernel=kernel, bias=before.bias * affine.kernel + affine.bias, **activation)
    plain = np.all(affine.kernel == 1) and not affine.bias.any()
    return before.replace(**activation) if plain and isinstance(before, Add | Concat) else None
