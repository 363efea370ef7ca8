"""The network in a .tflite file: its tensors and operations. Nothing here reads files or imports anything large."""

import dataclasses
import math

from fd_keras.tflite_file import BITS

# Ops that only copy their first input, into another type, frame or shape; so does a concatenation of one tensor with
# constants. A compiler can have the next op read the original; an interpreter runs them as they stand.
COPIES = ("QUANTIZE", "PAD", "PADV2", "RESHAPE")
WEIGHTED = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")


@dataclasses.dataclass(frozen=True)
class FileTensor:
    """A tensor of a .tflite file.

    Attributes:
        name: Its name in the file.
        dtype: Its type as the schema spells it, such as "INT8".
        shape: Its sides; those of a kernel begin with the outputs.
        constant: Whether its values are in the file.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    constant: bool = False

    @property
    def bytes(self) -> int:
        """Size of its values."""
        return math.ceil(math.prod(self.shape) * BITS[self.dtype] / 8)


@dataclasses.dataclass(frozen=True)
class FileOp:
    """An operation of a .tflite file.

    Attributes:
        kind: Its operator as the schema spells it, such as "CONV_2D".
        inputs: Indices of the tensors that it reads.
        outputs: Indices of the tensors that it writes.
    """

    kind: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class FileNetwork:
    """The network of a .tflite file.

    Attributes:
        tensors: All tensors, constants included.
        ops: Operations in the order in which they run.
        inputs: Indices of the tensors that the caller sets.
        outputs: Indices of the tensors that the caller reads.
        offsets: Offset of each tensor in the arena where the file plans it, else -1; empty: it plans none.
    """

    tensors: tuple[FileTensor, ...]
    ops: tuple[FileOp, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    offsets: tuple[int, ...] = ()

    def macs(self, op: FileOp) -> int:
        """Multiply-accumulates of one op: convolutions and dense layers, as in the paper."""
        if op.kind not in WEIGHTED:
            return 0
        kernel, out = self.tensors[op.inputs[1]].shape, self.tensors[op.outputs[0]].shape
        pixels = math.prod(out[:-1])  # a kernel is applied at each of them; the batch counts too
        return math.prod(kernel) * pixels

    @property
    def all_macs(self) -> int:
        """Multiply-accumulates of the network."""
        return sum(map(self.macs, self.ops))

    def fused(self) -> "FileNetwork":
        """The network as a compiler may run it: without the `COPIES`, whose input the next op reads instead."""
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
