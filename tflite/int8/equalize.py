"""Makes a folded graph easy to quantize without changing what it computes.

Every step keeps the function of the network (up to the clipping of rare large activations):

* `fold_input` moves mean and std into the first convolution, so that the network takes raw pixels;
* `equalize` scales channels, so that all of a tensor's channels use its 256 levels, and clips each where the squared
  error of quantization is least; ReLU(s x) = s ReLU(x), so a scale moves through the network until a convolution
  takes it up (Meller et al., arXiv 1902.01917, and Nagel et al., arXiv 1906.04721, scale by weights; here the
  activations decide);
* `split_ranges` gives a depthwise convolution two outputs a channel, for the lower and the upper part of its range.
"""

import dataclasses
from collections.abc import Iterator

import numpy as np

from fd_keras.tflite.int8.graph import PASSING, WEIGHTED, Graph, Node, walk

CAP = 6.0  # every clipped activation ends in [0, 6], which the converter knows as ReLU6 and calibrates exactly
LEVELS = 255
_FLOOR = 1e-3  # a channel's scale is at least this part of the largest one's; dead channels have none of their own
_SAMPLES = 60_000  # activations of a channel that its clip is chosen on
FIXED = 0  # the class of channels that may not be scaled: pixels, and what a softmax or the outside takes


# --- raw pixels --------------------------------------------------------------------------------------------


def fold_input(graph: Graph, *, whole: bool = False) -> Graph:
    """Folds a normalization of the image into the convolution that takes it.

    Where zeros were padded after the normalization, the mean colour is padded before it.

    Args:
        graph: folded.
        whole: whether that colour is rounded to whole levels, as a file whose input is integer will have it.

    Returns:
        The graph without the normalization, or as it is if it has none that a convolution takes.
    """
    affine, pad, conv = _opening(graph)
    if conv is None:
        return graph
    if conv.padding == "same" and conv.kernel.shape[:2] != (1, 1):
        if pad:
            return graph
        pad, conv = _apart(conv, graph.input_shape)
    kernel = conv.kernel * affine.kernel[:, None]
    bias = conv.bias + np.einsum("hwio,i->o", conv.kernel, affine.bias)
    conv = conv.replace(kernel=kernel, bias=bias, inputs=(pad.name,) if pad else affine.inputs)
    first = [graph.nodes[affine.inputs[0]]]
    if pad:
        colour = -affine.bias / affine.kernel  # which is normalized to 0
        first.append(pad.replace(inputs=affine.inputs, pad_value=np.round(colour) if whole else colour))
    replaced = {node.name for node in (*first, affine, conv)}
    nodes = [*first, conv, *(node for node in graph if node.name not in replaced)]
    return dataclasses.replace(graph, nodes={node.name: node for node in nodes})


def _opening(graph: Graph) -> tuple[Node | None, Node | None, Node | None]:
    """The normalization, the pad if there is one, and the convolution with which a graph begins; or nothing."""
    nodes = list(graph)[1:]
    pads = nodes[1:2] if len(nodes) > 2 and nodes[1].kind == "pad" else []
    opening = [*nodes[:1], *pads, *nodes[1 + len(pads) : 2 + len(pads)]]
    kinds = [node.kind for node in opening]
    alone = all(len(graph.consumers(node.name)) == 1 for node in opening[:-1])
    if kinds[:1] != ["affine"] or kinds[-1] != "conv" or not alone or opening[0].relu or opening[-1].groups > 1:
        return None, None, None
    return opening[0], pads[0] if pads else None, opening[-1]


def _apart(conv: Node, image: tuple[int, int, int]) -> tuple[Node, Node]:
    """A padded convolution as a pad and a convolution without."""
    rows = [max(0, (-(-side // conv.stride) - 1) * conv.stride + width - side)
            for side, width in zip(image[:2], conv.kernel.shape[:2], strict=True)]  # fmt: skip
    pads = tuple((row // 2, row - row // 2) for row in rows)
    pad = Node(f"{conv.name}/pad", "pad", conv.inputs, image[2], pads=pads)
    return pad, conv.replace(padding="valid", inputs=(pad.name,))


# --- which channels must be scaled alike -------------------------------------------------------------------


class Classes:
    """Classes of channels that share a scale: a tensor's channels through pooling, padding, shuffling, adding.

    Attributes:
        of: for each node the class of every output channel.
        mixed: classes that a convolution or dense layer sums over, whose weights suffer from unequal scales.
    """

    def __init__(self, graph: Graph):
        self._parent = [FIXED]
        self.of: dict[str, np.ndarray] = {}
        for node in graph:
            self.of[node.name] = self._classes(node)
        self._join(self.of[graph.output.name], FIXED)
        self.of = {name: np.array([self._root(c) for c in classes]) for name, classes in self.of.items()}
        mixers = [node for node in graph if node.kind in ("conv", "dense")]
        self.mixed = {c for node in mixers for c in self.of[node.inputs[0]]}

    def fix(self, members: np.ndarray) -> None:
        """Makes some classes unscalable."""
        self.of = {name: np.where(np.isin(classes, members), FIXED, classes) for name, classes in self.of.items()}

    def _classes(self, node: Node) -> np.ndarray:
        sources = [self.of[name] for name in node.inputs]
        if node.kind in PASSING:
            return sources[0]
        if node.kind == "shuffle":
            return sources[0].reshape(node.groups, -1).T.ravel()
        if node.kind == "concat":
            return np.concatenate(sources)
        if node.kind == "flatten":
            return np.tile(sources[0], node.channels // len(sources[0]))
        if node.kind == "add":
            for other in sources[1:]:
                self._join(sources[0], other)
            return sources[0]
        if node.kind in WEIGHTED or node.kind == "affine":
            start = len(self._parent)
            self._parent += range(start, start + node.channels)
            return np.arange(start, start + node.channels)
        for source in sources:  # an image, or a softmax and whatever else does not commute with a scale
            self._join(source, FIXED)
        return np.full(node.channels, FIXED)

    def _root(self, c: int) -> int:
        while self._parent[c] != c:
            c = self._parent[c]
        return c

    def _join(self, ones: np.ndarray, others) -> None:
        for one, other in np.broadcast(ones, others):
            low, high = sorted((self._root(one), self._root(other)))
            self._parent[high] = low


# --- scales and clips --------------------------------------------------------------------------------------


def equalize(graph: Graph, images: np.ndarray, *, power: float | None = 0.75, clip: bool = True) -> Graph:
    """Scales the channels and clips the activations.

    Args:
        graph: folded.
        images: calibration images as the graph takes them, (batch, height, width, channels).
        power: how far channels that a convolution sums over are made equal: 0 not at all, 1 wholly. Equal channels
            use all levels, but their weights become unequal. Channels that only depthwise convolutions take are
            always made equal, since those have a scale of their own for every channel. None: no channel is.
        clip: whether to clip where the squared error is least; else at the largest activation.

    Returns:
        A graph of the same function, in which ReLUs end at 6.
    """
    classes = Classes(graph)
    tops = _tops(graph, classes, images, clip)
    _fix_below_caps(graph, classes, tops)
    scales = _scales(graph, classes, tops, power)
    return graph.updated({node.name: _scaled(node, classes, scales) for node in graph})


def _tops(graph: Graph, classes: Classes, images: np.ndarray, clip: bool) -> np.ndarray:
    """Where each class's activations are to end."""
    tops = np.zeros(1 + max(c.max() for c in classes.of.values()))
    for node, _, values in walk(graph, images):
        if not (node.kind in WEIGHTED or node.kind in ("affine", "add")):
            continue
        columns = _sampled(values.numpy())
        for c, column in zip(classes.of[node.name], columns.T, strict=True):
            top = best_clip(column) if clip and node.relu else np.abs(column).max(initial=0.0)
            if node.relu or not _decided_later(graph, node):
                tops[c] = max(tops[c], top)
    return tops


def _decided_later(graph: Graph, node: Node) -> bool:
    """Whether the node only goes into sums, whose clipped result decides the scale."""
    return all(consumer.kind == "add" and consumer.relu for consumer in graph.consumers(node.name))


def _sampled(values: np.ndarray) -> np.ndarray:
    """At most `_SAMPLES` rows, evenly taken, of the values as (rows, channels)."""
    rows = values.reshape(-1, values.shape[-1])
    return rows[:: max(1, len(rows) // _SAMPLES)]


def best_clip(values: np.ndarray, levels: int = LEVELS) -> float:
    """The upper end of a grid from 0 on which rounding and clipping these values err least in square.

    Zeros are on every grid and count for nothing.
    """
    positive = values[values > 0]
    if not positive.size:
        return 0.0
    counts, edges = np.histogram(positive, bins=1024, range=(0, positive.max()))
    centres = (edges[1:] + edges[:-1]) / 2
    ends = edges[-1] * np.linspace(0.05, 1, 96)
    clipped = np.maximum(centres[None] - ends[:, None], 0) ** 2
    rounded = np.where(centres[None] <= ends[:, None], (ends[:, None] / levels) ** 2 / 12, 0)
    return float(ends[np.argmin((clipped + rounded) @ counts)])


def _fix_below_caps(graph: Graph, classes: Classes, tops: np.ndarray) -> None:
    """Leaves families as they are in which a ReLU6 of the network's own meets something larger.

    A channel of scale s ends at s * CAP, which is at most its family's largest end, so elsewhere its own end is kept.
    """
    caps = np.full(len(tops), np.inf)
    for node in graph:
        if node.cap is not None:
            caps[classes.of[node.name]] = np.minimum(caps[classes.of[node.name]], node.cap)
    for members in _families(graph, classes):
        if tops[members].max() > caps[members].min():
            classes.fix(members)


def _scales(graph: Graph, classes: Classes, tops: np.ndarray, power: float | None) -> np.ndarray:
    """The factor by which each class is divided."""
    scales = np.ones_like(tops)
    for members in _families(graph, classes):
        largest = tops[members].max()
        if not largest:
            continue
        share = np.maximum(tops[members] / largest, _FLOOR)
        powers = [0.0 if power is None else power if c in classes.mixed else 1.0 for c in members]
        scales[members] = largest * share**powers / CAP
    scales[FIXED] = 1.0
    return scales


def _families(graph: Graph, classes: Classes) -> Iterator[np.ndarray]:
    """Sets of classes that meet in a tensor, and so have one largest channel."""
    families: list[set[int]] = []
    for node in graph:
        family = set(classes.of[node.name].tolist()) - {FIXED}
        joined = [other for other in families if other & family]
        families = [other for other in families if not other & family] + [family.union(*joined)]
    return (np.array(sorted(family)) for family in families if family)


def _scaled(node: Node, classes: Classes, scales: np.ndarray) -> Node:
    """The node for inputs and outputs divided by their scales."""
    out = scales[classes.of[node.name]]
    limit = None if node.cap is None else (node.cap / out).astype("float32")
    free = node.relu and FIXED not in classes.of[node.name]
    changes = {"cap": CAP if free else node.cap, "limit": limit}
    if node.kind in WEIGHTED or node.kind == "affine":
        into = scales[classes.of[node.inputs[0]]]
        kernel = node.kernel * input_factors(node, into) / output_factors(node, out)
        changes |= {"kernel": kernel.astype("float32"), "bias": (node.bias / out).astype("float32")}
    return node.replace(**changes)


def input_factors(node: Node, values: np.ndarray) -> np.ndarray:
    """One number an input channel, in a shape that multiplies the node's kernel."""
    if node.kind == "affine":
        return values
    if node.kind == "depthwise":
        return values[:, None]
    if node.kind == "dense" or node.groups == 1:
        return values[:, None]
    by_group = values.reshape(node.groups, -1)
    return np.repeat(by_group, node.channels // node.groups, axis=0).T


def output_factors(node: Node, values: np.ndarray) -> np.ndarray:
    """One number an output channel, in a shape that multiplies the node's kernel."""
    return values.reshape(node.kernel.shape[2:]) if node.kind == "depthwise" else values


# --- two ranges a channel ----------------------------------------------------------------------------------


def split_ranges(graph: Graph, images: np.ndarray, *, count: int) -> Graph:
    """Gives the first `count` depthwise convolutions two outputs a channel: clip(x, 0, t) and clip(x - t, 0, 6 - t).

    The pointwise convolution that follows takes the sum of both, with its weights doubled. Each part has all 255
    levels, so early layers with few channels, where the error of activations starts, gain a bit or more. t is where
    the squared error is least. Costs twice the depthwise and the pointwise convolution.

    Args:
        graph: equalized.
        images: calibration images.
        count: how many, from the image on; those followed by anything but one plain pointwise convolution stay.
    """
    chosen = [node for node in graph if node.kind == "depthwise"][:count]
    chosen = [node for node in chosen if _splittable(graph, node)]
    if not chosen:
        return graph
    last, changed = chosen[-1].name, {}
    for node, _, values in walk(graph, images):
        if node in chosen:
            cut = np.array([best_cut(column) for column in _sampled(values.numpy()).T], "float32")
            after = graph.consumers(node.name)[0]
            changed[node.name], changed[after.name] = _split(node, after, cut)
        if node.name == last:
            break
    return graph.updated(changed)


def _splittable(graph: Graph, node: Node) -> bool:
    consumers = graph.consumers(node.name)
    return (
        node.relu and node.cap == CAP and node.kernel.shape[3] == 1 and len(consumers) == 1
        and consumers[0].kind == "conv" and consumers[0].groups == 1 and consumers[0].kernel.shape[0] == 1
    )  # fmt: skip


def best_cut(values: np.ndarray) -> float:
    """Where to cut [0, 6] so that rounding the parts to `LEVELS` levels each errs least in square."""
    counts, edges = np.histogram(values[values > 0], bins=1024, range=(0, CAP))
    centres = (edges[1:] + edges[:-1]) / 2
    cuts = CAP * np.linspace(0.1, 0.9, 65)
    lower = centres[None] <= cuts[:, None]
    errors = np.where(lower, cuts[:, None] ** 2, (CAP - cuts[:, None]) ** 2) @ counts
    return float(cuts[np.argmin(errors)])


def _split(node: Node, after: Node, cut: np.ndarray) -> tuple[Node, Node]:
    parts = np.stack([cut, CAP - cut], axis=1) / CAP  # (channels, 2): the share of the range that each part has
    kernel = node.kernel / parts  # (h, w, channels, 1) / (channels, 2)
    bias = np.stack([node.bias, node.bias - cut], axis=1) / parts
    doubled = np.repeat(after.kernel, 2, axis=2) * parts.reshape(-1, 1)
    split = node.replace(
        kernel=kernel.astype("float32"), bias=bias.ravel().astype("float32"), channels=2 * node.channels, split=cut
    )
    return split, after.replace(kernel=doubled.astype("float32"))
