"""A network as a plain graph of convolutions, everything in numpy, and how to run it on TensorFlow.

The graph is what the int8 recipe works on, what it simulates integers with, and what it hands to the converter.
Nothing here imports Keras: the process that trains for integers must not (see `tflite.qat`).
"""

import abc
import collections
import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal, Self

import numpy as np
import tensorflow as tf

RELU6 = 6.0


@dataclasses.dataclass(frozen=True, eq=False)
class Node(abc.ABC):
    """One operation; each kind of it is a subclass.

    Attributes:
        name: Its unique name in the graph.
        inputs: Names of the nodes whose outputs it takes.
        channels: Number of channels of the output.
        relu: Whether negative outputs become 0.
        cap: What larger outputs become, if it has a ReLU: one number, or one a channel; None: they stay.
        limit: The cap that the network had before it was clipped lower, or None.
    """

    name: str
    inputs: tuple[str, ...]
    channels: int
    _: dataclasses.KW_ONLY
    relu: bool = False
    cap: float | np.ndarray | None = None
    limit: float | np.ndarray | None = None

    def replace(self, **changes: Any) -> Self:
        """A copy with some attributes changed."""
        return dataclasses.replace(self, **changes)

    def compute(self, inputs: Sequence[Any]) -> Any:
        """The output before the ReLU.

        Args:
            inputs: TensorFlow tensors of shape (batch, height, width, channels) or (batch, channels).
        """
        return self._compute(*inputs)

    @abc.abstractmethod
    def _compute(self, *inputs: Any) -> Any:
        """What the kind of operation does to its inputs."""

    def activate(self, x: Any) -> Any:
        """The output after the ReLU and its cap."""
        if not self.relu:
            return x
        if self.cap is None:
            return tf.nn.relu(x)
        six = np.ndim(self.cap) == 0 and self.cap == RELU6
        return tf.nn.relu6(x) if six else tf.clip_by_value(x, 0.0, self.cap)

    def output(self, inputs: Sequence[Any]) -> Any:
        """What the nodes after it take."""
        return self.activate(self.compute(inputs))


class Input(Node):
    """The image, which is given to the graph."""

    def _compute(self, image: Any) -> Any:
        return image


# --- multiplications ---------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, eq=False)
class LinearNode(Node):
    """A node that multiplies by a kernel and adds a bias.

    Attributes:
        kernel: What it multiplies by, in a shape of its kind.
        bias: What it adds to each channel, (channels,).
    """

    kernel: np.ndarray
    bias: np.ndarray

    def per_input(self, values: np.ndarray) -> np.ndarray:
        """One number an input channel, in a shape that multiplies the kernel."""
        return values[:, None]

    def per_output(self, values: np.ndarray) -> np.ndarray:
        """One number an output channel, in a shape that multiplies the kernel."""
        return values


class Affine(LinearNode):
    """A factor and an offset a channel, such as a batch normalization; the kernel is the factors, (channels,)."""

    def per_input(self, values: np.ndarray) -> np.ndarray:
        """One number an input channel, in a shape that multiplies the kernel."""
        return values

    def _compute(self, x: Any) -> Any:
        return x * self.kernel + self.bias


class WeightedNode(LinearNode):
    """A convolution or dense layer, whose weights the int8 recipe rounds."""

    @property
    def fan_in(self) -> int:
        """Number of inputs that an output sums over."""
        return math.prod(self.kernel.shape[:-1])

    @property
    def matrix(self) -> np.ndarray:
        """The kernel with a column for each output channel, (fan_in, channels)."""
        return self.kernel.reshape(-1, self.channels)


@dataclasses.dataclass(frozen=True, eq=False)
class Conv(WeightedNode):
    """A convolution with a kernel of shape (height, width, input channels / groups, channels).

    Attributes:
        stride: Step of the window, down and to the right.
        padding: "same" or "valid".
        groups: Number of groups of channels that are convolved apart.
    """

    stride: int = 1
    padding: str = "valid"
    groups: int = 1

    def per_input(self, values: np.ndarray) -> np.ndarray:
        """One number an input channel, in a shape that multiplies the kernel."""
        by_group = values.reshape(self.groups, -1)
        return np.repeat(by_group, self.channels // self.groups, axis=0).T

    def _compute(self, x: Any) -> Any:
        return grouped_conv2d(x, self.kernel, self.stride, self.padding, self.groups) + self.bias


@dataclasses.dataclass(frozen=True, eq=False)
class DepthwiseConv(WeightedNode):
    """A depthwise convolution with a kernel of shape (height, width, input channels, multiplier).

    Attributes:
        stride: Step of the window, down and to the right.
        padding: "same" or "valid".
        split: Where the range of each channel was cut if every channel became two, see `equalize.split_ranges`.
    """

    stride: int = 1
    padding: str = "valid"
    split: np.ndarray | None = None

    @property
    def fan_in(self) -> int:
        """Number of inputs that an output sums over."""
        return math.prod(self.kernel.shape[:2])

    def per_output(self, values: np.ndarray) -> np.ndarray:
        """One number an output channel, in a shape that multiplies the kernel."""
        return values.reshape(self.kernel.shape[2:])

    def _compute(self, x: Any) -> Any:
        strides = (1, self.stride, self.stride, 1)
        return tf.nn.depthwise_conv2d(x, self.kernel, strides, _upper(self.padding)) + self.bias


class Dense(WeightedNode):
    """A dense layer with a kernel of shape (inputs, channels)."""

    def _compute(self, x: Any) -> Any:
        return tf.matmul(x, self.kernel) + self.bias


def grouped_conv2d(x: Any, kernel: Any, stride: int, padding: str, groups: int) -> Any:
    """A convolution of groups of channels, one by one: TensorFlow has no gradient of the one op on a CPU."""
    if groups == 1:
        return tf.nn.conv2d(x, kernel, stride, _upper(padding))
    parts = zip(tf.split(x, groups, -1), tf.split(kernel, groups, -1), strict=True)
    return tf.concat([tf.nn.conv2d(a, k, stride, _upper(padding)) for a, k in parts], -1)


def _upper(padding: str) -> Literal["SAME", "VALID"]:
    """Keras's name of a padding as TensorFlow spells it."""
    return "SAME" if padding == "same" else "VALID"


# --- all other kinds ---------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, eq=False)
class Pool(Node):
    """Pooling of a window that moves.

    Attributes:
        window: Side of the square window.
        stride: Step of the window, down and to the right.
        padding: "same" or "valid".
    """

    window: int
    stride: int
    padding: str


class MaxPool(Pool):
    """The largest number in each window."""

    def _compute(self, x: Any) -> Any:
        return tf.nn.max_pool2d(x, self.window, self.stride, _upper(self.padding))


class AveragePool(Pool):
    """The mean of each window."""

    def _compute(self, x: Any) -> Any:
        return tf.nn.avg_pool2d(x, self.window, self.stride, _upper(self.padding))


class GlobalPool(Node):
    """Pooling of all pixels."""


class GlobalAveragePool(GlobalPool):
    """The mean of all pixels."""

    def _compute(self, x: Any) -> Any:
        return tf.reduce_mean(x, axis=(1, 2))


class GlobalMaxPool(GlobalPool):
    """The largest of all pixels."""

    def _compute(self, x: Any) -> Any:
        return tf.reduce_max(x, axis=(1, 2))


@dataclasses.dataclass(frozen=True, eq=False)
class Pad(Node):
    """Rows and columns added around the image.

    Attributes:
        widths: Their numbers: ((top, bottom), (left, right)).
        value: What they hold: one number, so that a convolution after it can take the padding up; or one a channel,
            (channels,), which makes it a frame that is concatenated.
    """

    widths: tuple[tuple[int, int], tuple[int, int]]
    value: float | np.ndarray = 0.0

    def _compute(self, x: Any) -> Any:
        if np.ndim(self.value) == 0:
            return tf.pad(x, [(0, 0), *self.widths, (0, 0)], constant_values=self.value)
        for axis, widths in enumerate(self.widths, 1):
            shapes = [[*x.shape[:axis], width, *x.shape[axis + 1 :]] for width in widths]
            before, after = (_filled(x, shape, self.value) for shape in shapes)
            x = tf.concat([part for part in (before, x, after) if part.shape[axis]], axis)
        return x


def _filled(x: Any, shape: list[int | None], values: float | np.ndarray) -> Any:
    """One number a channel in a block of this shape, a constant unless the batch may be of any size."""
    values = np.asarray(values, "float32")
    if shape[0] is None:
        return tf.broadcast_to(values, [tf.shape(x)[0], *shape[1:]])
    return np.broadcast_to(values, [side for side in shape if side is not None])


@dataclasses.dataclass(frozen=True, eq=False)
class Shuffle(Node):
    """A channel shuffle: every group's first channel, then every group's second one, and so on.

    Attributes:
        groups: Number of groups of neighbouring channels.
    """

    groups: int

    def _compute(self, x: Any) -> Any:
        height, width, channels = x.shape[1:]
        x = tf.reshape(x, (-1, height * width, self.groups, channels // self.groups))
        return tf.reshape(tf.transpose(x, (0, 1, 3, 2)), (-1, height, width, channels))

    @property
    def order(self) -> np.ndarray:
        """For each output channel the input channel that it is."""
        return np.arange(self.channels).reshape(self.groups, -1).T.ravel()


class Add(Node):
    """The sum of the inputs."""

    def _compute(self, *inputs: Any) -> Any:
        first, second, *more = inputs
        return tf.add_n(inputs) if more else first + second


class Concat(Node):
    """The channels of all inputs, one after another."""

    def _compute(self, *inputs: Any) -> Any:
        return tf.concat(inputs, axis=-1)


class Flatten(Node):
    """The pixels of a map, row by row, as one vector."""

    def _compute(self, x: Any) -> Any:
        return tf.reshape(x, (x.shape[0], -1))


class Softmax(Node):
    """The softmax over the channels."""

    def _compute(self, x: Any) -> Any:
        return tf.nn.softmax(x)


# --- graphs ------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Graph:
    """A network from one image to one vector.

    Attributes:
        nodes: Nodes by name, in the order in which they run; the first is the `Input`, the last the output.
        input_shape: (height, width, channels).
    """

    nodes: Mapping[str, Node]
    input_shape: tuple[int, int, int]

    def __iter__(self) -> Iterator[Node]:
        return iter(self.nodes.values())

    @property
    def output(self) -> Node:
        """The last node."""
        return list(self)[-1]

    @property
    def weighted(self) -> list[WeightedNode]:
        """The convolutions and dense layers."""
        return [node for node in self if isinstance(node, WeightedNode)]

    def consumers(self, name: str) -> list[Node]:
        """The nodes that take a node's output."""
        return [node for node in self if name in node.inputs]

    def updated(self, changed: Mapping[str, Node]) -> "Graph":
        """The graph with some nodes replaced by others of the same name."""
        return dataclasses.replace(self, nodes={name: changed.get(name, node) for name, node in self.nodes.items()})


NodeOutput = Callable[[Node, list], Any]  # a node and its inputs -> what the nodes after it take


def walk(graph: Graph, images: Any, output: NodeOutput = Node.output) -> Iterator[tuple[Node, Any]]:
    """Runs the graph and yields every node with its output, as the nodes after it take it.

    Outputs that no later node needs are let go.

    Args:
        graph: Network to run.
        images: Images of shape (batch, height, width, channels).
        output: How the output of each node but the input is computed.
    """
    last_use = {name: node.name for node in graph for name in node.inputs}
    live: dict[str, Any] = {}
    for node in graph:
        if isinstance(node, Input):
            value = tf.convert_to_tensor(images)
        else:
            value = output(node, [live[name] for name in node.inputs])
        live[node.name] = value
        for name in node.inputs:
            if last_use[name] == node.name:
                live.pop(name, None)
        yield node, value


def run(graph: Graph, images: Any, output: NodeOutput = Node.output) -> Any:
    """The output of the graph for images of shape (batch, height, width, channels); `output` as of `walk`."""
    ((_, value),) = collections.deque(walk(graph, images, output), maxlen=1)
    return value


def logits(graph: Graph) -> Graph:
    """The graph without the softmax that it ends in; as it is if it ends in none."""
    if not isinstance(graph.output, Softmax):
        return graph
    return dataclasses.replace(graph, nodes=dict(list(graph.nodes.items())[:-1]))
