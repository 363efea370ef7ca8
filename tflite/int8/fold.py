"""A trained Keras model as a plain graph of convolutions, batch norm folded."""

from collections.abc import Callable

import keras
import numpy as np

from fd_keras.tflite.int8.graph import WEIGHTED, Graph, Node


class UnsupportedModel(ValueError):
    """A model with a layer that the int8 recipe does not know; says which, and the way out."""

    def __init__(self, what: str):
        super().__init__(f"{what}; the int8 recipe does not know that, convert with --recipes=int8_plain.")


def fold(model: keras.Model) -> Graph:
    """Makes the graph of a classifier: batch norm and activations go into the layer before, dropout goes away.

    Args:
        model: functional or sequential, nested ones included, of fixed input size, with one input and one output.

    Raises:
        UnsupportedModel: if a layer is not known here.
    """
    shape = tuple(model.inputs[0].shape[1:])
    reader = _Reader()
    reader.add(Node("image", "input", (), shape[-1]))
    reader.read(model, "image")
    nodes = dict(reader.nodes.items())
    return Graph(_merged(nodes, reader.last), shape)


class _Reader:
    """Walks a Keras model from its output back to its input and appends the nodes in running order."""

    def __init__(self):
        self.nodes: dict[str, Node] = {}
        self.last = ""

    def add(self, node: Node) -> str:
        if node.name in self.nodes:
            raise UnsupportedModel(f"Layer {node.name!r} is used twice")
        self.nodes[node.name] = node
        self.last = node.name
        return node.name

    def read(self, model: keras.Model, source: str) -> str:
        """Appends a (nested) model whose input is the node `source`; returns the node of its output."""
        if len(model.inputs) != 1 or len(model.outputs) != 1:
            raise UnsupportedModel(f"{model.name!r} has {len(model.inputs)} inputs and {len(model.outputs)} outputs")
        return self._tensor(model.outputs[0], {id(model.inputs[0]): source})

    def _tensor(self, tensor, done: dict[int, str]) -> str:
        if id(tensor) not in done:
            layer, index, _ = tensor._keras_history  # Keras offers no public way from a tensor to its layer
            sources = [self._tensor(source, done) for source in layer._inbound_nodes[index].input_tensors]
            done[id(tensor)] = self._layer(layer, sources, tensor.shape[-1])
        return done[id(tensor)]

    def _layer(self, layer, sources: list[str], channels: int) -> str:
        if isinstance(layer, keras.Model):
            return self.read(layer, sources[0])
        if layer.__class__.__name__ in _IDENTITIES:
            return sources[0]
        convert = _READERS.get(layer.__class__.__name__)
        if convert is None:
            raise UnsupportedModel(f"Layer {layer.name!r} is a {layer.__class__.__name__}")
        node = convert(layer, layer.name, tuple(sources), channels)
        name = self.add(node)
        return self._activation(layer, name, channels)

    def _activation(self, layer, name: str, channels: int) -> str:
        """Appends what a layer's `activation` argument does."""
        function = getattr(layer, "activation", None)
        if function in (None, keras.activations.linear) or layer.__class__.__name__ == "Activation":
            return name
        node = _activation_node(function, f"{name}/activation", (name,), channels)
        return self.add(node)


_IDENTITIES = frozenset(
    ("Dropout", "SpatialDropout2D", "GaussianNoise", "ActivityRegularization", "RandomFlip", "RandomTranslation",
     "RandomRotation", "RandomZoom", "RandomContrast", "RandomBrightness", "RandomCrop", "Identity")
)  # fmt: skip


def _activation_node(function, name: str, inputs: tuple[str, ...], channels: int) -> Node:
    if function is keras.activations.softmax:
        return Node(name, "softmax", inputs, channels)
    if function is keras.activations.linear:
        return Node(name, "affine", inputs, channels, np.ones(channels, "float32"), np.zeros(channels, "float32"))
    caps = {keras.activations.relu: None, keras.activations.relu6: 6.0}
    if function not in caps:
        raise UnsupportedModel(f"{name!r} is the activation {getattr(function, '__name__', function)!r}")
    one, zero = np.ones(channels, "float32"), np.zeros(channels, "float32")
    return Node(name, "affine", inputs, channels, one, zero, relu=True, cap=caps[function])


def _weights(layer) -> list[np.ndarray]:
    return [np.asarray(array, "float32") for array in layer.get_weights()]


def _read_weighted(kind: str) -> Callable:
    def read(layer, name, inputs, channels):
        kernel, *bias = _weights(layer)
        if kind != "dense" and (tuple(layer.dilation_rate) != (1, 1) or len(set(layer.strides)) > 1):
            raise UnsupportedModel(f"Layer {name!r} is dilated or strides unevenly")
        geometry = {} if kind == "dense" else {"stride": layer.strides[0], "padding": layer.padding}
        if kind == "conv":
            geometry["groups"] = layer.groups
        return Node(
            name, kind, inputs, channels, kernel, bias[0] if bias else np.zeros(channels, "float32"), **geometry
        )

    return read


def _read_batch_norm(layer, name, inputs, channels):
    weights = {weight.name: np.asarray(weight, "float64") for weight in layer.weights}
    factor = weights.get("gamma", 1.0) / np.sqrt(weights["moving_variance"] + layer.epsilon)
    offset = weights.get("beta", 0.0) - weights["moving_mean"] * factor
    return Node(name, "affine", inputs, channels, factor.astype("float32"), offset.astype("float32"))


def _read_rescaling(layer, name, inputs, channels):
    factor, offset = (np.broadcast_to(np.ravel(np.float32(v)), channels) for v in (layer.scale, layer.offset))
    return Node(name, "affine", inputs, channels, factor, offset)


def _read_pool(kind: str) -> Callable:
    def read(layer, name, inputs, channels):
        (window, *_), (stride, *_) = layer.pool_size, layer.strides
        if layer.pool_size != (window, window) or layer.strides != (stride, stride):
            raise UnsupportedModel(f"Layer {name!r} pools oblong windows or strides unevenly")
        return Node(name, kind, inputs, channels, window=window, stride=stride, padding=layer.padding)

    return read


def _read_relu(layer, name, inputs, channels):
    if layer.negative_slope or layer.threshold:
        raise UnsupportedModel(f"Layer {name!r} is not a plain ReLU")
    one, zero = np.ones(channels, "float32"), np.zeros(channels, "float32")
    cap = None if layer.max_value is None else float(layer.max_value)
    return Node(name, "affine", inputs, channels, one, zero, relu=True, cap=cap)


def _read_global_pool(kind: str) -> Callable:
    def read(layer, name, inputs, channels):
        if layer.keepdims:
            raise UnsupportedModel(f"Layer {name!r} pools to maps of 1x1 (keepdims=True)")
        return Node(name, kind, inputs, channels)

    return read


def _read_add(layer, name, inputs, channels):
    if len({source.shape for source in layer.input}) > 1:
        raise UnsupportedModel(f"Layer {name!r} adds tensors of different shapes")
    return Node(name, "add", inputs, channels)


def _read_simple(kind: str) -> Callable:
    return lambda layer, name, inputs, channels: Node(name, kind, inputs, channels)


def _along_channels(read: Callable) -> Callable:
    """Reads layers that have an `axis`, which must be the last one."""

    def checked(layer, name, inputs, channels):
        if layer.axis not in (-1, len(layer.output.shape) - 1):
            raise UnsupportedModel(f"Layer {name!r} works along axis {layer.axis}, not along the channels")
        return read(layer, name, inputs, channels)

    return checked


_READERS: dict[str, Callable] = {
    "Conv2D": _read_weighted("conv"),
    "GroupedConv2D": _read_weighted("conv"),
    "DepthwiseConv2D": _read_weighted("depthwise"),
    "Dense": _read_weighted("dense"),
    "BatchNormalization": _along_channels(_read_batch_norm),
    "Rescaling": _read_rescaling,
    "ReLU": _read_relu,
    "Activation": lambda layer, name, inputs, channels: _activation_node(layer.activation, name, inputs, channels),
    "Softmax": _along_channels(_read_simple("softmax")),
    "MaxPooling2D": _read_pool("max_pool"),
    "AveragePooling2D": _read_pool("avg_pool"),
    "GlobalAveragePooling2D": _read_global_pool("global_pool"),
    "GlobalMaxPooling2D": _read_global_pool("global_max_pool"),
    "Flatten": _read_simple("flatten"),
    "Add": _read_add,
    "Concatenate": _along_channels(_read_simple("concat")),
    "ChannelShuffle": lambda layer, name, inputs, channels: Node(
        name, "shuffle", inputs, channels, groups=layer.groups
    ),
    "ZeroPadding2D": lambda layer, name, inputs, channels: Node(
        name, "pad", inputs, channels, pads=tuple(map(tuple, layer.padding))
    ),
}


def _merged(nodes: dict[str, Node], output: str) -> dict[str, Node]:
    """Merges every affine (batch norm, activation) into the only node it follows, where that is exact."""
    merged: dict[str, Node] = {}
    alias: dict[str, str] = {}
    uses = {name: sum(name in other.inputs for other in nodes.values()) for name in nodes}
    for node in nodes.values():
        node = node.replace(inputs=tuple(alias.get(name, name) for name in node.inputs))
        before = merged.get(node.inputs[0]) if node.inputs else None
        absorbed = _absorbed(before, node) if before is not None and uses[before.name] == 1 else None
        if absorbed is None:
            merged[node.name] = node
            continue
        merged[before.name] = absorbed
        alias[node.name] = before.name
        uses[before.name] = uses[node.name]
    return merged


def _absorbed(before: Node, affine: Node) -> Node | None:
    """`before` followed by `affine` as one node, or None where that is not possible."""
    if affine.kind != "affine" or before.relu or before.kind in ("input", "softmax", "flatten"):
        return None
    plain = np.all(affine.kernel == 1) and not affine.bias.any()
    if before.kind in WEIGHTED:
        kernel = before.kernel * _per_output(before, affine.kernel)
        bias = before.bias * affine.kernel + affine.bias
        return before.replace(kernel=kernel, bias=bias, relu=affine.relu, cap=affine.cap)
    if before.kind == "affine":
        return before.replace(
            kernel=before.kernel * affine.kernel, bias=before.bias * affine.kernel + affine.bias,
            relu=affine.relu, cap=affine.cap,
        )  # fmt: skip
    return before.replace(relu=affine.relu, cap=affine.cap) if plain and before.kind in ("add", "concat") else None


def _per_output(node: Node, values: np.ndarray) -> np.ndarray:
    """One number an output channel, in a shape that multiplies the node's kernel."""
    return values.reshape(node.kernel.shape[2:]) if node.kind == "depthwise" else values
