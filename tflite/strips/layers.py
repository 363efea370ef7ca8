"""Operations that can run on a few rows at a time: the input rows that each needs, and how a strip repeats it."""

import abc
import copy
import dataclasses
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from fd_keras.tflite_file import kind_of

Rows = tuple[int, int]  # first row, and the row after the last

_CONVOLUTIONS = ("CONV_2D", "DEPTHWISE_CONV_2D")
_POOLS = ("MAX_POOL_2D", "AVERAGE_POOL_2D")
_PADS = ("PAD", "PADV2")
_POINTWISE = ("QUANTIZE", "ADD", "SUB", "MUL", "RELU", "RELU6", "LOGISTIC", "HARD_SWISH", "LEAKY_RELU")
_ROW_AXIS = 1


class Writer(Protocol):
    """The interface that layers write to, implemented by `rewrite.Strip`."""

    def take(self, index: int, rows: Rows) -> int:
        """Returns the tensor that contains these rows of a tensor of the file."""
        ...

    def padded(self, source: int, rows: Rows, columns: Rows, template: Any = None) -> int:
        """Pads a tensor with rows (above, below) and columns (left, right); returns the new tensor."""
        ...

    def add(self, op: Any, inputs: Sequence[int], rows: Rows, options: Any = None) -> int:
        """Repeats an operation for some rows of its output; returns the tensor that contains them."""
        ...


class Layer(abc.ABC):
    """An operation that can compute a range of output rows from ranges of input rows."""

    def __init__(self, graph: Any, op: Any):
        self.graph, self.op = graph, op

    @property
    def output(self) -> int:
        """Index of the output tensor."""
        return int(self.op.outputs[0])

    def shape(self, index: int) -> list[int]:
        """The shape of a tensor."""
        return [int(side) for side in self.graph.tensors[index].shape]

    @abc.abstractmethod
    def reads(self, rows: Rows) -> dict[int, Rows]:
        """The rows of each input that these output rows need, by tensor index."""

    @abc.abstractmethod
    def write(self, strip: Writer, rows: Rows) -> int:
        """Adds the operations for these output rows to a strip; returns the tensor that contains the rows."""


def layer(model: Any, op: Any) -> Layer | None:
    """Wraps an operation as a layer; returns None if it cannot run on a few rows at a time."""
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
    """Movement of a window along an axis, in pixels: extent of the window, stride, padding before and after."""

    extent: int
    stride: int
    before: int
    after: int

    @classmethod
    def of(cls, side: int, outputs: int, size: int, stride: int, dilation: int, same: bool) -> "Axis":
        """Computes the axis for a window of `size` over `side` pixels, with TensorFlow's padding."""
        extent = (size - 1) * dilation + 1
        total = max((outputs - 1) * stride + extent - side, 0) if same else 0
        return cls(extent, stride, total // 2, total - total // 2)

    def span(self, rows: Rows) -> Rows:
        """The input rows that the window covers for these outputs; with padding, the first may be negative."""
        first = rows[0] * self.stride - self.before
        return first, (rows[1] - 1) * self.stride - self.before + self.extent


class Windowed(Layer):
    """A convolution or pooling; in a strip, its padding becomes a separate operation."""

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
        """Adds the padding that these rows need, and the operation without padding."""
        span, kept = self.rows.span(rows), _within(self.rows.span(rows), self.height)
        pads = (kept[0] - span[0], span[1] - kept[1])
        source = strip.padded(strip.take(self.op.inputs[0], kept), pads, self.sides)
        options = copy.copy(self.op.builtinOptions)
        options.padding = schema.Padding.VALID
        return strip.add(self.op, [source, *self.op.inputs[1:]], rows, options)


class Padded(Layer):
    """A PAD or PADV2; only the first and the last strip get rows of padding."""

    def __init__(self, graph: Any, op: Any, rows: Rows, columns: Rows):
        super().__init__(graph, op)
        self.before, self.columns, self.height = rows[0], columns, self.shape(op.inputs[0])[1]

    @classmethod
    def of(cls, graph: Any, op: Any, buffers: Sequence[Any]) -> "Padded | None":
        """Wraps a padding; returns None unless it is constant and pads only rows and columns."""
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
    """A concatenation along the rows, such as that of an image and the rows of its frame."""

    def _parts(self, rows: Rows) -> list[tuple[int, Rows]]:
        """The inputs that contribute to these output rows, each with its rows."""
        parts, start = [], 0
        for index in map(int, self.op.inputs):
            height = self.shape(index)[1]
            part = _within((rows[0] - start, rows[1] - start), height)
            parts += [(index, part)] if part[0] < part[1] else []
            start += height
        return parts

    def reads(self, rows: Rows) -> dict[int, Rows]:
        """The input rows that these output rows are copied from."""
        return dict(self._parts(rows))

    def write(self, strip: Writer, rows: Rows) -> int:
        """Adds a concatenation if several inputs contribute to the rows."""
        taken = [strip.take(index, part) for index, part in self._parts(rows)]
        return taken[0] if len(taken) == 1 else strip.add(self.op, taken, rows)


class Pointwise(Layer):
    """An operation whose output rows need the same rows of all inputs, except constants that are broadcast."""

    @classmethod
    def of(cls, graph: Any, op: Any) -> "Pointwise | None":
        """Wraps an operation; returns None if an input has neither the output's rows nor is broadcast."""
        height = int(graph.tensors[op.outputs[0]].shape[1])
        shapes = [graph.tensors[index].shape for index in op.inputs]
        rows = [1 if shape is None or len(shape) < 4 else int(shape[1]) for shape in shapes]
        return cls(graph, op) if set(rows) <= {1, height} else None

    def _has_rows(self, index: int) -> bool:
        shape = self.graph.tensors[index].shape
        return shape is not None and len(shape) == 4 and shape[1] == self.shape(self.output)[1]

    def reads(self, rows: Rows) -> dict[int, Rows]:
        """The same rows of each input that is not broadcast."""
        return {int(index): rows for index in self.op.inputs if self._has_rows(index)}

    def write(self, strip: Writer, rows: Rows) -> int:
        """Adds the operation."""
        taken = [strip.take(index, rows) if self._has_rows(index) else index for index in self.op.inputs]
        return strip.add(self.op, taken, rows)


def _within(rows: Rows, height: int) -> Rows:
    """Clips a range of rows to those of an image of this height."""
    return max(rows[0], 0), min(rows[1], height)
