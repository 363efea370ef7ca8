"""A trained Keras model as a plain graph of convolutions: batch norm folded, everything in numpy.

The graph is what the int8 recipe works on, what it simulates integers with, and what it hands to the converter.
"""

import collections
import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence

import keras
import numpy as np
import tensorflow as tf

WEIGHTED = ("conv", "depthwise", "dense")
# Kinds whose output has the channels of the input, each scaled as the input is: pooling, padding and the like.
PASSING = ("pad", "max_pool", "avg_pool", "global_pool", "global_max_pool")


class UnsupportedModel(ValueError):
    """A model with a layer that the int8 recipe does not know; says which, and the way out."""

    def __init__(self, what: str):
        super().__init__(f"{what}; the int8 recipe does not know that, convert with --recipes=int8_plain.")


@dataclasses.dataclass(frozen=True)
class Node:
    """One operation.

    Attributes:
        name: unique.
        kind: input, conv, depthwise, dense, affine, softmax, pad, max_pool, avg_pool, global_pool, global_max_pool,
            shuffle, add, concat or flatten.
        inputs: names of the nodes it takes.
        channels: of its output.
        kernel: of a conv (h, w, cin / groups, cout), depthwise (h, w, cin, multiplier) or dense (cin, cout); of an
            affine the factor per channel.
        bias: one number an output channel.
        stride: of the window.
        padding: "same" or "valid".
        groups: of a conv or shuffle.
        window: side of a pooling window.
        pads: rows and columns added by a pad: ((top, bottom), (left, right)).
        pad_value: what a pad adds: one number, which a convolution after it can take up, or one a channel, a frame
            that is concatenated.
        relu: whether negative outputs become 0.
        cap: what larger outputs become: one number, or one a channel; or None.
        limit: the cap that the network had before it was clipped lower, or None.
        split: of a depthwise whose every channel became two, see `equalize.split_ranges`: where each was cut.
    """

    name: str
    kind: str
    inputs: tuple[str, ...]
    channels: int
    kernel: np.ndarray | None = None
    bias: np.ndarray | None = None
    stride: int = 1
    padding: str = "valid"
    groups: int = 1
    window: int = 1
    pads: tuple[tuple[int, int], tuple[int, int]] = ((0, 0), (0, 0))
    pad_value: float | np.ndarray = 0.0
    relu: bool = False
    cap: float | np.ndarray | None = None
    limit: float | np.ndarray | None = None
    split: np.ndarray | None = None

    def replace(self, **changes) -> "Node":
        """A copy with some attributes changed."""
        return dataclasses.replace(self, **changes)


@dataclasses.dataclass(frozen=True)
class Graph:
    """A network from one image to one vector.

    Attributes:
        nodes: by name, in the order in which they run; the first is the input, the last the output.
        input_shape: (height, width, channels).
    """

    nodes: Mapping[str, Node]
    input_shape: tuple[int, int, int]

    def __iter__(self) -> Iterator[Node]:
        return iter(self.nodes.values())

    @property
    def output(self) -> Node:
        return next(reversed(self.nodes.values()))

    def consumers(self, name: str) -> list[Node]:
        """The nodes that take a node's output."""
        return [node for node in self if name in node.inputs]

    def updated(self, changed: Mapping[str, Node]) -> "Graph":
        """The graph with some nodes replaced by others of the same name."""
        return dataclasses.replace(self, nodes={name: changed.get(name, node) for name, node in self.nodes.items()})


# --- from Keras --------------------------------------------------------------------------------------------


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
    nodes = {name: node for name, node in reader.nodes.items()}
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


# --- running -----------------------------------------------------------------------------------------------


def apply(node: Node, inputs: Sequence, *, grouped: bool = False):
    """Runs one node on TensorFlow tensors, without its ReLU and cap.

    Args:
        node: what to run.
        inputs: its inputs, (batch, height, width, channels) or (batch, channels).
        grouped: whether to leave a grouped convolution to one op, which only the converter understands.
    """
    x = inputs[0]
    if node.kind in ("conv", "depthwise", "dense"):
        return _linear(node, x, grouped) + node.bias
    if node.kind == "affine":
        return x * node.kernel + node.bias
    if node.kind == "pad":
        return _framed(x, node) if np.ndim(node.pad_value) else _padded(x, node)
    if node.kind == "shuffle":
        height, width, channels = x.shape[1:]
        x = tf.reshape(x, (-1, height * width, node.groups, channels // node.groups))
        return tf.reshape(tf.transpose(x, (0, 1, 3, 2)), (-1, height, width, channels))
    if node.kind in ("max_pool", "avg_pool"):
        pool = tf.nn.max_pool2d if node.kind == "max_pool" else tf.nn.avg_pool2d
        return pool(x, node.window, node.stride, node.padding.upper())
    return _SIMPLE[node.kind](inputs)


_SIMPLE: dict[str, Callable] = {
    "add": lambda inputs: tf.add_n(inputs) if len(inputs) > 2 else inputs[0] + inputs[1],
    "concat": lambda inputs: tf.concat(inputs, axis=-1),
    "flatten": lambda inputs: tf.reshape(inputs[0], (inputs[0].shape[0], -1)),
    "global_pool": lambda inputs: tf.reduce_mean(inputs[0], axis=(1, 2)),
    "global_max_pool": lambda inputs: tf.reduce_max(inputs[0], axis=(1, 2)),
    "softmax": lambda inputs: tf.nn.softmax(inputs[0]),
}


def _padded(x, node: Node):
    return tf.pad(x, [(0, 0), *node.pads, (0, 0)], constant_values=node.pad_value)


def _framed(x, node: Node):
    for axis, widths in enumerate(node.pads, 1):
        shapes = [[*x.shape[:axis], width, *x.shape[axis + 1 :]] for width in widths]
        before, after = (np.broadcast_to(np.float32(node.pad_value), shape) for shape in shapes)
        x = tf.concat([part for part in (before, x, after) if part.shape[axis]], axis)
    return x


def _linear(node: Node, x, grouped: bool):
    if node.kind == "dense":
        return tf.matmul(x, node.kernel)
    if node.kind == "depthwise":
        return tf.nn.depthwise_conv2d(x, node.kernel, (1, node.stride, node.stride, 1), node.padding.upper())
    if node.groups == 1 or grouped:
        return tf.nn.conv2d(x, node.kernel, node.stride, node.padding.upper())
    parts = zip(tf.split(x, node.groups, -1), np.split(node.kernel, node.groups, -1), strict=True)
    return tf.concat([tf.nn.conv2d(a, k, node.stride, node.padding.upper()) for a, k in parts], -1)


def activate(node: Node, x):
    """The node's ReLU and cap."""
    if not node.relu:
        return x
    if node.cap is None:
        return tf.nn.relu(x)
    six = np.ndim(node.cap) == 0 and node.cap == 6.0
    return tf.nn.relu6(x) if six else tf.clip_by_value(x, 0.0, node.cap)


def run(graph: Graph, images, *, grouped: bool = False):
    """The output of the graph for images of shape (batch, height, width, channels)."""
    return collections.deque(walk(graph, images, grouped=grouped), maxlen=1)[0][2]


def walk(graph: Graph, images, *, grouped: bool = False) -> Iterator[tuple[Node, object, object]]:
    """Runs the graph and yields every node with its output before and after the ReLU and cap.

    Outputs that no later node needs are let go.
    """
    live = Live(graph)
    for node in graph:
        if node.kind == "input":
            before = after = tf.convert_to_tensor(images)
        else:
            before = apply(node, live.inputs(node), grouped=grouped)
            after = activate(node, before)
        live.keep(node, after)
        yield node, before, after


class Live:
    """The outputs that later nodes still need, while a graph runs node by node."""

    def __init__(self, graph: Graph):
        self._last_use = {name: node.name for node in graph for name in node.inputs}
        self._values: dict[str, object] = {}

    def inputs(self, node: Node) -> list:
        """What a node takes."""
        return [self._values[name] for name in node.inputs]

    def keep(self, node: Node, values) -> None:
        """Notes a node's output, and lets go of the inputs that nobody needs after it."""
        self._values[node.name] = values
        for name in node.inputs:
            if self._last_use[name] == node.name:
                self._values.pop(name, None)
