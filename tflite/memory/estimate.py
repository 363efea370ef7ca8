"""Estimates the ops and sizes of int8 and int4 .tflite files from the networks' tables, without converting."""

import math
from collections.abc import Sequence

from fd_keras import spec
from fd_keras.spec import Arch
from fd_keras.tflite.format.network import FOUR_BIT_SHARE, WEIGHTED, FileNetwork, FileOp, FileTensor, Window

# Bytes of tables, names and options per tensor of a file; files of the four networks have 138 to 147.
TABLE_BYTES = 145


def file_bytes(network: FileNetwork) -> int:
    """Estimates the bytes of a file: weights, tables, and a scale (4 bytes) and a zero point (8) per channel."""
    weights = sum(tensor.bytes for tensor in network.tensors if tensor.constant)
    channels = sum(network.tensors[op.outputs[0]].shape[-1] for op in network.ops if op.kind in WEIGHTED)
    activations = sum(not tensor.constant for tensor in network.tensors)
    return weights + 12 * (2 * channels + activations) + TABLE_BYTES * len(network.tensors)


def converted(arch: Arch, ops: Sequence[spec.Op], size: tuple[int, int], *, four_bits: bool = False) -> FileNetwork:
    """Builds the network that the int8 or int4 recipe converts a lowered network to, with uint8 input and output.

    Args:
        arch: Table of the network.
        ops: Lowered network.
        size: (height, width) of the image.
        four_bits: Whether the recipe is int4 instead of int8.
    """
    weights = sum(math.prod(op.kernel_shape) for op in ops if op.kernel_shape)
    writer = _NetworkWriter(size, FOUR_BIT_SHARE * weights if four_bits else math.inf)
    for op in ops:
        _WRITERS[op.kind](writer, arch, op)
    return writer.finished()


class _NetworkWriter:
    """Collects tensors and ops; `values` maps the outputs of the lowered ops to tensor indices.

    Pointwise and dense kernels with at least `least` weights are int4.
    """

    def __init__(self, size: tuple[int, int], least: float):
        self._least = least
        self.tensors: list[FileTensor] = []
        self.ops: list[FileOp] = []
        self._shared: dict[str, int] = {}
        self.image = self.tensor("UINT8", (1, *size, 3))
        self.values = {spec.IMAGE: self.add("QUANTIZE", (self.image,), (1, *size, 3))}

    def tensor(self, dtype: str, shape: tuple[int, ...], *, constant: bool = False) -> int:
        self.tensors.append(FileTensor("", dtype, shape, constant))
        return len(self.tensors) - 1

    def shared(self, name: str, dtype: str, shape: tuple[int, ...]) -> int:
        """Returns a constant that several ops share, and adds it on first use."""
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
        weights = self.tensor("INT4" if self.is_large(kernel, source) else "INT8", kernel, constant=True)
        bias = self.tensor("INT32", shape[-1:], constant=True)
        window = Window((kernel[1], kernel[2]), (stride, stride)) if stride else None
        return self.add(kind, (source, weights, bias), shape, window=window)

    def is_large(self, kernel: tuple[int, ...], source: int) -> bool:
        """Whether a kernel is stored as int4."""
        dense = kernel[1:] in [(1, 1, self.tensors[source].shape[-1]), self.tensors[source].shape[1:]]
        return dense and math.prod(kernel) >= self._least

    def shuffles_itself(self, value: int) -> bool:
        """Whether the value is the output of an ungrouped convolution, see `xnnpack_ops.without_free_shuffles`."""
        maker = next(op for op in self.ops if op.outputs == (value,))
        return maker.kind == "CONV_2D" and len({self.tensors[index].shape[-1] for index in maker.inputs[:2]}) == 1

    def finished(self) -> FileNetwork:
        output = self.add("QUANTIZE", (self.last,), self.tensors[self.last].shape, "UINT8")
        return FileNetwork(tuple(self.tensors), tuple(self.ops), (self.image,), (output,))


def _framed(writer: _NetworkWriter, arch: Arch, op: spec.Op) -> int:
    """Adds the ops for symmetric padding of a strided window, if they are needed; returns the window's input.

    They are not needed on odd sides, where TensorFlow's own padding is symmetric.
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
    """Concatenates a tensor with a constant before and after it."""
    before, after = (writer.tensor("INT8", border, constant=True) for _ in range(2))
    return writer.add("CONCATENATION", (before, source, after), shape)


def _shape(op: spec.Op) -> tuple[int, ...]:
    """Output shape of an op; it is fully known, since the image size is."""
    return (1, *(side for side in op.size if side is not None), op.cout)


def _conv(writer: _NetworkWriter, arch: Arch, op: spec.Op) -> None:
    kernel, source = (op.cout, op.kernel, op.kernel, op.cin // op.groups), _framed(writer, arch, op)
    writer.values[op.name] = writer.weighted("CONV_2D", source, kernel, _shape(op), op.stride)


def _depthwise(writer: _NetworkWriter, arch: Arch, op: spec.Op) -> None:
    """Adds a depthwise convolution, or an average pooling, which the recipe converts to one."""
    kernel, source = (1, op.kernel, op.kernel, op.cin), _framed(writer, arch, op)
    writer.values[op.name] = writer.weighted("DEPTHWISE_CONV_2D", source, kernel, _shape(op), op.stride)


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
    """Adds a dense layer; an int4 layer becomes a convolution, see `format.int4`."""
    source, kernel, shape = writer.values[op.inputs[0]], (op.cout, op.cin), (1, op.cout)
    if writer.is_large(kernel, source):
        pixel, result = (1, 1, 1, op.cin), (1, 1, 1, op.cout)
        source = writer.add("RESHAPE", (source, writer.shared(f"{pixel}", "INT32", (4,))), pixel)
        logits = writer.weighted("CONV_2D", source, (op.cout, *pixel[1:]), result, 1)
        logits = writer.add("RESHAPE", (logits, writer.shared(f"{shape}", "INT32", (2,))), shape)
    else:
        logits = writer.weighted("FULLY_CONNECTED", source, kernel, shape)
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
