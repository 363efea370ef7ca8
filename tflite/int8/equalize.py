"""Makes a folded graph easier to quantize without changing its outputs, except by clipping rare large activations.

The steps:

* `fold_input` moves mean and std into the first convolution, so that the network takes raw pixels;
* `equalize` scales channels so that all channels of a tensor use its 256 levels, and clips each where the squared
  quantization error is smallest; since ReLU(s x) = s ReLU(x), the next convolution can absorb a scale (Meller et al.,
  arXiv 1902.01917, and Nagel et al., arXiv 1906.04721, choose scales by weights; here activations decide);
* `split_ranges` gives a depthwise convolution two outputs per channel, for the lower and upper part of its range.
"""

import dataclasses
import itertools
from collections.abc import Collection, Iterator

import numpy as np

from fd_keras.tflite.int8.graph import (
    RELU6,
    Add,
    Affine,
    Concat,
    Conv,
    Dense,
    DepthwiseConv,
    Flatten,
    GlobalPool,
    Graph,
    LinearNode,
    Node,
    Pad,
    Pool,
    Shuffle,
    walk,
)

CAP = RELU6  # upper end of all clipped activations; the converter finds the range of a ReLU6 exactly
LEVELS = 255
_FLOOR = 1e-3  # minimum scale of a channel relative to the largest one, for dead channels
_SAMPLES = 60_000  # maximum number of activations per channel to choose its clip on
FIXED = 0  # class of the channels that cannot be scaled: pixels, inputs of a softmax, outputs of the network


# --- raw pixels --------------------------------------------------------------------------------------------


def fold_input(graph: Graph, *, whole: bool = False) -> Graph:
    """Folds the normalization of the image into the first convolution.

    If zeros are padded after the normalization, the mean color is padded before it instead.

    Args:
        graph: Folded graph.
        whole: Whether to round this color to whole levels, as in a file with integer input.

    Returns:
        The graph without the normalization; the same graph if no convolution follows a normalization.
    """
    opening = _opening(graph)
    if opening is None:
        return graph
    affine, pad, conv = opening
    if conv.padding == "same" and conv.kernel.shape[:2] != (1, 1):
        if pad:
            return graph
        pad, conv = _apart(conv, graph.input_shape)
    kernel = conv.kernel * affine.kernel[:, None]
    bias = conv.bias + np.einsum("hwio,i->o", conv.kernel, affine.bias)
    conv = conv.replace(kernel=kernel, bias=bias, inputs=(pad.name,) if pad else affine.inputs)
    first = [graph.nodes[affine.inputs[0]]]
    if pad:
        color = -affine.bias / affine.kernel  # which is normalized to 0
        first.append(pad.replace(inputs=affine.inputs, value=np.round(color) if whole else color))
    replaced = {node.name for node in (*first, affine, conv)}
    nodes = [*first, conv, *(node for node in graph if node.name not in replaced)]
    return dataclasses.replace(graph, nodes={node.name: node for node in nodes})


def _opening(graph: Graph) -> tuple[Affine, Pad | None, Conv] | None:
    """The normalization, optional pad and convolution at the start of a graph; None if it starts differently."""
    match list(graph)[1:4]:
        case [Affine(relu=False) as affine, Pad() as pad, Conv(groups=1) as conv]:
            chain = [affine, pad, conv]
        case [Affine(relu=False) as affine, Conv(groups=1) as conv, *_]:
            pad, chain = None, [affine, conv]
        case _:
            return None
    alone = all(graph.consumers(node.name) == [after] for node, after in itertools.pairwise(chain))
    return (affine, pad, conv) if alone else None


def _apart(conv: Conv, image: tuple[int, int, int]) -> tuple[Pad, Conv]:
    """Splits a padded convolution into a pad and an unpadded convolution."""
    height, width = (
        _same_padding(side, window, conv.stride) for side, window in zip(image[:2], conv.kernel.shape[:2], strict=True)
    )
    pad = Pad(f"{conv.name}/pad", conv.inputs, image[2], (height, width))
    return pad, conv.replace(padding="valid", inputs=(pad.name,))


def _same_padding(side: int, window: int, stride: int) -> tuple[int, int]:
    """Numbers of rows that TensorFlow's padding "same" adds before and after; if odd, one more after."""
    rows = max(0, (-(-side // stride) - 1) * stride + window - side)
    return rows // 2, rows - rows // 2


# --- channels that must have the same scale ----------------------------------------------------------------


class ChannelClasses:
    """Classes of channels that share a scale, since pooling, padding, shuffling or adding connects them.

    Attributes:
        of: Class of each output channel, by node.
        mixed: Classes that a convolution or dense layer sums over; unequal scales make their weights unequal.
    """

    def __init__(self, graph: Graph):
        self._parent = [FIXED]
        self.of: dict[str, np.ndarray] = {}
        for node in graph:
            self.of[node.name] = self._classes(node)
        self._join(self.of[graph.output.name], FIXED)
        self.of = {name: np.array([self._root(c) for c in classes]) for name, classes in self.of.items()}
        mixers = [node for node in graph if isinstance(node, Conv | Dense)]
        self.mixed = {c for node in mixers for c in self.of[node.inputs[0]]}

    def fix(self, members: np.ndarray) -> None:
        """Marks classes as not scalable."""
        self.of = {name: np.where(np.isin(classes, members), FIXED, classes) for name, classes in self.of.items()}

    def _classes(self, node: Node) -> np.ndarray:
        sources = [self.of[name] for name in node.inputs]
        match node:
            case Pad() | Pool() | GlobalPool():
                return sources[0]
            case Shuffle():
                return sources[0][node.order]
            case Concat():
                return np.concatenate(sources)
            case Flatten():
                return np.tile(sources[0], node.channels // len(sources[0]))
            case Add():
                for other in sources[1:]:
                    self._join(sources[0], other)
                return sources[0]
            case LinearNode():
                start = len(self._parent)
                self._parent += range(start, start + node.channels)
                return np.arange(start, start + node.channels)
        for source in sources:  # inputs of a softmax, which does not commute with scaling
            self._join(source, FIXED)
        return np.full(node.channels, FIXED)

    def _root(self, c: int) -> int:
        while self._parent[c] != c:
            c = self._parent[c]
        return c

    def _join(self, ones: np.ndarray, others: np.ndarray | int) -> None:
        for one, other in np.broadcast(ones, others):
            low, high = sorted((self._root(one), self._root(other)))
            self._parent[high] = low


# --- scales and clips --------------------------------------------------------------------------------------


def equalize(
    graph: Graph,
    images: np.ndarray,
    *,
    power: float | None = 0.75,
    clip: bool = True,
    coarse: Collection[str] = (),
) -> Graph:
    """Scales the channels and clips the activations.

    Args:
        graph: Folded graph.
        images: Calibration images as the graph takes them, (batch, height, width, channels).
        power: How far to equalize channels that a convolution sums over, from 0 to 1 (fully). Equalized channels use
            all levels, but their weights become unequal. Inputs of depthwise convolutions are always equalized fully,
            since these have a scale per channel. None: equalize no channels.
        clip: Whether to clip where the squared error is smallest; otherwise at the largest activation.
        coarse: Names of layers with int4 weights. Channels that they sum over are not equalized, since unequal
            weights cost more there than unequal activations.

    Returns:
        A graph with the same outputs, in which ReLUs end at 6.
    """
    classes = ChannelClasses(graph)
    tops = _tops(graph, classes, images, clip)
    _fix_below_caps(graph, classes, tops)
    powers = np.full(len(tops), 0.0 if power is None else 1.0)
    if power is not None:
        powers[list(classes.mixed)] = power
        for name in coarse:
            powers[classes.of[graph.nodes[name].inputs[0]]] = 0.0
    scales = _scales(graph, classes, tops, powers)
    return graph.updated({node.name: _scaled(node, classes, scales) for node in graph})


def _tops(graph: Graph, classes: ChannelClasses, images: np.ndarray, clip: bool) -> np.ndarray:
    """Upper end of the activations of each class."""
    tops = np.zeros(1 + max(c.max() for c in classes.of.values()))
    for node, values in walk(graph, images):
        if not isinstance(node, LinearNode | Add):
            continue
        columns = _sampled(values.numpy())
        for c, column in zip(classes.of[node.name], columns.T, strict=True):
            top = best_clip(column) if clip and node.relu else np.abs(column).max(initial=0.0)
            if node.relu or not _decided_later(graph, node):
                tops[c] = max(tops[c], top)
    return tops


def _decided_later(graph: Graph, node: Node) -> bool:
    """Whether only sums with a ReLU use the node; their clipped output decides the scale."""
    return all(isinstance(consumer, Add) and consumer.relu for consumer in graph.consumers(node.name))


def _sampled(values: np.ndarray) -> np.ndarray:
    """At most `_SAMPLES` evenly spaced rows of the values, (rows, channels)."""
    rows = values.reshape(-1, values.shape[-1])
    return rows[:: max(1, len(rows) // _SAMPLES)]


def best_clip(values: np.ndarray, levels: int = LEVELS) -> float:
    """Returns the upper end of the grid, starting at 0, with the smallest squared error of rounding and clipping.

    Zeros are on every grid, so they are ignored.
    """
    positive = values[values > 0]
    if not positive.size:
        return 0.0
    counts, edges = np.histogram(positive, bins=1024, range=(0, positive.max()))
    centers = (edges[1:] + edges[:-1]) / 2
    ends = edges[-1] * np.linspace(0.05, 1, 96)
    clipped = np.maximum(centers[None] - ends[:, None], 0) ** 2
    rounded = np.where(centers[None] <= ends[:, None], (ends[:, None] / levels) ** 2 / 12, 0)
    return float(ends[np.argmin((clipped + rounded) @ counts)])


def _fix_below_caps(graph: Graph, classes: ChannelClasses, tops: np.ndarray) -> None:
    """Marks families as not scalable if a ReLU6 of the network shares a tensor with larger activations.

    In other families, a channel of scale s ends at s * CAP, which is at most the largest end, so ReLU6s are kept.
    """
    caps = np.full(len(tops), np.inf)
    for node in graph:
        if node.cap is not None:
            caps[classes.of[node.name]] = np.minimum(caps[classes.of[node.name]], node.cap)
    for members in _families(graph, classes):
        if tops[members].max() > caps[members].min():
            classes.fix(members)


def _scales(graph: Graph, classes: ChannelClasses, tops: np.ndarray, powers: np.ndarray) -> np.ndarray:
    """Divisor of each class; `powers` is how far to equalize it with the largest class of its family."""
    scales = np.ones_like(tops)
    for members in _families(graph, classes):
        largest = tops[members].max()
        if not largest:
            continue
        share = np.maximum(tops[members] / largest, _FLOOR)
        scales[members] = largest * share ** powers[members] / CAP
    scales[FIXED] = 1.0
    return scales


def _families(graph: Graph, classes: ChannelClasses) -> Iterator[np.ndarray]:
    """Sets of classes that share tensors, and thus a largest channel."""
    families: list[set[int]] = []
    for node in graph:
        family = set(classes.of[node.name].tolist()) - {FIXED}
        joined = [other for other in families if other & family]
        families = [other for other in families if not other & family] + [family.union(*joined)]
    return (np.array(sorted(family)) for family in families if family)


def _scaled(node: Node, classes: ChannelClasses, scales: np.ndarray) -> Node:
    """Returns the node for inputs and outputs that are divided by their scales."""
    out = scales[classes.of[node.name]]
    limit = None if node.cap is None else (node.cap / out).astype("float32")
    free = node.relu and FIXED not in classes.of[node.name]
    node = node.replace(cap=CAP if free else node.cap, limit=limit)
    if not isinstance(node, LinearNode):
        return node
    into = scales[classes.of[node.inputs[0]]]
    kernel = node.kernel * node.per_input(into) / node.per_output(out)
    return node.replace(kernel=kernel.astype("float32"), bias=(node.bias / out).astype("float32"))


# --- two ranges per channel --------------------------------------------------------------------------------


def split_ranges(graph: Graph, images: np.ndarray, *, count: int) -> Graph:
    """Gives the first `count` depthwise convolutions two outputs per channel: clip(x, 0, t) and clip(x - t, 0, 6 - t).

    The next pointwise convolution adds both, with duplicated weights. Each part has all 256 levels, so early layers
    with few channels gain a bit or more; the error of activations starts there. t minimizes the squared error. This
    doubles the cost of the depthwise and the pointwise convolution.

    Args:
        graph: Equalized graph.
        images: Calibration images as the graph takes them.
        count: Number of convolutions, from the image on; those not followed by a single ungrouped pointwise convolution
            are not changed.
    """
    first = [node for node in graph if isinstance(node, DepthwiseConv)][:count]
    pairs = {node.name: (node, after) for node in first if (after := _pointwise_after(graph, node))}
    waiting, changed = set(pairs), {}
    for node, values in walk(graph, images) if waiting else ():
        if node.name in waiting:
            cut = np.array([best_cut(column) for column in _sampled(values.numpy()).T], "float32")
            changed |= {new.name: new for new in _split(*pairs[node.name], cut)}
            waiting.remove(node.name)
        if not waiting:
            break
    return graph.updated(changed)


def _pointwise_after(graph: Graph, node: DepthwiseConv) -> Conv | None:
    """The pointwise convolution after a depthwise one that can be split; None if it cannot."""
    capped = node.relu and isinstance(node.cap, float) and node.cap == CAP
    match graph.consumers(node.name):
        case [Conv(groups=1) as after] if capped and node.kernel.shape[3] == 1 and after.kernel.shape[0] == 1:
            return after
    return None


def best_cut(values: np.ndarray) -> float:
    """Returns where to cut [0, 6] for the smallest squared error of rounding each part to 256 levels."""
    counts, edges = np.histogram(values[values > 0], bins=1024, range=(0, CAP))
    centers = (edges[1:] + edges[:-1]) / 2
    cuts = CAP * np.linspace(0.1, 0.9, 65)
    lower = centers[None] <= cuts[:, None]
    errors = np.where(lower, cuts[:, None] ** 2, (CAP - cuts[:, None]) ** 2) @ counts
    return float(cuts[np.argmin(errors)])


def _split(node: DepthwiseConv, after: Conv, cut: np.ndarray) -> tuple[DepthwiseConv, Conv]:
    parts = np.stack([cut, CAP - cut], axis=1) / CAP  # (channels, 2): share of the range in each part
    kernel = node.kernel / parts  # (h, w, channels, 1) / (channels, 2)
    bias = np.stack([node.bias, node.bias - cut], axis=1) / parts
    doubled = np.repeat(after.kernel, 2, axis=2) * parts.reshape(-1, 1)
    split = node.replace(
        kernel=kernel.astype("float32"), bias=bias.ravel().astype("float32"), channels=2 * node.channels, split=cut
    )
    return split, after.replace(kernel=doubled.astype("float32"))
