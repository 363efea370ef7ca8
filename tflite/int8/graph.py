"""A network as a plain graph of convolutions, everything in numpy, and how to run it on TensorFlow.

The graph is what the int8 recipe works on, what it simulates integers with, and what it hands to the converter.
Nothing here imports Keras: the process that trains for integers must not (see `tflite.qat`).
"""

import collections
import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import tensorflow as tf

WEIGHTED = ("conv", "depthwise", "dense")
# Kinds whose output has the channels of the input, each scaled as the input is: pooling, padding and the like.
PASSING = ("pad", "max_pool", "avg_pool", "global_pool", "global_max_pool")


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
        groups = 1 if grouped else node.groups
        return linear(node.kind, x, node.kernel, node.stride, node.padding, groups) + node.bias
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
        before, after = (_filled(x, shape, node.pad_value) for shape in shapes)
        x = tf.concat([part for part in (before, x, after) if part.shape[axis]], axis)
    return x


def _filled(x, shape: list[int | None], values: np.ndarray):
    """One number a channel in a block of this shape, a constant unless the batch may be of any size."""
    if shape[0] is None:
        return tf.broadcast_to(np.float32(values), [tf.shape(x)[0], *shape[1:]])
    return np.broadcast_to(np.float32(values), shape)


def linear(kind: str, x, kernel, stride: int, padding: str, groups: int):
    """A conv, depthwise or dense without its bias; the arguments are a `Node`'s."""
    if kind == "dense":
        return tf.matmul(x, kernel)
    if kind == "depthwise":
        return tf.nn.depthwise_conv2d(x, kernel, (1, stride, stride, 1), padding.upper())
    if groups == 1:
        return tf.nn.conv2d(x, kernel, stride, padding.upper())
    parts = zip(tf.split(x, groups, -1), tf.split(kernel, groups, -1), strict=True)
    return tf.concat([tf.nn.conv2d(a, k, stride, padding.upper()) for a, k in parts], -1)


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


def logits(graph: Graph) -> Graph:
    """The graph without the softmax that it ends in; as it is if it ends in none."""
    if graph.output.kind != "softmax":
        return graph
    return dataclasses.replace(graph, nodes=dict(list(graph.nodes.items())[:-1]))


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
