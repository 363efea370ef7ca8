"""Rounds a graph's weights to integers and corrects what the rounding does, layer by layer.

The exact network and its integer twin run side by side over the calibration images. Each layer of the twin, given the
twin's own rounded inputs, is fitted to what the exact layer puts out:

* `fit`: the weights move to where least squares wants them, held back by a ridge;
* `round_weights`: they are rounded one by one, and what one rounding does is made up for by those still to come
  (Frantar et al., GPTQ, arXiv 2210.17323, with the layer's inputs centred, since the bias takes care of means);
* the bias is set so that the mean output is the exact one (Nagel et al., arXiv 1906.04721, section 4.2, empirically).

The weights come out on the very grid that the converter chooses, so it keeps them.
"""

import dataclasses

import numpy as np
import tensorflow as tf

from fd_keras.tflite.int8.equalize import LEVELS
from fd_keras.tflite.int8.graph import WEIGHTED, Graph, Live, Node, activate, apply, walk

STEPS = 127  # weights are integers from -127 to 127 times a scale of their output channel
_ROWS = 100_000  # positions of a layer's input that it is fitted on
_LARGEST_FAN_IN = 1152  # above it the matrices of `round_weights` get too large; weights are rounded to nearest


@dataclasses.dataclass(frozen=True)
class Correction:
    """Which steps to take.

    Attributes:
        fit: ridge of the least squares in parts of the inputs' mean variance; 0 leaves the weights as they are.
        compensate: whether roundings make up for each other, or each weight goes to the nearest integer.
        bias: whether to correct the means.
    """

    fit: float = 0.3
    compensate: bool = True
    bias: bool = True


def correct(exact: Graph, graph: Graph, images: np.ndarray, how: Correction, *, alone: bool = False) -> Graph:
    """Rounds and corrects the weights of `graph`.

    Args:
        exact: the network before anything was clipped or split, with the same scales and node names.
        graph: the one to be quantized.
        images: calibration images as the graphs take them.
        how: which steps to take.
        alone: whether each layer is to be the only one of integers, and so gets exact inputs.

    Returns:
        `graph` with rounded weights and corrected biases.
    """
    changed, live = {}, Live(graph)
    for node, (_, wanted, _) in zip(graph, walk(uncapped(exact), images), strict=True):
        if node.kind == "input":
            live.keep(node, tf.convert_to_tensor(images))
            continue
        inputs = live.inputs(node)
        if node.kind in WEIGHTED:
            node = _corrected(node, inputs[0], _as_split(node, wanted), how)
            changed[node.name] = node
        live.keep(node, activate(node, wanted) if alone else on_grid(node, activate(node, apply(node, inputs))))
    return graph.updated(changed)


def uncapped(graph: Graph) -> Graph:
    """The graph whose ReLUs end where the network's own do."""
    return graph.updated({node.name: node.replace(cap=node.limit) for node in graph})


def _as_split(node: Node, wanted):
    """The exact output of a layer, as the two parts of each channel where it was split."""
    if node.split is None:
        return wanted
    parts = np.stack([node.split, 6.0 - node.split], axis=1) / 6.0
    shifts = np.stack([np.zeros_like(node.split), node.split], axis=1)
    values = (wanted[..., None] - shifts.astype("float32")) / parts.astype("float32")
    return tf.reshape(values, (*wanted.shape[:-1], node.channels))


MOVING = ("input", "pad", "max_pool", "shuffle", "concat", "softmax", "flatten")  # they round nothing of their own


def grid_ends(node: Node, values) -> tuple[float, float]:
    """The range that the converter's calibration finds for a node's output."""
    if node.relu:
        return 0.0, node.cap or float(tf.reduce_max(values))
    return min(0.0, float(tf.reduce_min(values))), max(0.0, float(tf.reduce_max(values)))


def on_grid(node: Node, values, ends: tuple[float, float] | None = None):
    """A node's output rounded as the integer network rounds it, on the grid of these ends or that of `grid_ends`."""
    if node.kind in MOVING:
        return values
    low, high = ends or grid_ends(node, values)
    step = np.float32((high - low) / LEVELS or 1.0)
    return tf.clip_by_value(tf.round(values / step), np.round(low / step), np.round(high / step)) * step


def _corrected(node: Node, x, wanted, how: Correction) -> Node:
    """One layer, fitted to its exact output given its rounded input."""
    kernel = node.kernel.astype("float64")
    groups = _column_groups(node, x)
    if groups and (how.compensate or how.fit):
        rows = _Rows(node, x, wanted, groups)
        for part in range(groups):
            inputs, columns = rows.inputs(part), rows.columns(part)
            weights = rows.take(kernel, part)
            gram = inputs.T @ inputs
            # A dense layer sees one row an image, too few to move its weights by.
            if how.fit and node.kind != "dense":
                weights = fit(weights, gram, inputs.T @ (columns - inputs @ weights), how.fit)
            rows.put(kernel, part, round_weights(weights, gram) if how.compensate else nearest(weights))
    else:
        kernel = _nearest_kernel(node)
    node = node.replace(kernel=kernel.astype("float32"))
    if not how.bias:
        return node
    axes = tuple(range(len(wanted.shape) - 1))
    return node.replace(bias=node.bias + tf.reduce_mean(wanted - apply(node, [x]), axes).numpy())


def _nearest_kernel(node: Node) -> np.ndarray:
    if node.kind != "depthwise":
        return nearest(node.kernel.reshape(-1, node.channels)).reshape(node.kernel.shape)
    flat = node.kernel.reshape(-1, node.channels)  # (taps, channels): every channel is an output channel
    return nearest(flat).reshape(node.kernel.shape)


def _column_groups(node: Node, x) -> int:
    """Into how many independent problems a layer falls; 0 if they are too large to solve."""
    fan_in = int(np.prod(node.kernel.shape[:-1])) // (node.kernel.shape[2] if node.kind == "depthwise" else 1)
    if fan_in > _LARGEST_FAN_IN:
        return 0
    return node.kernel.shape[2] if node.kind == "depthwise" else node.groups


class _Rows:
    """A layer as linear regressions: rows of inputs, columns of outputs, both centred; one a group or channel."""

    def __init__(self, node: Node, x, wanted, groups: int):
        self.node, self.groups = node, groups
        patches = _patches(node, x)
        outputs = tf.reshape(wanted, (-1, wanted.shape[-1]))
        step = max(1, patches.shape[0] // _ROWS)
        self._inputs = patches[::step].numpy()
        self._outputs = outputs[::step].numpy()

    def inputs(self, part: int) -> np.ndarray:
        """(rows, fan-in) of one group."""
        size = self._inputs.shape[2] // self.groups
        block = self._inputs[:, :, part * size : (part + 1) * size]
        return _centred(block.reshape(len(block), -1))

    def columns(self, part: int) -> np.ndarray:
        """(rows, outputs) of one group."""
        size = self._outputs.shape[1] // self.groups
        return _centred(self._outputs[:, part * size : (part + 1) * size])

    def take(self, kernel: np.ndarray, part: int) -> np.ndarray:
        """(fan-in, outputs) of one group."""
        return self._view(kernel, part).reshape(-1, self._view(kernel, part).shape[-1]).copy()

    def put(self, kernel: np.ndarray, part: int, weights: np.ndarray) -> None:
        """Writes one group's weights back."""
        view = self._view(kernel, part)
        view[...] = weights.reshape(view.shape)

    def _view(self, kernel: np.ndarray, part: int) -> np.ndarray:
        if self.node.kind == "depthwise":
            return kernel[:, :, part]
        size = kernel.shape[-1] // self.groups
        return kernel[..., part * size : (part + 1) * size]


def _centred(values: np.ndarray) -> np.ndarray:
    values = values.astype("float64")
    return values - values.mean(axis=0)


def _patches(node: Node, x):
    """What each output position sees: (rows, taps, channels)."""
    if node.kind == "dense":
        return x[:, None]
    side, channels = node.kernel.shape[0], x.shape[-1]
    if side == 1 and node.stride == 1:
        return tf.reshape(x, (-1, 1, channels))
    window, strides = (1, side, side, 1), (1, node.stride, node.stride, 1)
    patches = tf.image.extract_patches(x, window, strides, (1, 1, 1, 1), node.padding.upper())
    return tf.reshape(patches, (-1, side * side, channels))


def fit(weights: np.ndarray, gram: np.ndarray, residue: np.ndarray, ridge: float) -> np.ndarray:
    """Moves weights (fan-in, outputs) towards the least squares solution.

    Args:
        weights: where they are.
        gram: X'X of the centred inputs X.
        residue: X'(Y - X W).
        ridge: what holds the weights back, in parts of the inputs' mean variance.
    """
    return weights + np.linalg.solve(gram + _ridge(gram, ridge), residue)


def _ridge(gram: np.ndarray, part: float) -> np.ndarray:
    return np.eye(len(gram)) * (part * np.mean(np.diag(gram)) or 1.0)


def nearest(weights: np.ndarray) -> np.ndarray:
    """Weights (fan-in, outputs) rounded to the nearest integer times their output's scale."""
    scale = scales(weights)
    return np.round(weights / scale) * scale


def scales(weights: np.ndarray) -> np.ndarray:
    """The scale of each output, by which its largest weight is 127, as the converter has it."""
    largest = np.abs(weights).max(axis=0)
    return np.where(largest > 0, largest, 1.0) / STEPS


def round_weights(weights: np.ndarray, gram: np.ndarray, damping: float = 0.01) -> np.ndarray:
    """Rounds weights (fan-in, outputs) so that the outputs for inputs with this X'X err least.

    The largest weight of each output stays, since the converter takes the scale from it.
    """
    scale, largest = scales(weights), np.abs(weights).argmax(axis=0)
    order = np.argsort(-np.diag(gram), kind="stable")  # inputs that matter most first, while others can make up
    left = weights[order].copy()
    kept = order[:, None] == largest
    inverse = np.linalg.inv((gram + _ridge(gram, damping))[np.ix_(order, order)])
    factor = np.linalg.cholesky(inverse).T
    rounded = np.empty_like(left)
    for row in range(len(left)):
        steps = np.clip(np.round(left[row] / scale), -STEPS, STEPS)
        rounded[row] = np.where(kept[row], weights[order[row]], steps * scale)
        error = (left[row] - rounded[row]) / factor[row, row]
        left[row + 1 :] -= np.outer(factor[row, row + 1 :], error)
    result = np.empty_like(rounded)
    result[order] = rounded
    return result
