"""The network in a .tflite file: tensors and operations. This module reads no files and has no large imports."""

import dataclasses
import math

from fd_keras.tflite_file import BITS

# Ops that only copy their first input to another type, frame or shape, as does a concatenation of one tensor with
# constants. A compiler can make the next op read the original; an interpreter runs them.
COPIES = ("QUANTIZE", "PAD", "PADV2", "RESHAPE")
WEIGHTED = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")
FOUR_BIT_SHARE = 0.03  # of all weights: what a pointwise or dense kernel must hold to be worth storing in four bits


@dataclasses.dataclass(frozen=True)
class FileTensor:
    """A tensor of a .tflite file.

    Attributes:
        name: Name of the tensor in the file.
        dtype: Type as named in the schema, such as "INT8".
        shape: Shape; the first axis of a kernel is its outputs.
        constant: Whether the values are stored in the file.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    constant: bool = False

    @property
    def bytes(self) -> int:
        """Size of the values in bytes."""
        return math.ceil(math.prod(self.shape) * BITS[self.dtype] / 8)


@dataclasses.dataclass(frozen=True)
class Window:
    """How a convolution or a pool moves over an image, along its rows and its columns.

    Attributes:
        size: Pixels that the window covers.
        strides: Steps in pixels.
        dilations: Distances of the pixels that the window reads.
    """

    size: tuple[int, int]
    strides: tuple[int, int] = (1, 1)
    dilations: tuple[int, int] = (1, 1)


@dataclasses.dataclass(frozen=True)
class FileOp:
    """An operation of a .tflite file.

    Attributes:
        kind: Operator as named in the schema, such as "CONV_2D".
        inputs: Indices of the input tensors.
        outputs: Indices of the output tensors.
        window: Window of a convolution or a pool; None for other operations.
    """

    kind: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    window: Window | None = None


@dataclasses.dataclass(frozen=True)
class FileNetwork:
    """The network of a .tflite file.

    Attributes:
        tensors: All tensors, including constants.
        ops: Operations in execution order.
        inputs: Indices of the network's input tensors.
        outputs: Indices of the network's output tensors.
        offsets: Planned arena offset of each tensor, -1 if it is not planned; empty if the file has no memory plan.
    """

    tensors: tuple[FileTensor, ...]
    ops: tuple[FileOp, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    offsets: tuple[int, ...] = ()

    def macs(self, op: FileOp) -> int:
        """Multiply-accumulates of an op; only convolutions and dense layers count, as in the paper."""
        if op.kind not in WEIGHTED:
            return 0
        kernel, out = self.tensors[op.inputs[1]].shape, self.tensors[op.outputs[0]].shape
        pixels = math.prod(out[:-1])  # positions at which the kernel is applied, including the batch
        return math.prod(kernel) * pixels

    @property
    def all_macs(self) -> int:
        """Multiply-accumulates of the network."""
        return sum(map(self.macs, self.ops))

    def fused(self) -> "FileNetwork":
        """The network as a compiler may run it: without `COPIES`, so that the next op reads their input."""
        source: dict[int, int] = {}
        ops = []
        for op in self.ops:
            inputs = tuple(source.get(index, index) for index in op.inputs)
            values = [index for index in inputs if not self.tensors[index].constant]
            if values and (op.kind in COPIES or (op.kind == "CONCATENATION" and len(values) == 1)):
                source[op.outputs[0]] = values[0]
            else:
                ops.append(dataclasses.replace(op, inputs=inputs))
        outputs = tuple(source.get(index, index) for index in self.outputs)
        return dataclasses.replace(self, ops=tuple(ops), outputs=outputs, offsets=())
