"""Networks as plain data: a table of stages, and the list of operations that it is lowered to.

An `Arch` holds a network's table from its paper. `lower` converts it to a tuple of `Op`s for a given width and image
size; the builder, the profiler and the checkpoint importers all iterate over these. Nothing here imports Keras.
"""

import dataclasses
import math
import numbers
from collections.abc import Sequence

IMAGE = "image"  # name of the network's input in `Op.inputs`
MIN_SIZE = 32  # the networks halve the image five times


@dataclasses.dataclass(frozen=True)
class Stage:
    """A row of a network's table: `repeats` identical units, except that only the first one has the stride.

    Attributes:
        unit: Kind of unit: "conv" (3x3), "max_pool" (3x3), "separable" (MobileNet's) or "shuffle" (ShuffleNet's).
        filters: Output channels at alpha 1.
        stride: Stride of the first unit; the others have stride 1.
        repeats: Number of units.
    """

    unit: str
    filters: int
    stride: int = 1
    repeats: int = 1


@dataclasses.dataclass(frozen=True)
class Arch:
    """A network's table, with the conventions that its weights depend on.

    Attributes:
        name: Name in flags and file names.
        title: Name in tables and plots.
        stages: Rows of the table, from the image to the last feature map.
        groups: Groups of the pointwise convolutions in shuffle units.
        stem_multiplier: Width multiplier of the first convolution; None means alpha, but at least
            `min_stem_multiplier`.
        min_stem_multiplier: Least width multiplier of the first convolution.
        padding: "symmetric" pads the input of a strided 3x3 window by 1 on all sides, as torch does; "same" is
            TensorFlow's padding, which pads an even-sized image only at the right and the bottom.
        bn_epsilon: Epsilon of the batch normalizations.
        bn_momentum: Momentum of the batch normalizations, in Keras's convention (0.9 is torch's 0.1).
        activation: Activation after the batch normalizations that have one.
    """

    name: str
    title: str
    stages: tuple[Stage, ...]
    groups: int = 1
    stem_multiplier: float | None = None
    min_stem_multiplier: float = 0.0
    padding: str = "symmetric"
    bn_epsilon: float = 1e-5
    bn_momentum: float = 0.9
    activation: str = "relu"

    def __post_init__(self):
        if self.stem_multiplier is not None and not _is_width(self.stem_multiplier):
            raise ValueError(f"stem_multiplier must be a number above 0, got {self.stem_multiplier!r}.")

    @property
    def grouped(self) -> bool:
        """Whether the network has the parameters `groups` and `stem_multiplier`."""
        return any(stage.unit == "shuffle" for stage in self.stages)

    def stem_alpha(self, alpha: float) -> float:
        """Width multiplier of the first convolution in a network of width `alpha`."""
        if self.stem_multiplier is not None:
            return self.stem_multiplier
        return max(alpha, self.min_stem_multiplier)


@dataclasses.dataclass(frozen=True)
class Op:
    """One operation of a lowered network.

    Attributes:
        name: Unique name, also the name of the Keras layer that has the kernel.
        kind: One of conv, depthwise, dense, max_pool, avg_pool, global_pool, shuffle, add or concat.
        inputs: Names of the ops whose outputs are its inputs (`IMAGE` for the image).
        cin: Input channels (for concat, the sum over its inputs).
        cout: Output channels.
        kernel: Side of the window.
        stride: Stride of the window.
        groups: Number of groups of a conv or a shuffle.
        size: (height, width) of the output; None where the image's size is unknown.
        reduction: Factor by which the output is smaller than the image.
        batch_norm: Whether a batch normalization follows.
        activation: Activation after the batch normalization, or after the op itself; None for none.
    """

    name: str
    kind: str
    inputs: tuple[str, ...]
    cin: int
    cout: int
    kernel: int = 1
    stride: int = 1
    groups: int = 1
    size: tuple[int | None, int | None] = (None, None)
    reduction: int = 1
    batch_norm: bool = False
    activation: str | None = None

    @property
    def kernel_shape(self) -> tuple[int, ...]:
        """Shape of the kernel in Keras's layout; () for an op without a kernel."""
        if self.kind == "conv":
            return (self.kernel, self.kernel, self.cin // self.groups, self.cout)
        if self.kind == "depthwise":
            return (self.kernel, self.kernel, self.cin, 1)
        return (self.cin, self.cout) if self.kind == "dense" else ()

    @property
    def parameters(self) -> int:
        """Number of trainable parameters, including gamma and beta of the batch normalization."""
        kernel = math.prod(self.kernel_shape) if self.kernel_shape else 0
        return kernel + self.cout * (2 * self.batch_norm + (self.kind == "dense"))

    @property
    def macs(self) -> int:
        """Multiply-accumulates for one image, which the paper calls FLOPs: only convolutions and dense layers."""
        if not self.kernel_shape:
            return 0
        height, width = self.size
        if height is None or width is None:
            raise ValueError(f"The cost of {self.name!r} depends on the image size, which is unknown.")
        return math.prod(self.kernel_shape) * height * width

    @property
    def is_layer(self) -> bool:
        """Whether the op counts as a layer in the network's depth: all ops with a sliding window do."""
        return self.kind in ("conv", "depthwise", "max_pool", "avg_pool")


def scale_channels(filters: int, alpha: float, divisor: int = 1) -> int:
    """Channels at width `alpha`: int(filters * alpha), as the authors and imgclsmob do, rounded up to `divisor`."""
    return math.ceil(max(1, int(filters * alpha)) / divisor) * divisor


def _is_width(value) -> bool:
    return isinstance(value, numbers.Real) and math.isfinite(value) and float(value) > 0


def check_alpha(alpha: float) -> float:
    """Returns `alpha` as a float, or raises ValueError unless it is a finite number above 0."""
    if not _is_width(alpha):
        raise ValueError(f"alpha must be a number above 0 (the width, e.g. 1.0, 0.5 or 0.25), got {alpha!r}.")
    return float(alpha)


def check_size(size: Sequence[int | None]) -> tuple[int | None, int | None]:
    """Returns (height, width), or raises ValueError if a side is known and smaller than `MIN_SIZE`."""
    for side in size:
        if side is not None and side < MIN_SIZE:
            raise ValueError(
                f"The image must be at least {MIN_SIZE}x{MIN_SIZE} (it is halved five times), got {tuple(size)}."
            )
    height, width = size
    return height, width


def model_name(arch: Arch, alpha: float, size: Sequence[int | None]) -> str:
    """Common name of all files of a model, e.g. "fd_mobilenet_0.25_224" or "shufflenet_g3_0.5_224"."""
    parts = [arch.name]
    if arch.grouped:
        parts.append(f"g{arch.groups}")
    parts.append(str(float(alpha)))
    if arch.stem_multiplier is not None:
        parts.append(f"stem{float(arch.stem_multiplier)}")
    height, width = size
    if height is not None and width is not None:
        parts.append(str(height) if height == width else f"{height}x{width}")
    return "_".join(parts)


def lower(
    arch: Arch,
    alpha: float = 1.0,
    size: Sequence[int | None] = (224, 224),
    *,
    channels: int = 3,
    include_top: bool = True,
    classes: int = 1000,
) -> tuple[Op, ...]:
    """Lowers a table to the ops of one network, in the order in which they run.

    Args:
        arch: Table of the network.
        alpha: Width multiplier, above 0.
        size: (height, width) of the image, each at least 32, or None where unknown.
        channels: Channels of the image.
        include_top: Whether to add global pooling and the classifier.
        classes: Number of classes.

    Raises:
        ValueError: If alpha, a size or the number of classes is invalid.
    """
    if include_top and not (isinstance(classes, int) and classes > 0):
        raise ValueError(f"classes must be a whole number above 0, got {classes!r}.")
    tape = _Tape(arch, check_alpha(alpha), check_size(size), channels)
    for row, stage in enumerate(arch.stages):
        for repeat in range(stage.repeats):
            stride = stage.stride if repeat == 0 else 1
            _UNITS[stage.unit](tape, stage.filters, stride, row, repeat)
    if include_top:
        tape.add("avg_pool", "global_pool")
        tape.add("predictions", "dense", cout=classes)
    return tuple(tape.ops.values())


def feature_layers(ops: Sequence[Op]) -> dict[int, str]:
    """Maps each reduction (2, 4, ... 32) to the Keras layer whose output is the last feature map there.

    All later ops depend on a feature map, so tensors inside a unit with a shortcut do not count.
    """
    position = {op.name: index for index, op in enumerate(ops)}
    layers, earliest = {}, len(ops)  # `earliest`: position of the first input of all later ops
    for index, op in reversed(list(enumerate(ops))):
        if earliest >= index and op.kind not in ("global_pool", "dense"):
            layers.setdefault(op.reduction, output_layer(op))
        earliest = min([earliest, *(position.get(name, -1) for name in op.inputs)])
    return dict(sorted(layers.items()))


def cut(ops: Sequence[Op], reduction: int) -> tuple[tuple[Op, ...], tuple[Op, ...]]:
    """Splits a network after the last feature map at a reduction: (ops up to it, ops after it).

    Raises:
        ValueError: If there is no such feature map, or no op after it.
    """
    layers = feature_layers(ops)
    if reduction not in layers or reduction == max(layers):
        possible = ", ".join(map(str, sorted(layers)[:-1]))
        raise ValueError(f"The network cannot be cut at a reduction of {reduction}; possible are {possible}.")
    end = 1 + next(index for index, op in enumerate(ops) if output_layer(op) == layers[reduction])
    return tuple(ops[:end]), tuple(ops[end:])


def output_layer(op: Op) -> str:
    """Name of the Keras layer with the op's final output (its activation, if it has one)."""
    if op.activation:
        return f"{op.name}_{op.activation}"
    return f"{op.name}_bn" if op.batch_norm else op.name


def depths(ops: Sequence[Op]) -> dict[str, int]:
    """Depth of each op: number of layers (see `Op.is_layer`) on the longest path from the image to it, inclusive."""
    depth = {IMAGE: 0}
    for op in ops:
        depth[op.name] = max(depth[name] for name in op.inputs) + op.is_layer
    return depth


class _Tape:
    """Collects the ops; the last op is the default input of the next one."""

    def __init__(self, arch: Arch, alpha: float, size: tuple[int | None, int | None], channels: int):
        self.arch, self.alpha = arch, alpha
        self.ops: dict[str, Op] = {}
        self._image = Op(IMAGE, "image", (), channels, channels, size=size)

    @property
    def last(self) -> Op:
        return next(reversed(self.ops.values()), self._image)

    def op(self, name: str) -> Op:
        return self.ops.get(name, self._image)

    def add(self, name: str, kind: str, *, cout: int | None = None, inputs: Sequence[str] = (), **fields) -> Op:
        """Appends an op; channels, size and reduction are derived from its inputs."""
        sources = [self.op(source) for source in inputs] or [self.last]
        cin = sum(s.cout for s in sources) if kind == "concat" else sources[0].cout
        stride = fields.get("stride", 1)
        size = (1, 1) if kind in ("global_pool", "dense") else _halved(sources[0].size, stride)
        self.ops[name] = Op(
            name,
            kind,
            tuple(s.name for s in sources),
            cin,
            cout or cin,
            size=size,
            reduction=sources[0].reduction * stride,
            **fields,
        )
        return self.ops[name]

    def normalized(self, name: str, kind: str, *, activation: bool = True, **fields) -> Op:
        """Appends a convolution with batch normalization and (by default) the network's activation."""
        act = self.arch.activation if activation else None
        return self.add(name, kind, batch_norm=True, activation=act, **fields)


def _halved(size: tuple[int | None, int | None], stride: int) -> tuple[int | None, int | None]:
    height, width = (None if side is None else math.ceil(side / stride) for side in size)
    return height, width


def _conv(tape: _Tape, filters: int, stride: int, row: int, repeat: int) -> None:
    """The stem: a 3x3 convolution."""
    cout = scale_channels(filters, tape.arch.stem_alpha(tape.alpha), tape.arch.groups)
    tape.normalized(f"conv{row + repeat + 1}", "conv", cout=cout, kernel=3, stride=stride)


def _max_pool(tape: _Tape, filters: int, stride: int, row: int, repeat: int) -> None:
    tape.add(f"pool{row + repeat}", "max_pool", kernel=3, stride=stride)


def _separable(tape: _Tape, filters: int, stride: int, row: int, repeat: int) -> None:
    """MobileNet's unit: depthwise 3x3 and pointwise, each with batch normalization and activation."""
    index = sum(op.kind == "depthwise" for op in tape.ops.values()) + 1
    tape.normalized(f"conv_dw_{index}", "depthwise", kernel=3, stride=stride)
    tape.normalized(f"conv_pw_{index}", "conv", cout=scale_channels(filters, tape.alpha))


def _shuffle(tape: _Tape, filters: int, stride: int, row: int, repeat: int) -> None:
    """ShuffleNet's unit (arXiv 1707.01083, figure 2b and 2c).

    With a stride, the shortcut is average-pooled and concatenated; otherwise it is added. The first unit of the
    network compresses without groups, since its input is narrow (section 3.2 of that paper).
    """
    groups, shortcut = tape.arch.groups, tape.last
    prefix = f"stage{row}_unit{repeat + 1}"
    cout = shortcut.cout
    if stride > 1:  # the shortcut is concatenated, so even a thin network needs more channels than the shortcut has
        more = (shortcut.cout // (4 * groups) + 1) * 4 * groups
        cout = max(scale_channels(filters, tape.alpha, 4 * groups), more)
    first = not any(op.kind == "depthwise" for op in tape.ops.values())
    tape.normalized(f"{prefix}_compress", "conv", cout=cout // 4, groups=1 if first else groups)
    if groups > 1:
        tape.add(f"{prefix}_shuffle", "shuffle", groups=groups)
    tape.normalized(f"{prefix}_dw", "depthwise", kernel=3, stride=stride, activation=False)
    if stride == 1:
        expand = tape.normalized(f"{prefix}_expand", "conv", cout=cout, groups=groups, activation=False)
        tape.add(f"{prefix}_add", "add", inputs=(expand.name, shortcut.name), activation=tape.arch.activation)
        return
    # ReLU goes before the concatenation, on the only branch that can be negative: the result is the same, and
    # mobile delegates fuse it there.
    expand = tape.normalized(f"{prefix}_expand", "conv", cout=cout - shortcut.cout, groups=groups)
    pool = tape.add(f"{prefix}_pool", "avg_pool", inputs=(shortcut.name,), kernel=3, stride=stride)
    tape.add(f"{prefix}_concat", "concat", cout=cout, inputs=(expand.name, pool.name))


_UNITS = {"conv": _conv, "max_pool": _max_pool, "separable": _separable, "shuffle": _shuffle}
