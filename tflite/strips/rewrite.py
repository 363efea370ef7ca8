"""Rewrites a network so that its first layers run in strips: slices, the layers on each slice, a concatenation."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from fd_keras.tflite.format.draft import Draft
from fd_keras.tflite.strips.layers import Layer, Padded, Rows, Stacked, layer
from fd_keras.tflite_file import kind_of

MOST_STRIPS = 10  # maximum number of inputs of TFLM's concatenation (kMaxInputNum in its concatenation.cc)


@dataclasses.dataclass(frozen=True)
class Region:
    """Layers that can run in strips.

    Attributes:
        source: Index of the tensor that is cut into strips.
        first: Number of the first operation.
        layers: Layers in execution order; the output of the last one is concatenated from the strips.
    """

    source: int
    first: int
    layers: tuple[Layer, ...]

    @property
    def target(self) -> int:
        """Index of the tensor that is concatenated from the strips."""
        return self.layers[-1].output

    @property
    def height(self) -> int:
        """Number of rows of the target."""
        return self.layers[-1].shape(self.target)[1]

    def needed(self, rows: Rows) -> dict[int, Rows]:
        """The rows of each tensor that these rows of the target need, by tensor index."""
        needed = {self.target: rows}
        for part in reversed(self.layers):
            if part.output in needed:
                for index, span in part.reads(needed[part.output]).items():
                    other = needed.get(index, span)
                    needed[index] = min(span[0], other[0]), max(span[1], other[1])
        return needed


def regions(model: Any) -> list[Region]:
    """All groups of first layers that can run in strips, the shortest first."""
    (graph,) = model.subgraphs
    if len(graph.inputs) != 1:
        return []
    source, first, found = int(graph.inputs[0]), 0, []
    if kind_of(model, graph.operators[0]) == "QUANTIZE":  # TFLM slices int8, not uint8: quantize it all first
        source, first = int(graph.operators[0].outputs[0]), 1
    parts: list[Layer] = []
    for number in range(first, len(graph.operators)):
        part = layer(model, graph.operators[number])
        if part is None:
            break
        parts.append(part)
        region = Region(source, first, tuple(parts))
        if not isinstance(part, Padded | Stacked) and _alone(graph, source, parts, number + 1) and _divisible(region):
            found.append(region)
    return found


def _divisible(region: Region) -> bool:
    """Whether each target row depends on the source, and no layer needs only padding for it."""
    needed = [region.needed((row, row + 1)) for row in range(region.height)]
    return all(region.source in spans and all(first < end for first, end in spans.values()) for spans in needed)


def _alone(graph: Any, source: int, parts: Sequence[Layer], end: int) -> bool:
    """Whether later operations read only the last output of these layers."""
    later = {int(index) for op in graph.operators[end:] for index in op.inputs} | {*map(int, graph.outputs)}
    return later & {source, *(part.output for part in parts)} == {parts[-1].output}


class Strip:
    """Adds the operations that compute some rows of a region to a draft."""

    def __init__(self, draft: Draft, region: Region, rows: Rows):
        self._draft, needed = draft, region.needed(rows)
        height = draft.shape(region.source)[1]
        self._held: dict[int, tuple[int, Rows]] = {region.source: (region.source, (0, height))}
        for part in region.layers:
            if part.output in needed:
                span = needed[part.output]
                self._held[part.output] = part.write(self, span), span
        self.result = self._held[region.target][0]

    def take(self, index: int, rows: Rows) -> int:
        """Returns the tensor that contains these rows of a tensor of the region or of a constant."""
        values = self._draft.values(index)
        if values is not None:
            return self._draft.constant(index, values[:, rows[0] : rows[1]])
        held, span = self._held[index]
        return held if rows == span else self._sliced(held, (rows[0] - span[0], rows[1] - span[0]))

    def _sliced(self, source: int, rows: Rows) -> int:
        shape = self._draft.shape(source)
        shape[1] = rows[1] - rows[0]
        begin, size = self._draft.numbers([0, rows[0], 0, 0]), self._draft.numbers(shape)
        output = self._draft.tensor(source, shape)
        self._draft.add("SLICE", [source, begin, size], output)
        return output

    def padded(self, source: int, rows: Rows, columns: Rows, template: Any = None) -> int:
        """Pads a tensor with its zero point; returns the new tensor.

        Args:
            source: Index of the tensor.
            rows: Number of rows above and below.
            columns: Number of columns on the left and right.
            template: Padding operation of the file to repeat, with its own value; None to add a new one.
        """
        if not any(rows + columns):
            return source
        pads, shape = np.array([(0, 0), rows, columns, (0, 0)]), self._draft.shape(source)
        output = self._draft.tensor(source, (shape + pads.sum(axis=1)).tolist())
        inputs = [source, self._draft.numbers(pads.tolist())]
        if template is None:
            self._draft.add("PAD", inputs, output)
        else:
            self._draft.repeat(template, [*inputs, *template.inputs[2:]], output, template.builtinOptions)
        return output

    def add(self, op: Any, inputs: Sequence[int], rows: Rows, options: Any = None) -> int:
        """Repeats an operation of the region for some rows of its output; returns the tensor that contains them."""
        shape = self._draft.shape(op.outputs[0])
        shape[1] = rows[1] - rows[0]
        output = self._draft.tensor(op.outputs[0], shape)
        self._draft.repeat(op, inputs, output, options or op.builtinOptions)
        return output


def in_strips(model: Any, region: Region, cuts: Sequence[int]) -> Any:
    """Rewrites a region to strips; the lowest strip runs first, which frees the image from its end (`placement`).

    Args:
        model: The network, a `schema.ModelT`; it is not changed.
        region: Layers to run in strips.
        cuts: Target rows where strips begin and end, ascending, from 0 to the region's height.

    Returns:
        The new network, a `schema.ModelT`.
    """
    (graph,) = model.subgraphs
    draft = Draft(model)
    draft.operators += graph.operators[: region.first]
    bounds = list(zip(cuts, cuts[1:], strict=False))
    made = [Strip(draft, region, rows).result for rows in reversed(bounds)]
    draft.add("CONCATENATION", made[::-1], region.target, axis=1)
    draft.operators += graph.operators[region.first + len(region.layers) :]
    return draft.finished()
