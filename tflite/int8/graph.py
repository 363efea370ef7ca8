"""A network as a graph of convolutions with numpy weights, and functions that run it with TensorFlow.

The int8 recipe modifies this graph, simulates integers with it, and passes it to the converter. This module does not
import Keras, since the process for quantization-aware training must not (see `tflite.qat`).
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
    """Base class of the operations in a graph.

    Attributes:
        name: Unique name of the node in the graph.
        inputs: Names of the nodes whose outputs are the inputs.
        channels: Number of output channels.
        relu: Whether a ReLU follows.
        cap: Upper limit of the ReLU: one number, or one per channel, (channels,); None for no limit.
        limit: The cap before the recipe lowered it, or None.
    """

    name: str
    inputs: tuple[str, ...]
    channels: int
    _: dataclasses.KW_ONLY
    relu: bool = False
    cap: float | np.ndarray | None = None
    limit: float | np.ndarray | None = None

    def replace(self, **changes: Any) -> Self:
        """Returns a copy with some attributes changed."""
        return dataclasses.replace(self, **changes)

    def compute(self, inputs: Sequence[Any]) -> Any:
        """Computes the output before the ReLU.

        Args:
            inputs: TensorFlow tensors of shape (batch, height, width, channels) or (batch, channels).
        """
        return self._compute(*inputs)

    @abc.abstractmethod
    def _compute(self, *inputs: Any) -> Any:
        """Computes the operation itself."""

    def activate(self, x: Any) -> Any:
        """Applies the ReLU and its cap."""
        if not self.relu:
            return x
        if self.cap is None:
            return tf.nn.relu(x)
        six = np.ndim(self.cap) == 0 and self.cap == RELU6
        return tf.nn.relu6(x) if six else tf.clip_by_value(x, 0.0, self.cap)

    def output(self, inputs: Sequence[Any]) -> Any:
        """Computes the output after the ReLU, which is the input of the next nodes."""
        return self.activate(self.compute(inputs))


class Input(Node):
    """The input image."""

    def _compute(self, image: Any) -> Any:
        return image


# --- linear operations -------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, eq=False)
class LinearNode(Node):
    """A node that multiplies by a kernel and adds a bias.

    Attributes:
        kernel: Weights; the shape depends on the subclass.
        bias: Bias of each channel, shape (channels,).
    """

    kernel: np.ndarray
    bias: np.ndarray

    def per_input(self, values: np.ndarray) -> np.ndarray:
        """Reshapes one value per input channel so that it broadcasts with the kernel."""
        return values[:, None]

    def per_output(self, values: np.ndarray) -> np.ndarray:
        """Reshapes one value per output channel so that it broadcasts with the kernel."""
        return values


class Affine(LinearNode):
    """A factor and an offset per channel, such as a batch normalization; the kernel has shape (channels,)."""

    def per_input(self, values: np.ndarray) -> np.ndarray:
        """Reshapes one value per input channel so that it broadcasts with the kernel."""
        return values

    def _compute(self, x: Any) -> Any:
        return x * self.kernel + self.bias


class WeightedNode(LinearNode):
    """A convolution or dense layer, whose weights the int8 recipe rounds."""

    @property
    def fan_in(self) -> int:
        """Number of inputs that each output sums over."""
        return math.prod(self.kernel.shape[:-1])

    @property
    def matrix(self) -> np.ndarray:
        """The kernel as a matrix of shape (fan_in, channels)."""
        return self.kernel.reshape(-1, self.channels)


@dataclasses.dataclass(frozen=True, eq=False)
class Conv(WeightedNode):
    """A convolution with a kernel of shape (height, width, input channels / groups, channels).

    Attributes:
        stride: Stride along height and width.
        padding: "same" or "valid".
        groups: Number of channel groups, which are convolved separately.
    """

    stride: int = 1
    padding: str = "valid"
    groups: int = 1

    def per_input(self, values: np.ndarray) -> np.ndarray:
        """Reshapes one value per input channel so that it broadcasts with the kernel."""
        by_group = values.reshape(self.groups, -1)
        return np.repeat(by_group, self.channels // self.groups, axis=0).T

    def _compute(self, x: Any) -> Any:
        return grouped_conv2d(x, self.kernel, self.stride, self.padding, self.groups) + self.bias


@dataclasses.dataclass(frozen=True, eq=False)
class DepthwiseConv(WeightedNode):
    """A depthwise convolution with a kernel of shape (height, width, input channels, multiplier).

    Attributes:
        stride: Stride along height and width.
        padding: "same" or "valid".
        split: Value at which each channel's range was split into two channels, see `equalize.split_ranges`; or None.
    """

    stride: int = 1
    padding: str = "valid"
    split: np.ndarray | None = None

    @property
    def fan_in(self) -> int:
        """Number of inputs that each output sums over."""
        return math.prod(self.kernel.shape[:2])

    def per_output(self, values: np.ndarray) -> np.ndarray:
        """Reshapes one value per output channel so that it broadcasts with the kernel."""
        return values.reshape(self.kernel.shape[2:])

    def _compute(self, x: Any) -> Any:
        strides = (1, self.stride, self.stride, 1)
        return tf.nn.depthwise_conv2d(x, self.kernel, strides, _upper(self.padding)) + self.bias


class Dense(WeightedNode):
    """A dense layer with a kernel of shape (inputs, channels)."""

    def _compute(self, x: Any) -> Any:
        return tf.matmul(x, self.kernel) + self.bias


def grouped_conv2d(x: Any, kernel: Any, stride: int, padding: str, groups: int) -> Any:
    """Grouped convolution as one op per group, since TensorFlow has no CPU gradient for the single op."""
    if groups == 1:
        return tf.nn.conv2d(x, kernel, stride, _upper(padding))
    parts = zip(tf.split(x, groups, -1), tf.split(kernel, groups, -1), strict=True)
    return tf.concat([tf.nn.conv2d(a, k, stride, _upper(padding)) for a, k in parts], -1)


def _upper(padding: str) -> Literal["SAME", "VALID"]:
    """Converts Keras's name of a padding to TensorFlow's."""
    return "SAME" if padding == "same" else "VALID"


# --- other operations --------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, eq=False)
class Pool(Node):
    """Pooling over a moving window.

    Attributes:
        window: Side of the square window in pixels.
        stride: Stride along height and width.
        padding: "same" or "valid".
    """

    window: int
    stride: int
    padding: str


class MaxPool(Pool):
    """Max pooling."""

    def _compute(self, x: Any) -> Any:
        return tf.nn.max_pool2d(x, self.window, self.stride, _upper(self.padding))


class AveragePool(Pool):
    """Average pooling."""

    def _compute(self, x: Any) -> Any:
        return tf.nn.avg_pool2d(x, self.window, self.stride, _upper(self.padding))


class GlobalPool(Node):
    """Pooling over all pixels."""


class GlobalAveragePool(GlobalPool):
    """Global average pooling."""

    def _compute(self, x: Any) -> Any:
        return tf.reduce_mean(x, axis=(1, 2))


class GlobalMaxPool(GlobalPool):
    """Global max pooling."""

    def _compute(self, x: Any) -> Any:
        return tf.reduce_max(x, axis=(1, 2))


@dataclasses.dataclass(frozen=True, eq=False)
class Pad(Node):
    """Rows and columns added around the image.

    Attributes:
        widths: Number of rows and columns: ((top, bottom), (left, right)).
        value: Value of the padding: one number, for padding that the converter can merge into the next convolution; or
            one per channel, shape (channels,), for a frame that is concatenated with the image.
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
    """A block of this shape with one value per channel; it is a constant unless the batch size is dynamic."""
    values = np.asarray(values, "float32")
    if shape[0] is None:
        return tf.broadcast_to(values, [tf.shape(x)[0], *shape[1:]])
    return np.broadcast_to(values, [side for side in shape if side is not None])


@dataclasses.dataclass(frozen=True, eq=False)
class Shuffle(Node):
    """Channel shuffle: the first channel of each group, then the second channel of each group, and so on.

    Attributes:
        groups: Number of groups of adjacent channels.
    """

    groups: int

    def _compute(self, x: Any) -> Any:
        height, width, channels = x.shape[1:]
        x = tf.reshape(x, (-1, height * width, self.groups, channels // self.groups))
        return tf.reshape(tf.transpose(x, (0, 1, 3, 2)), (-1, height, width, channels))

    @property
    def order(self) -> np.ndarray:
        """Index of the input channel for each output channel."""
        return np.arange(self.channels).reshape(self.groups, -1).T.ravel()


class Add(Node):
    """Sum of the inputs."""

    def _compute(self, *inputs: Any) -> Any:
        first, second, *more = inputs
        return tf.add_n(inputs) if more else first + second


class Concat(Node):
    """Concatenation of the inputs along the channels."""

    def _compute(self, *inputs: Any) -> Any:
        return tf.concat(inputs, axis=-1)


class Flatten(Node):
    """Flattens a feature map to a vector, row by row."""

    def _compute(self, x: Any) -> Any:
        return tf.reshape(x, (x.shape[0], -1))


class Softmax(Node):
    """Softmax over the channels."""

    def _compute(self, x: Any) -> Any:
        return tf.nn.softmax(x)


# --- graphs ------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Graph:
    """A network that maps one image to one vector.

    Attributes:
        nodes: Nodes by name in execution order; the first is the `Input`, the last is the output.
        input_shape: (height, width, channels) of the image.
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
        """The nodes that use a node's output."""
        return [node for node in self if name in node.inputs]

    def updated(self, changed: Mapping[str, Node]) -> "Graph":
        """Returns a copy with some nodes replaced by others of the same name."""
        return dataclasses.replace(self, nodes={name: changed.get(name, node) for name, node in self.nodes.items()})


NodeOutput = Callable[[Node, list], Any]  # (node, its inputs) -> its output


def walk(graph: Graph, images: Any, output: NodeOutput = Node.output) -> Iterator[tuple[Node, Any]]:
    """Runs the graph, and yields each node with its output after the ReLU.

    Outputs are freed when no later node needs them.

    Args:
        graph: Network to run.
        images: Images of shape (batch, height, width, channels).
        output: Function that computes the output of each node except the input.
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
    """Computes the graph's output for images of shape (batch, height, width, channels); see `walk` for `output`."""
    ((_, value),) = collections.deque(walk(graph, images, output), maxlen=1)
    return value


def logits(graph: Graph) -> Graph:
    """Returns the graph without its final softmax, if it has one."""
    if not isinstance(graph.output, Softmax):
        return graph
    return dataclasses.replace(graph, nodes=dict(list(graph.nodes.items())[:-1]))
