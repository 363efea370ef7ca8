"""Rounds the weights of a graph to integers and corrects the rounding errors, layer by layer.

The exact network and its integer twin run side by side on the calibration images. Each layer of the twin gets the
twin's rounded inputs, and is fitted to the output of the exact layer:

* `fit` moves the weights towards the least-squares solution, with a ridge;
* `round_weights` rounds the weights one by one, and the remaining ones compensate for each rounding (Frantar et al.,
  GPTQ, arXiv 2210.17323, with centered inputs, since the bias takes care of means);
* the bias is corrected so that the mean output equals the exact one (Nagel et al., arXiv 1906.04721, section 4.2).

The rounded weights are on the grid that the converter chooses, so it does not change them.
"""

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from fd_keras.tflite.int8.equalize import CAP, LEVELS
from fd_keras.tflite.int8.graph import (
    Concat,
    Conv,
    Dense,
    DepthwiseConv,
    Flatten,
    Graph,
    Input,
    MaxPool,
    Node,
    Pad,
    Shuffle,
    Softmax,
    WeightedNode,
    walk,
)

STEPS = 127  # int8 weights are integers from -127 to 127, times the scale of their output channel
STEPS4 = 7  # int4 weights are integers from -7 to 7
_ROWS = 100_000  # maximum number of positions of a layer's input to fit on
_PARTS = np.linspace(1, 0.5, 11)  # scales to try for int4, relative to the one that clips no weight
_SWEEPS = 10  # maximum number of passes of the coordinate descent
_DENSE_DAMPING = 0.3  # ridge for int4 dense layers: their X'X is poorly estimated, from one row per image
_LARGEST_FAN_IN = 1152  # beyond this, weights are rounded to nearest: the matrices of `round_weights` get too large


@dataclasses.dataclass(frozen=True)
class Correction:
    """Steps to take.

    Attributes:
        fit: Ridge of the least-squares fit, relative to the mean variance of the inputs; 0 skips the fit.
        compensate: Whether roundings compensate for each other; otherwise each weight is rounded to nearest.
        bias: Whether to correct the biases.
        four_bits: Names of the nodes with int4 weights.
    """

    fit: float = 0.3
    compensate: bool = True
    bias: bool = True
    four_bits: frozenset[str] = frozenset()


def correct(exact: Graph, graph: Graph, images: np.ndarray, how: Correction, *, alone: bool = False) -> Graph:
    """Rounds and corrects the weights of `graph`.

    Args:
        exact: The network before clipping and splitting, with the same scales and node names.
        graph: The network to quantize.
        images: Calibration images as the graphs take them.
        how: Steps to take.
        alone: Whether to treat each layer as the only quantized one, with exact inputs.

    Returns:
        `graph` with rounded weights and corrected biases.
    """
    exact_outputs = _before_relus(uncapped(exact), images)
    changed: dict[str, Node] = {}

    def corrected(node: Node, inputs: list) -> Any:
        wanted = next(exact_outputs)
        if isinstance(node, WeightedNode):
            node = changed[node.name] = _corrected(node, inputs[0], _as_split(node, wanted), how)
        return node.activate(wanted) if alone else on_grid(node, node.output(inputs))

    for _ in walk(graph, images, corrected):
        pass
    return graph.updated(changed)


def _before_relus(graph: Graph, images: np.ndarray) -> Iterator[Any]:
    """Yields the outputs of all nodes except the input, before their ReLUs."""
    before = None

    def output(node: Node, inputs: list) -> Any:
        nonlocal before
        before = node.compute(inputs)
        return node.activate(before)

    for node, _ in walk(graph, images, output):
        if not isinstance(node, Input):
            yield before


def uncapped(graph: Graph) -> Graph:
    """Returns the graph with the limits that the ReLUs had before clipping."""
    return graph.updated({node.name: node.replace(cap=node.limit) for node in graph})


def _as_split(node: WeightedNode, wanted: Any) -> Any:
    """Returns the exact output of a layer; split channels as their two parts, see `equalize.split_ranges`."""
    if not isinstance(node, DepthwiseConv) or node.split is None:
        return wanted
    parts = np.stack([node.split, CAP - node.split], axis=1) / CAP
    shifts = np.stack([np.zeros_like(node.split), node.split], axis=1)
    values = (wanted[..., None] - shifts.astype("float32")) / parts.astype("float32")
    return tf.reshape(values, (*wanted.shape[:-1], node.channels))


MOVING = (Input, Pad, MaxPool, Shuffle, Concat, Softmax, Flatten)  # nodes that do not round their output


def grid_ends(node: Node, values: Any) -> tuple[float, float]:
    """Returns the range that the converter's calibration will find for the output of a node."""
    if node.relu:
        return 0.0, float(node.cap or tf.reduce_max(values))
    return min(0.0, float(tf.reduce_min(values))), max(0.0, float(tf.reduce_max(values)))


def on_grid(node: Node, values: Any, ends: tuple[float, float] | None = None) -> Any:
    """Rounds the output of a node as the integer network does; the default ends of the grid are `grid_ends`."""
    if isinstance(node, MOVING):
        return values
    low, high = ends or grid_ends(node, values)
    step = np.float32((high - low) / LEVELS or 1.0)
    return tf.clip_by_value(tf.round(values / step), np.round(low / step), np.round(high / step)) * step


def _corrected(node: WeightedNode, x: Any, wanted: Any, how: Correction) -> WeightedNode:
    """Returns a layer that is fitted to its exact output, given its rounded input."""
    if node.fan_in <= _LARGEST_FAN_IN and (how.compensate or how.fit):
        kernel = _solved(node, _Rows(node, x, wanted), how)
    else:
        steps = STEPS4 if node.name in how.four_bits else STEPS
        kernel = nearest(node.matrix, steps).reshape(node.kernel.shape)
    node = node.replace(kernel=kernel.astype("float32"))
    if not how.bias:
        return node
    axes = tuple(range(len(wanted.shape) - 1))
    return node.replace(bias=node.bias + tf.reduce_mean(wanted - node.compute([x]), axes).numpy())


def _solved(node: WeightedNode, rows: "_Rows", how: Correction) -> np.ndarray:
    """Returns the kernel, fitted and rounded group by group."""
    kernel = node.kernel.astype("float64")
    for part in range(rows.groups):
        inputs, columns = rows.inputs(part), rows.columns(part)
        weights = rows.take(kernel, part)
        gram = inputs.T @ inputs
        # A dense layer has one row per image, which is too few for the fit.
        if how.fit and not isinstance(node, Dense):
            weights = fit(weights, gram, inputs.T @ (columns - inputs @ weights), how.fit)
        rows.put(kernel, part, _rounded(node, weights, gram, how))
    return kernel


def _rounded(node: WeightedNode, weights: np.ndarray, gram: np.ndarray, how: Correction) -> np.ndarray:
    four_bits = node.name in how.four_bits
    if not how.compensate:
        return nearest(weights, STEPS4 if four_bits else STEPS)
    if not four_bits:
        return round_weights(weights, gram)
    return round_to_four_bits(weights, gram + _ridge(gram, _DENSE_DAMPING) if isinstance(node, Dense) else gram)


class _Rows:
    """A layer as linear regressions, one per group or depthwise channel, with centered inputs and outputs."""

    def __init__(self, node: WeightedNode, x: Any, wanted: Any):
        self.node, self.groups = node, _groups(node)
        patches = _patches(node, x)
        outputs = tf.reshape(wanted, (-1, wanted.shape[-1]))
        step = max(1, patches.shape[0] // _ROWS)
        self._inputs = patches[::step].numpy()
        self._outputs = outputs[::step].numpy()

    def inputs(self, part: int) -> np.ndarray:
        """Inputs of a group, (rows, fan-in)."""
        size = self._inputs.shape[2] // self.groups
        block = self._inputs[:, :, part * size : (part + 1) * size]
        return _centered(block.reshape(len(block), -1))

    def columns(self, part: int) -> np.ndarray:
        """Outputs of a group, (rows, outputs)."""
        size = self._outputs.shape[1] // self.groups
        return _centered(self._outputs[:, part * size : (part + 1) * size])

    def take(self, kernel: np.ndarray, part: int) -> np.ndarray:
        """Weights of a group, (fan-in, outputs)."""
        return self._view(kernel, part).reshape(-1, self._view(kernel, part).shape[-1]).copy()

    def put(self, kernel: np.ndarray, part: int, weights: np.ndarray) -> None:
        """Writes the weights of a group into the kernel."""
        view = self._view(kernel, part)
        view[...] = weights.reshape(view.shape)

    def _view(self, kernel: np.ndarray, part: int) -> np.ndarray:
        if isinstance(self.node, DepthwiseConv):
            return kernel[:, :, part]
        size = kernel.shape[-1] // self.groups
        return kernel[..., part * size : (part + 1) * size]


def _centered(values: np.ndarray) -> np.ndarray:
    values = values.astype("float64")
    return values - values.mean(axis=0)


def _groups(node: WeightedNode) -> int:
    """Number of independent regressions of a layer."""
    if isinstance(node, DepthwiseConv):
        return node.kernel.shape[2]
    return node.groups if isinstance(node, Conv) else 1


def _patches(node: WeightedNode, x: Any) -> Any:
    """Input patches of all output positions, (rows, taps, channels)."""
    if not isinstance(node, Conv | DepthwiseConv):
        return x[:, None]
    side, channels = node.kernel.shape[0], x.shape[-1]
    if side == 1 and node.stride == 1:
        return tf.reshape(x, (-1, 1, channels))
    window, strides = (1, side, side, 1), (1, node.stride, node.stride, 1)
    patches = tf.image.extract_patches(x, window, strides, (1, 1, 1, 1), node.padding.upper())
    return tf.reshape(patches, (-1, side * side, channels))


def fit(weights: np.ndarray, gram: np.ndarray, residue: np.ndarray, ridge: float) -> np.ndarray:
    """Moves weights (fan-in, outputs) towards the least-squares solution.

    Args:
        weights: Weights W before the fit.
        gram: X'X of the centered inputs X.
        residue: X'(Y - X W) for the centered outputs Y.
        ridge: Ridge, relative to the mean variance of the inputs.
    """
    return weights + np.linalg.solve(gram + _ridge(gram, ridge), residue)


def _ridge(gram: np.ndarray, part: float) -> np.ndarray:
    return np.eye(len(gram)) * (part * np.mean(np.diag(gram)) or 1.0)


def nearest(weights: np.ndarray, steps: int = STEPS) -> np.ndarray:
    """Rounds weights (fan-in, outputs) to the nearest multiple of the scale of their output."""
    scale = scales(weights, steps)
    return np.round(weights / scale) * scale


def scales(weights: np.ndarray, steps: int = STEPS) -> np.ndarray:
    """Scale of each output, at which its largest weight is `steps`; the converter computes the same for 127."""
    largest = np.abs(weights).max(axis=0)
    return np.where(largest > 0, largest, 1.0) / steps


def round_to_four_bits(weights: np.ndarray, gram: np.ndarray) -> np.ndarray:
    """Rounds weights (fan-in, outputs) to 15 levels so that the outputs for inputs with this X'X have the least error.

    Each output gets the best of several scales, most of which clip its largest weights. `_descend` then improves the
    greedy solution of `round_weights`, which is far from optimal with so few levels.
    """
    best, least = np.zeros_like(weights), np.full(weights.shape[1], np.inf)
    for part in _PARTS:
        scale = part * scales(weights, STEPS4)
        rounded = round_weights(weights, gram, scale=scale, steps=STEPS4)
        rounded = _descend(rounded / scale, scale, weights, gram) * scale
        error = np.einsum("io,io->o", rounded - weights, gram @ (rounded - weights))
        better = error < least
        best[:, better], least[better] = rounded[:, better], error[better]
    return best


def _descend(levels: np.ndarray, scale: np.ndarray, weights: np.ndarray, gram: np.ndarray) -> np.ndarray:
    """Moves one weight after another to its best level, given the others, until none moves (coordinate descent).

    The largest weight of each output stays, since the converter derives the scale from it.
    """
    levels, largest = np.round(levels), np.abs(weights).argmax(axis=0)
    slopes = gram @ (levels * scale - weights)
    for _ in range(_SWEEPS):
        before = levels.copy()
        for row in np.flatnonzero(np.diag(gram) > 0):
            wanted = levels[row] - slopes[row] / (gram[row, row] * scale)
            moves = np.clip(np.round(wanted), -STEPS4, STEPS4) - levels[row]
            moves[largest == row] = 0
            levels[row] += moves
            slopes += np.outer(gram[:, row], moves * scale)
        if np.array_equal(levels, before):
            break
    return levels


def round_weights(
    weights: np.ndarray,
    gram: np.ndarray,
    damping: float = 0.01,
    *,
    scale: np.ndarray | None = None,
    steps: int = STEPS,
) -> np.ndarray:
    """Rounds weights (fan-in, outputs) so that the outputs for inputs with this X'X have a small error.

    The largest weight of each output is only clipped, since the converter derives the scale from it.
    """
    largest = np.abs(weights).argmax(axis=0)
    scale, held = (
        (scales(weights), weights) if scale is None else (scale, np.clip(weights, -steps * scale, steps * scale))
    )
    order = np.argsort(-np.diag(gram), kind="stable")  # most important inputs first, while others can compensate
    left = weights[order].copy()
    kept = order[:, None] == largest
    inverse = np.linalg.inv((gram + _ridge(gram, damping))[np.ix_(order, order)])
    factor = np.linalg.cholesky(inverse).T
    rounded = np.empty_like(left)
    for row in range(len(left)):
        whole = np.clip(np.round(left[row] / scale), -steps, steps)
        rounded[row] = np.where(kept[row], held[order[row]], whole * scale)
        error = (left[row] - rounded[row]) / factor[row, row]
        left[row + 1 :] -= np.outer(factor[row, row + 1 :], error)
    result = np.empty_like(rounded)
    result[order] = rounded
    return result
