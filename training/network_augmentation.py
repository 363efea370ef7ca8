"""Network augmentation (arXiv 2110.08890): each step also trains a wider network that contains the network.

Tiny networks underfit. As a part of networks with more capacity they receive additional gradients; the extra channels
are discarded after training.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from fd_keras import builder
from fd_keras.spec import IMAGE, Arch, Op
from fd_keras.training.recipes import WIDER_NETWORKS

BLOCKS = 4  # blocks of extra channels per op; each wider network uses one of them


class WiderNetworks(keras.layers.Layer):
    """Wider networks that contain a network and share its weights.

    Each op has a few blocks of extra channels. A wider network combines the network's own channels, which compute the
    same as in the network if the extra ones are zero, with one block at each op. So all wider networks have the same
    shapes, a step is traced only once, and it costs far less than the widest network would. A random table assigns the
    blocks. Wider networks normalize by the statistics of the batch (with several devices, of each device's part), and
    do not update the network's running statistics. Unlike in the paper, channels are not sorted by importance first:
    the network starts from random weights, where all channels are equally important.

    Args:
        arch: Table of the network.
        net_ops: Ops of the network.
        net: Network, which takes raw images.
        widest: Width of a network with all blocks, relative to the network.
        seed: Seed of the table.
    """

    def __init__(self, arch: Arch, net_ops: Sequence[Op], net: keras.Model, widest: float, seed: int):
        super().__init__(name="wider_networks")
        self.arch, self.net_ops, self.op_of = arch, net_ops, {op.name: op for op in net_ops}
        self.layer_of = net.get_layer  # not the network: Keras would track its weights as this layer's

        def block(op: Op) -> int:
            """Number of channels of a block, a multiple of the groups so that they divide as the network's own do."""
            return max(1, int((widest - 1) / BLOCKS * op.cout) // arch.groups) * arch.groups

        self.extra = _extra_channels(net_ops, block)
        self.weights_of = {op.name: self._weights_of(op) for op in net_ops}
        random = np.random.default_rng(seed)
        tables = [_blocks(net_ops, lambda: int(random.integers(BLOCKS))) for _ in range(WIDER_NETWORKS)]
        self.position = {name: index for index, name in enumerate(tables[0])}
        self.table = np.array([list(blocks.values()) for blocks in tables], "int32")
        self.built = True

    def _weights_of(self, op: Op) -> dict[str, keras.Variable]:
        """Creates the weights of an op's extra channels.

        They connect the network's own inputs with a block ("columns"), a block with the network's own outputs ("rows"),
        and a block with a block ("corner"). The first axes are the blocks.
        """
        *window, own_in, own_out = op.kernel_shape or (0, 0)
        extra_in, extra_out = self.extra[op.inputs[0]] // op.groups, self.extra[op.name]
        shapes: dict[str, tuple[int, ...]] = {}
        if op.kind == "depthwise":
            shapes["columns"] = (BLOCKS, *window, extra_out, 1)
        elif op.kind == "conv":
            shapes["columns"] = (BLOCKS, *window, own_in, extra_out)
        if op.kind in ("conv", "dense") and extra_in:
            shapes["rows"] = (BLOCKS, *window, extra_in, own_out)
        if op.kind == "conv" and extra_in:
            shapes["corner"] = (BLOCKS, BLOCKS, *window, extra_in, extra_out)

        initializer: Any = keras.initializers.get(builder.kernel_initializer(op))

        def start(shape, dtype=None):
            flat = (*window, -(-int(np.prod(shape)) // int(np.prod((*window, shape[-1])))), shape[-1])
            return ops.reshape(initializer(flat, dtype), shape)

        starts = dict.fromkeys(shapes, start)
        if op.batch_norm:
            shapes |= {"gamma": (BLOCKS, extra_out), "beta": (BLOCKS, extra_out)}
            starts |= {"gamma": "ones", "beta": "zeros"}
        return {
            part: self.add_weight(name=f"{op.name}_{part}", shape=shape, initializer=starts[part])
            for part, shape in shapes.items()
        }

    def loss(self, images: Any, number: Any, criterion: Callable[[Any], Any]) -> Any:
        """Computes the loss of a wider network, a scalar.

        Args:
            images: Raw images, (batch, height, width, 3).
            number: Index of the network, a scalar; `WIDER_NETWORKS` for none, with loss 0.
            criterion: Computes the loss from logits.
        """

        def loss() -> Any:
            return criterion(ops.cast(self.logits(images, number), "float32"))

        return ops.cond(number < WIDER_NETWORKS, loss, lambda: ops.zeros((), "float32"))

    def logits(self, images: Any, number: Any) -> Any:
        """Computes the logits of a wider network, (batch, classes)."""
        blocks: Any = ops.take(self.table, number, axis=0)
        layers: Any = _Layers(self, {name: blocks[index] for name, index in self.position.items()})
        return builder.build(self.arch, self.net_ops, images, layers=layers, classifier_activation=None)


def _extra_channels(net_ops: Sequence[Op], block: Callable[[Op], int]) -> dict[str, int]:
    """Returns the number of extra channels of each op, by name; 0 for the image and the classifier."""
    extra = {IMAGE: 0}
    for op in net_ops:
        if op.kind == "conv":
            extra[op.name] = block(op)
        else:
            inputs = op.inputs if op.kind == "concat" else op.inputs[:1]
            extra[op.name] = 0 if op.kind == "dense" else sum(extra[name] for name in inputs)
    for op in net_ops:  # the inputs of a sum must have equally many
        if op.kind == "add":
            extra[op.inputs[0]] = extra[op.name] = extra[op.inputs[1]]
    return extra


def _blocks(net_ops: Sequence[Op], draw: Callable[[], int]) -> dict[str, int]:
    """Draws the block of each op of a wider network, by name; ops that are added or concatenated share a block."""
    blocks = {IMAGE: 0}
    for op in net_ops:
        if op.kind != "conv":
            blocks[op.name] = blocks[op.inputs[0]]
            continue
        joining = [other for other in net_ops if len(other.inputs) > 1 and op.name in other.inputs]
        shortcuts = [blocks[name] for other in joining for name in _behind_pools(net_ops, other) if name in blocks]
        blocks[op.name] = shortcuts[0] if shortcuts else draw()
    return blocks


def _behind_pools(net_ops: Sequence[Op], op: Op) -> list[str]:
    """Returns the inputs of an op, with each pooling replaced by its own input."""
    pools = {pool.name: pool.inputs[0] for pool in net_ops if pool.kind == "avg_pool"}
    return [pools.get(name, name) for name in op.inputs]


class _Layers:
    """Layers of a wider network, for `builder.build`; layers without weights are the network's own.

    Args:
        wider: Wider networks, with their weights.
        blocks: Block of each op by name, scalar tensors.
    """

    def __init__(self, wider: WiderNetworks, blocks: Mapping[str, Any]):
        self._wider, self._blocks = wider, blocks
        self.Conv2D = self.GroupedConv2D = self._convolution
        self.DepthwiseConv2D, self.BatchNormalization = self._depthwise, self._normalization
        self.ChannelShuffle, self.Concatenate, self.Dense = self._shuffle, self._concatenation, self._classifier

    def __getattr__(self, kind: str) -> Callable:
        return lambda *arguments, name, **settings: self._wider.layer_of(name)

    def _part(self, op: str, part: str, *ends: str) -> Any:
        """Returns a part of an op's weights, for the blocks at the ops `ends`."""
        weights: Any = ops.convert_to_tensor(self._wider.weights_of[op][part])
        return weights[tuple(self._blocks[end] for end in ends)]

    def _convolution(self, filters, kernel_size, strides, padding, *, name: str, **settings) -> Callable:
        op = self._wider.op_of[name]

        def apply(x):
            kernels = self._kernels(op, x.dtype)
            parts = zip(_by_group(x, op.cin, op.groups), kernels, strict=True)
            outputs = [ops.conv(image, kernel, strides, padding, "channels_last") for image, kernel in parts]
            return _joined(outputs, op.cout, op.groups)

        return apply

    def _kernels(self, op: Op, dtype: str) -> list:
        """Assembles the kernel of each group."""
        (source,) = op.inputs
        rows = [[self._wider.layer_of(op.name).kernel, self._part(op.name, "columns", op.name)]]
        if self._wider.extra[source]:
            rows.append([self._part(op.name, "rows", source), self._part(op.name, "corner", source, op.name)])
        split = [[_split(ops.cast(part, dtype), op.groups) for part in row] for row in rows]
        return [
            ops.concatenate([ops.concatenate([part[group] for part in row], axis=-1) for row in split], axis=-2)
            for group in range(op.groups)
        ]

    def _depthwise(self, kernel_size, strides, padding, *, name: str, **settings) -> Callable:
        def apply(x):
            kernel: Any = ops.concatenate(
                [self._wider.layer_of(name).kernel, self._part(name, "columns", name)], axis=2
            )
            return ops.depthwise_conv(x, ops.cast(kernel, x.dtype), strides, padding, "channels_last")

        return apply

    def _normalization(self, *, epsilon: float, name: str, **settings) -> Callable:
        layer, op = self._wider.layer_of(name), name.removesuffix("_bn")

        def apply(x):
            values: Any = ops.cast(x, "float32")
            moments: Any = ops.moments(values, axes=[0, 1, 2])
            gamma = ops.concatenate([layer.gamma, self._part(op, "gamma", op)])
            beta = ops.concatenate([layer.beta, self._part(op, "beta", op)])
            return ops.cast(ops.batch_normalization(values, moments[0], moments[1], -1, beta, gamma, epsilon), x.dtype)

        return apply

    def _shuffle(self, groups: int, *, name: str) -> Callable:
        """Shuffles the network's own channels, as in the network, and the extra channels separately."""
        own, layer = self._wider.op_of[name].cout, self._wider.layer_of(name)
        return lambda x: ops.concatenate([layer(x[..., :own]), layer(x[..., own:])], axis=-1)

    def _concatenation(self, *, name: str) -> Callable:
        """Concatenates the network's own channels, as in the network, followed by the extra channels."""
        own = [self._wider.op_of[source].cout for source in self._wider.op_of[name].inputs]

        def apply(inputs):
            pairs = list(zip(inputs, own, strict=True))
            return ops.concatenate([x[..., :c] for x, c in pairs] + [x[..., c:] for x, c in pairs], axis=-1)

        return apply

    def _classifier(self, classes: int, *, name: str, **settings) -> Callable:
        layer = self._wider.layer_of(name)
        (source,) = self._wider.op_of[name].inputs

        def apply(x):
            kernel: Any = ops.concatenate([layer.kernel, self._part(name, "rows", source)], axis=0)
            return ops.add(ops.matmul(x, ops.cast(kernel, x.dtype)), ops.cast(layer.bias, x.dtype))

        return apply


def _split(tensor: Any, groups: int) -> Any:
    """Splits the channels into equal parts."""
    return ops.split(tensor, groups, axis=-1)


def _by_group(x: Any, own: int, groups: int) -> list:
    """Splits channels into groups, each with its part of the network's own channels and of the extra ones."""
    if groups == 1:
        return [x]
    pairs = zip(_split(x[..., :own], groups), _split(x[..., own:], groups), strict=True)
    return [ops.concatenate(pair, axis=-1) for pair in pairs]


def _joined(parts: list, own: int, groups: int) -> Any:
    """Joins groups again (inverse of `_by_group`): the own channels of all groups, followed by the extra ones."""
    if groups == 1:
        return parts[0]
    count = own // groups
    return ops.concatenate([x[..., :count] for x in parts] + [x[..., count:] for x in parts], axis=-1)
