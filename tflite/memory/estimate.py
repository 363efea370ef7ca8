"""What networks of many widths and resolutions cost as int8 .tflite files, from their tables alone."""

import dataclasses
from collections.abc import Iterable

from fd_keras import spec
from fd_keras.spec import Arch
from fd_keras.tflite.format.network import WEIGHTED, FileNetwork, FileOp, FileTensor, Window
from fd_keras.tflite.memory.arena import plan, tflm_bytes

# Bytes of the tables, names and options in a file for each of its tensors; files of the four networks have 138 to 147.
TABLE_BYTES = 145


@dataclasses.dataclass(frozen=True)
class GridCell:
    """Cost of one network.

    Attributes:
        alpha: Width multiplier.
        size: Side of the square image.
        macs: Multiply-accumulates for one image.
        flash: Bytes of the .tflite file, within 2%.
        activations: Bytes of the planned arena: the file's for the MobileNets, within 5% for the ShuffleNets, where the
            converter may run the branches of a unit in another order.
        tflm: Bytes that TFLM needs beside that, an upper estimate.
    """

    alpha: float
    size: int
    macs: int
    flash: int
    activations: int
    tflm: int

    @property
    def ram(self) -> int:
        """Bytes of TFLM's whole arena."""
        return self.activations + self.tflm

    def fits(self, ram: int, flash: int) -> bool:
        """Whether a device with so many bytes of each to spare can run it."""
        return self.ram <= ram and self.flash <= flash


def cells(arch: Arch, alphas: Iterable[float], sizes: Iterable[int], classes: int) -> list[GridCell]:
    """The cost of every combination; raises ValueError for a width, size or class count that is impossible."""
    sizes = list(sizes)
    return [cell(arch, alpha, size, classes) for alpha in alphas for size in sizes]


def cell(arch: Arch, alpha: float, size: int, classes: int) -> GridCell:
    """The cost of one network."""
    ops = spec.lower(arch, alpha, (size, size), classes=classes)
    network = converted(arch, ops, (size, size))
    macs = sum(op.macs for op in ops)
    return GridCell(alpha, size, macs, file_bytes(network), plan(network).arena, tflm_bytes(network))


def best(found: Iterable[GridCell], ram: int, flash: int) -> GridCell | None:
    """The one with most multiply-accumulates that fits; None if nothing does."""
    return max((cell for cell in found if cell.fits(ram, flash)), key=lambda cell: cell.macs, default=None)


def file_bytes(network: FileNetwork) -> int:
    """Estimates the size of an int8 file: weights, a scale (4 bytes) and a zero point (8) for each channel, tables."""
    weights = sum(tensor.bytes for tensor in network.tensors if tensor.constant)
    channels = sum(network.tensors[op.outputs[0]].shape[-1] for op in network.ops if op.kind in WEIGHTED)
    activations = sum(not tensor.constant for tensor in network.tensors)
    return weights + 12 * (2 * channels + activations) + TABLE_BYTES * len(network.tensors)


def converted(arch: Arch, ops: Iterable[spec.Op], size: tuple[int, int]) -> FileNetwork:
    """The network that the int8 recipe makes of a network lowered for a (height, width), with uint8 at its edges."""
    writer = _NetworkWriter(size)
    for op in ops:
        _WRITERS[op.kind](writer, arch, op)
    return writer.finished()


class _NetworkWriter:
    """Collects tensors and ops; `values` are the tensors that hold the outputs of the lowered ops."""

    def __init__(self, size: tuple[int, int]):
        self.tensors: list[FileTensor] = []
        self.ops: list[FileOp] = []
        self._shared: dict[str, int] = {}
        self.image = self.tensor("UINT8", (1, *size, 3))
        self.values = {spec.IMAGE: self.add("QUANTIZE", (self.image,), (1, *size, 3))}

    def tensor(self, dtype: str, shape: tuple[int, ...], *, constant: bool = False) -> int:
        self.tensors.append(FileTensor("", dtype, shape, constant))
        return len(self.tensors) - 1

    def shared(self, name: str, dtype: str, shape: tuple[int, ...]) -> int:
        """A constant that several ops use, which is in the file once."""
        if name not in self._shared:
            self._shared[name] = self.tensor(dtype, shape, constant=True)
        return self._shared[name]

    def add(
        self,
        kind: str,
        inputs: tuple[int, ...],
        shape: tuple[int, ...],
        dtype: str = "INT8",
        window: Window | None = None,
    ) -> int:
        self.last = self.tensor(dtype, shape)
        self.ops.append(FileOp(kind, inputs, (self.last,), window))
        return self.last

    def weighted(
        self, kind: str, source: int, kernel: tuple[int, ...], shape: tuple[int, ...], stride: int | None = None
    ) -> int:
        weights = self.tensor("INT8", kernel, constant=True)
        bias = self.tensor("INT32", shape[-1:], constant=True)
        window = Window((kernel[1], kernel[2]), (stride, stride)) if stride else None
        return self.add(kind, (source, weights, bias), shape, window=window)

    def shuffles_itself(self, value: int) -> bool:
        """Whether an ungrouped convolution made the value, see `xnnpack_ops.without_free_shuffles`."""
        maker = next(op for op in self.ops if op.outputs == (value,))
        return maker.kind == "CONV_2D" and len({self.tensors[index].shape[-1] for index in maker.inputs[:2]}) == 1

    def finished(self) -> FileNetwork:
        output = self.add("QUANTIZE", (self.last,), self.tensors[self.last].shape, "UINT8")
        return FileNetwork(tuple(self.tensors), tuple(self.ops), (self.image,), (output,))


def _framed(writer: _NetworkWriter, arch: Arch, op: spec.Op) -> int:
    """The input of a window with a stride, with the frame that symmetric padding needs as an op of its own.

    TensorFlow's own padding is symmetric on odd sides: a convolution then frames its input with zeros itself.
    """
    source = writer.values[op.inputs[0]]
    _, height, width, channels = writer.tensors[source].shape
    own = height % 2 and width % 2 and op.kind != "max_pool" and op.inputs[0] != spec.IMAGE
    if op.stride == 1 or arch.padding != "symmetric" or own:
        return source
    border = op.kernel // 2
    if op.inputs[0] == spec.IMAGE or op.kind == "max_pool":  # see `xnnpack_ops.with_framed_pools`
        tall = (1, height + 2 * border, width, channels)
        source = _between(writer, source, (1, border, width, channels), tall)
        return _between(writer, source, (1, tall[1], border, channels), (1, tall[1], width + 2 * border, channels))
    shape = (1, height + 2 * border, width + 2 * border, channels)
    return writer.add("PAD", (source, writer.shared("pads", "INT32", (4, 2))), shape)


def _between(writer: _NetworkWriter, source: int, border: tuple[int, ...], shape: tuple[int, ...]) -> int:
    """A tensor between two constant ones."""
    before, after = (writer.tensor("INT8", border, constant=True) for _ in range(2))
    return writer.add("CONCATENATION", (before, source, after), shape)


def _shape(op: spec.Op) -> tuple[int, ...]:
    """The shape of an op's output; its sides are known, since the image's are."""
    return (1, *(side for side in op.size if side is not None), op.cout)


def _conv(writer: _NetworkWriter, arch: Arch, op: spec.Op) -> None:
    kernel = (op.cout, op.kernel, op.kernel, op.cin // op.groups)
    writer.values[op.name] = writer.weighted("CONV_2D", _framed(writer, arch, op), kernel, _shape(op), op.stride)


def _depthwise(writer: _NetworkWriter, arch: Arch, op: spec.Op) -> None:
    """Also average pooling, which the recipe writes as a depthwise convolution."""
    kernel, shape = (1, op.kernel, op.kernel, op.cin), _shape(op)
    writer.values[op.name] = writer.weighted("DEPTHWISE_CONV_2D", _framed(writer, arch, op), kernel, shape, op.stride)


def _max_pool(writer: _NetworkWriter, arch: Arch, op: spec.Op) -> None:
    window = Window((op.kernel, op.kernel), (op.stride, op.stride))
    writer.values[op.name] = writer.add("MAX_POOL_2D", (_framed(writer, arch, op),), _shape(op), window=window)


def _shuffle(writer: _NetworkWriter, arch: Arch, op: spec.Op) -> None:
    shape, width = _shape(op), op.cout // op.groups
    pixels = shape[1] * shape[2]
    split = (1, pixels, op.groups, width)
    source = writer.values[op.inputs[0]]
    if writer.shuffles_itself(source):
        writer.values[op.name] = source
        return
    grouped = writer.add("RESHAPE", (source, writer.shared(f"{split}", "INT32", (4,))), split)
    order = writer.shared("order", "INT32", (4,))
    turned = writer.add("TRANSPOSE", (grouped, order), (1, pixels, width, op.groups))
    writer.values[op.name] = writer.add("RESHAPE", (turned, writer.shared(f"{shape}", "INT32", (4,))), shape)


def _join(writer: _NetworkWriter, arch: Arch, op: spec.Op) -> None:
    kind = {"add": "ADD", "concat": "CONCATENATION"}[op.kind]
    sources = tuple(writer.values[name] for name in op.inputs)
    writer.values[op.name] = writer.add(kind, sources, _shape(op))


def _global_pool(writer: _NetworkWriter, arch: Arch, op: spec.Op) -> None:
    inputs = (writer.values[op.inputs[0]], writer.shared("axes", "INT32", (2,)))
    writer.values[op.name] = writer.add("MEAN", inputs, (1, op.cout))


def _dense(writer: _NetworkWriter, arch: Arch, op: spec.Op) -> None:
    source, shape = writer.values[op.inputs[0]], (1, op.cout)
    logits = writer.weighted("FULLY_CONNECTED", source, (op.cout, op.cin), shape)
    writer.values[op.name] = writer.add("SOFTMAX", (logits,), shape)


_WRITERS = {
    "conv": _conv,
    "depthwise": _depthwise,
    "avg_pool": _depthwise,
    "max_pool": _max_pool,
    "shuffle": _shuffle,
    "add": _join,
    "concat": _join,
    "global_pool": _global_pool,
    "dense": _dense,
}
