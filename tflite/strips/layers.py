"""Which operations can run on a few rows of an image at a time: the rows that each needs, and how it is written."""

import abc
import copy
import dataclasses
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from fd_keras.tflite_file import kind_of

Rows = tuple[int, int]  # the first, and the one behind the last

_CONVOLUTIONS = ("CONV_2D", "DEPTHWISE_CONV_2D")
_POOLS = ("MAX_POOL_2D", "AVERAGE_POOL_2D")
_PADS = ("PAD", "PADV2")
_POINTWISE = ("QUANTIZE", "ADD", "SUB", "MUL", "RELU", "RELU6", "LOGISTIC", "HARD_SWISH", "LEAKY_RELU")
_ROW_AXIS = 1


class Writer(Protocol):
    """What layers are written to; `rewrite.Strip` is one."""

    def take(self, index: int, rows: Rows) -> int:
        """The tensor that holds some rows of a tensor of the file."""
        ...

    def padded(self, source: int, rows: Rows, columns: Rows, template: Any = None) -> int:
        """A tensor with rows above and below and columns at both sides."""
        ...

    def add(self, op: Any, inputs: Sequence[int], rows: Rows, options: Any = None) -> int:
        """Repeats an operation for some rows of its output; returns the tensor that holds them."""
        ...


class Layer(abc.ABC):
    """An operation of a graph that computes any rows of its output from some rows of its inputs."""

    def __init__(self, graph: Any, op: Any):
        self.graph, self.op = graph, op

    @property
    def output(self) -> int:
        """Index of the tensor that it writes."""
        return int(self.op.outputs[0])

    def shape(self, index: int) -> list[int]:
        """The shape of a tensor."""
        return [int(side) for side in self.graph.tensors[index].shape]

    @abc.abstractmethod
    def reads(self, rows: Rows) -> dict[int, Rows]:
        """The rows of each input that some rows of the output need."""

    @abc.abstractmethod
    def write(self, strip: Writer, rows: Rows) -> int:
        """Adds what computes these rows of the output to a strip; returns the tensor that holds them."""


def layer(model: Any, op: Any) -> Layer | None:
    """The operation as a layer; None if it cannot run on a few rows at a time."""
    kind, (graph,) = kind_of(model, op), model.subgraphs
    shapes = [graph.tensors[index].shape for index in (op.inputs[0], op.outputs[0])]
    if any(shape is None or len(shape) != 4 or shape[0] != 1 for shape in shapes):
        return None
    return _made(kind, graph, op, model.buffers)


def _made(kind: str, graph: Any, op: Any, buffers: Sequence[Any]) -> Layer | None:
    if kind in _CONVOLUTIONS:
        return Windowed(graph, op, graph.tensors[op.inputs[1]].shape[1:3])
    if kind in _POOLS:
        pool = Windowed(graph, op, (op.builtinOptions.filterHeight, op.builtinOptions.filterWidth))
        return None if pool.rows.before or pool.rows.after or any(pool.sides) else pool
    if kind in _PADS:
        return Padded.of(graph, op, buffers)
    if kind == "CONCATENATION" and op.builtinOptions.axis % 4 == _ROW_AXIS:
        return Stacked(graph, op)
    return Pointwise.of(graph, op) if kind in (*_POINTWISE, "CONCATENATION") else None


@dataclasses.dataclass(frozen=True)
class Axis:
    """How a window moves along an axis: its extent, its stride, and the padding at both ends."""

    extent: int
    stride: int
    before: int
    after: int

    @classmethod
    def of(cls, side: int, outputs: int, size: int, stride: int, dilation: int, same: bool) -> "Axis":
        """The axis of a window of `size` over `side` pixels, padded as TensorFlow pads."""
        extent = (size - 1) * dilation + 1
        total = max((outputs - 1) * stride + extent - side, 0) if same else 0
        return cls(extent, stride, total // 2, total - total // 2)

    def span(self, rows: Rows) -> Rows:
        """What the window covers while it makes these outputs, padding included: it may begin below 0."""
        first = rows[0] * self.stride - self.before
        return first, (rows[1] - 1) * self.stride - self.before + self.extent


class Windowed(Layer):
    """A convolution or a pool; in a strip its padding becomes an operation of its own."""

    def __init__(self, graph: Any, op: Any, size: Sequence[int]):
        super().__init__(graph, op)
        options, (inside, outside) = op.builtinOptions, (self.shape(i) for i in (op.inputs[0], op.outputs[0]))
        same = options.padding == schema.Padding.SAME
        steps = (options.strideH, options.strideW)
        dilations = (getattr(options, "dilationHFactor", 1), getattr(options, "dilationWFactor", 1))
        self.rows, columns = (
            Axis.of(inside[i + 1], outside[i + 1], int(size[i]), steps[i], dilations[i], same) for i in range(2)
        )
        self.sides, self.height = (columns.before, columns.after), inside[1]

    def reads(self, rows: Rows) -> dict[int, Rows]:
        """The rows under the window."""
        return {int(self.op.inputs[0]): _within(self.rows.span(rows), self.height)}

    def write(self, strip: Writer, rows: Rows) -> int:
        """Adds the padding that these rows need, and the operation without any."""
        span, kept = self.rows.span(rows), _within(self.rows.span(rows), self.height)
        pads = (kept[0] - span[0], span[1] - kept[1])
        source = strip.padded(strip.take(self.op.inputs[0], kept), pads, self.sides)
        options = copy.copy(self.op.builtinOptions)
        options.padding = schema.Padding.VALID
        return strip.add(self.op, [source, *self.op.inputs[1:]], rows, options)


class Padded(Layer):
    """A PAD or PADV2; only the strips at the ends get rows of padding."""

    def __init__(self, graph: Any, op: Any, rows: Rows, columns: Rows):
        super().__init__(graph, op)
        self.before, self.columns, self.height = rows[0], columns, self.shape(op.inputs[0])[1]

    @classmethod
    def of(cls, graph: Any, op: Any, buffers: Sequence[Any]) -> "Padded | None":
        """The layer of an operation; None unless its constant padding is of rows and columns."""
        paddings = graph.tensors[op.inputs[1]]
        data = buffers[paddings.buffer].data
        if data is None or paddings.type != schema.TensorType.INT32:
            return None
        batch, rows, columns, channels = np.frombuffer(bytes(data), "<i4").reshape(4, 2).tolist()
        return None if any(batch + channels) else cls(graph, op, tuple(rows), tuple(columns))

    def reads(self, rows: Rows) -> dict[int, Rows]:
        """The rows that are not padding."""
        return {int(self.op.inputs[0]): _within((rows[0] - self.before, rows[1] - self.before), self.height)}

    def write(self, strip: Writer, rows: Rows) -> int:
        """Adds the padding that these rows need."""
        span = (rows[0] - self.before, rows[1] - self.before)
        kept = _within(span, self.height)
        source = strip.take(self.op.inputs[0], kept)
        pads = (kept[0] - span[0], span[1] - kept[1])
        return strip.padded(source, pads, self.columns, template=self.op)


class Stacked(Layer):
    """A concatenation of rows, such as an image between the rows of its frame."""

    def _parts(self, rows: Rows) -> list[tuple[int, Rows]]:
        """Each input of which rows are needed, and which."""
        parts, start = [], 0
        for index in map(int, self.op.inputs):
            height = self.shape(index)[1]
            part = _within((rows[0] - start, rows[1] - start), height)
            parts += [(index, part)] if part[0] < part[1] else []
            start += height
        return parts

    def reads(self, rows: Rows) -> dict[int, Rows]:
        """The rows of the inputs that they come from."""
        return dict(self._parts(rows))

    def write(self, strip: Writer, rows: Rows) -> int:
        """Adds a concatenation if the rows come from several inputs."""
        taken = [strip.take(index, part) for index, part in self._parts(rows)]
        return taken[0] if len(taken) == 1 else strip.add(self.op, taken, rows)


class Pointwise(Layer):
    """An operation whose rows need the same rows of all its inputs, but for constants that it broadcasts."""

    @classmethod
    def of(cls, graph: Any, op: Any) -> "Pointwise | None":
        """The layer of an operation; None if an input neither has the output's rows nor is broadcast."""
        height = int(graph.tensors[op.outputs[0]].shape[1])
        shapes = [graph.tensors[index].shape for index in op.inputs]
        rows = [1 if shape is None or len(shape) < 4 else int(shape[1]) for shape in shapes]
        return cls(graph, op) if set(rows) <= {1, height} else None

    def _has_rows(self, index: int) -> bool:
        shape = self.graph.tensors[index].shape
        return shape is not None and len(shape) == 4 and shape[1] == self.shape(self.output)[1]

    def reads(self, rows: Rows) -> dict[int, Rows]:
        """The same rows, of each input that has them."""
        return {int(index): rows for index in self.op.inputs if self._has_rows(index)}

    def write(self, strip: Writer, rows: Rows) -> int:
        """Adds the operation."""
        taken = [strip.take(index, rows) if self._has_rows(index) else index for index in self.op.inputs]
        return strip.add(self.op, taken, rows)


def _within(rows: Rows, height: int) -> Rows:
    """The rows that exist."""
    return max(rows[0], 0), min(rows[1], height)
