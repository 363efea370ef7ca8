"""Reads and validates .tflite files that may be damaged, before programs and interpreters use them.

LiteRT validates the structure of the flatbuffer, but trusts most of its content: indices, sizes and types. A wrong
value can crash the process.
"""

import functools
import math
import os
import zipfile
import zlib
from typing import Any

import numpy as np

BITS = {
    "INT2": 2,
    "INT4": 4,
    "UINT4": 4,
    **dict.fromkeys(("BOOL", "INT8", "UINT8", "FLOAT8_E4M3FN", "FLOAT8_E5M2"), 8),
    **dict.fromkeys(("INT16", "UINT16", "FLOAT16", "BFLOAT16"), 16),
    **dict.fromkeys(("INT32", "UINT32", "FLOAT32"), 32),
    **dict.fromkeys(("INT64", "UINT64", "FLOAT64", "COMPLEX64"), 64),
    "COMPLEX128": 128,
}
LABELS_FILE = "labels.txt"  # name of the class names in the archive at the end of a file
_LARGEST_LABELS = 2**24  # bytes
_LARGEST = 2**30  # bytes in a tensor: LiteRT counts some of them in 32 bits
_UNSIZED = ("RESOURCE", "STRING", "VARIANT")
_QUANTIZED = {"INT8": (-128, 127), "UINT8": (0, 255), "INT16": (-(2**15), 2**15 - 1)}
_WEIGHTED = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")
_LEAST_INPUTS = {"CONV_2D": 2, "DEPTHWISE_CONV_2D": 3, "FULLY_CONNECTED": 2}  # LiteRT needs a bias for depthwise ones
_LEAVING_OUT = (*_WEIGHTED, "CONV_3D", "CUSTOM", "LSTM", "RNN", "SVDF", "TRANSPOSE_CONV")  # ops with optional inputs
_KEEPING_TYPE = {  # operators whose first output has the type of the first input
    *_WEIGHTED,
    *("ADD", "AVERAGE_POOL_2D", "CONCATENATION", "LOGISTIC", "MAX_POOL_2D", "MEAN", "MUL", "PAD", "PADV2", "RELU"),
    *("RELU6", "RESHAPE", "SOFTMAX", "SUB", "TRANSPOSE"),
}
_OF_FIXED_SCALE = ("LOGISTIC", "SOFTMAX")  # ops whose outputs are always between 0 and 1
_LARGEST_FACTOR = 256  # limit of XNNPACK's kernels; LiteRT frees some memory twice if they reject a larger one
_SCALES = (1e-20, 1e20)  # outside this range products and ratios overflow


class LiteRTError(ValueError):
    """A .tflite file that cannot be run; the message names it."""


def read_model(path: str | os.PathLike) -> tuple[bytes, Any]:
    """Reads and validates a .tflite file.

    Returns:
        The content and its `schema.ModelT`; typed as Any, since the generated types allow None for every field.

    Raises:
        LiteRTError: If the file is missing, not a .tflite file, or damaged; the message has the path.
        ImportError: If `ai-edge-litert` is not installed.
    """
    path = os.fspath(path)
    try:
        with open(path, "rb") as file:
            data = file.read()
    except OSError as error:
        raise LiteRTError(f"{path}: {error.strerror or error}.") from error
    if data[4:8] != b"TFL3":
        raise LiteRTError(f"{path}: not a .tflite file{_what_instead(data)}.")
    try:
        return data, _parsed(data)
    except ValueError as error:
        raise LiteRTError(f"{path}: damaged ({error}); convert or download it again.") from error


def _what_instead(data: bytes) -> str:
    if not data:
        return " (empty); convert or copy it again"
    if data.startswith(b"PK"):
        return ", but a .keras file or another zip; convert it with fd-keras convert --keras_model=FILE"
    return " (no TFL3 identifier); convert or download it again"


def read_labels(path: str | os.PathLike) -> tuple[str, ...] | None:
    """Reads the class names from the archive at the end of a .tflite file, where TFLite's task tools store them.

    Returns:
        The names in label order, or None if the file has none.

    Raises:
        LiteRTError: If the archive is damaged or the names are not UTF-8.
    """
    path = os.fspath(path)
    if not zipfile.is_zipfile(path):
        return None
    try:
        with zipfile.ZipFile(path) as archive:
            texts = [entry for entry in archive.infolist() if entry.filename.endswith(".txt")]
            entry = next((entry for entry in texts if entry.filename == LABELS_FILE or len(texts) == 1), None)
            return None if entry is None else _lines(archive, entry)
    # zipfile raises RuntimeError for encrypted entries and unsupported compression.
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, ValueError) as error:
        raise LiteRTError(f"{path}: its class names are damaged ({error}); convert or download it again.") from error


def _lines(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> tuple[str, ...]:
    with archive.open(entry) as file:
        data = file.read(_LARGEST_LABELS + 1)
    _check(len(data) <= _LARGEST_LABELS, f"larger than {_LARGEST_LABELS >> 20} MiB")
    return tuple(line.rstrip("\r") for line in data.decode().rstrip("\n").split("\n"))


def interpreter_class() -> Any:
    """LiteRT's interpreter; raises ImportError with the install command if it is missing."""
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError as error:
        raise ImportError("Running .tflite files needs LiteRT: pip install ai-edge-litert") from error
    return Interpreter


def kind_of(model: Any, op: Any) -> str:
    """The name of an operator, such as "CONV_2D"; its code is in an 8-bit field or, if above 127, in a newer one."""
    from ai_edge_litert import schema_py_generated as schema

    code = model.operatorCodes[op.opcodeIndex]
    return _names(schema.BuiltinOperator)[max(code.builtinCode, code.deprecatedBuiltinCode)]


def type_of(tensor: Any) -> str:
    """The type of a tensor as spelled in the schema, such as "INT8"."""
    from ai_edge_litert import schema_py_generated as schema

    return _names(schema.TensorType)[tensor.type]


@functools.cache
def _names(enum: type) -> dict[int, str]:
    return {code: name for name, code in vars(enum).items() if isinstance(code, int)}


def _parsed(data: bytes) -> Any:
    """Parses and validates a file; returns a `schema.ModelT`, or raises ValueError with the reason."""
    _check_form(data)
    from ai_edge_litert import schema_py_generated as schema

    model: Any = schema.ModelT.InitFromPackedBuf(data, 0)
    _check(bool(model.subgraphs), "it holds no network")
    for buffer in _list(model.buffers):
        _check(buffer.offset + buffer.size <= len(data), "values lie beyond the end of the file")
    for code in _list(model.operatorCodes):
        number = max(code.builtinCode, code.deprecatedBuiltinCode)
        kind = _names(schema.BuiltinOperator).get(number, "PLACEHOLDER")
        _check(not kind.startswith("PLACEHOLDER"), f"operator {number} is not known")
    for graph in model.subgraphs:
        _Graph(model, graph).validate()
    for signature in _list(model.signatureDefs):
        _check(signature.subgraphIndex < len(model.subgraphs), "a signature is of a network that is not there")
        tensors = _list(model.subgraphs[signature.subgraphIndex].tensors)
        for entry in _list(signature.inputs) + _list(signature.outputs):
            _check(entry.tensorIndex < len(tensors), "a signature names a tensor that is not there")
    return model


def _check_form(data: bytes) -> None:
    """Raises ValueError unless all tables and vectors lie inside the file and fit its size."""
    interpreter = interpreter_class()
    from ai_edge_litert.interpreter import OpResolverType

    try:
        interpreter(model_content=data, experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES)
    except (RuntimeError, ValueError) as error:
        if "Flatbuffer" in str(error):  # other errors are about operators that LiteRT does not support
            raise ValueError("cut off, or not a valid flatbuffer") from error


def _check(condition: bool, fault: str) -> None:
    if not condition:
        raise ValueError(fault)


def _is_text(name: bytes | None) -> bool:
    try:
        return (name or b"").decode() is not None
    except UnicodeDecodeError:
        return False


def _list(values: Any) -> list:
    """Converts a vector of the generated code to a list; it is None if the file has none."""
    return [] if values is None else list(values)


class _Graph:
    """Validates one network of a file; each method raises ValueError with the fault that it finds."""

    def __init__(self, model: Any, graph: Any):
        self._model, self._buffers = model, _list(model.buffers)
        self._tensors, self._ops = _list(graph.tensors), _list(graph.operators)
        self._inputs, self._outputs = _list(graph.inputs), _list(graph.outputs)
        self._known: set[int] = set()  # tensors that have values so far

    def validate(self) -> None:
        for index, tensor in enumerate(self._tensors):
            self._check_tensor(tensor, f"tensor {index}")
        self._known = {index for index, tensor in enumerate(self._tensors) if self._has_values(tensor)}
        for index in self._inputs:
            self._check_index(index, "an input")
            _check(not self._constant(index), f"the input, tensor {index}, is constant")
        self._known |= set(self._inputs)
        for number, op in enumerate(self._ops):
            self._check_op(op, f"operation {number}")
        for index in self._outputs:
            self._check_index(index, "an output")
            _check(index in self._known, f"the output, tensor {index}, is never computed")

    def _check_index(self, index: int, what: str) -> None:
        _check(0 <= index < len(self._tensors), f"{what} is tensor {index} of {len(self._tensors)}")

    def _check_tensor(self, tensor: Any, what: str) -> None:
        from ai_edge_litert import schema_py_generated as schema

        _check(tensor.type in _names(schema.TensorType), f"{what} is of type {tensor.type}, which is not known")
        _check(0 <= tensor.buffer < len(self._buffers), f"{what} has values {tensor.buffer} of {len(self._buffers)}")
        _check(_is_text(tensor.name), f"{what} has a name that is not UTF-8")
        _check(not tensor.externalBuffer, f"{what} has its values in another file")
        _check(tensor.sparsity is None, f"{what} is sparse, which is not supported")
        shape = [int(side) for side in _list(tensor.shape)]
        _check(min(shape, default=0) >= 0 and len(shape) <= 8, f"{what} has the shape {shape}")
        size = -(-math.prod(shape) * BITS.get(type_of(tensor), 8) // 8)
        _check(size < _LARGEST, f"{what} has the shape {shape}, which is too large")
        if type_of(tensor) not in _UNSIZED:
            stored = _stored(self._buffers[tensor.buffer])
            _check(stored in (0, size), f"{what} has {stored} bytes of values where its shape {shape} needs {size}")
        if tensor.quantization is not None:
            _check_quantization(type_of(tensor), shape, tensor.quantization, what)

    def _constant(self, index: int) -> bool:
        return _stored(self._buffers[self._tensors[index].buffer]) > 0

    def _has_values(self, tensor: Any) -> bool:
        """Whether a tensor has values before anything runs: constants, state, and tensors without elements."""
        stored = _stored(self._buffers[tensor.buffer])
        return bool(stored or tensor.isVariable or 0 in _list(tensor.shape) or type_of(tensor) in _UNSIZED)

    def _check_op(self, op: Any, what: str) -> None:
        codes = _list(self._model.operatorCodes)
        _check(0 <= op.opcodeIndex < len(codes), f"{what} has operator {op.opcodeIndex} of {len(codes)}")
        kind = kind_of(self._model, op)
        what = f"{what}, {kind},"
        inputs, outputs = _list(op.inputs), _list(op.outputs)
        for index in inputs:
            if index != -1 or not kind.endswith(_LEAVING_OUT):
                self._check_index(index, f"an input of {what}")
                _check(index in self._known, f"{what} reads tensor {index} before it is computed")
        for index in outputs:
            self._check_index(index, f"an output of {what}")
            _check(not self._constant(index), f"{what} writes tensor {index}, which is constant")
            _check(index not in self._known or self._tensors[index].isVariable, f"{what} writes tensor {index} again")
            self._known.add(index)
        if kind in _KEEPING_TYPE:
            self._check_types(kind, inputs, outputs, what)

    def _check_types(self, kind: str, inputs: list[int], outputs: list[int], what: str) -> None:
        least = _LEAST_INPUTS.get(kind, 1)
        _check(len(inputs) >= least and len(outputs) == 1 and -1 not in inputs[:least], f"{what} lacks tensors")
        first, last = (self._tensors[index] for index in (inputs[0], outputs[0]))
        _check(first.type == last.type, f"{what} makes {type_of(last)} of {type_of(first)}")
        self._check_scales(kind, inputs, last, what)
        if kind not in _WEIGHTED:
            return
        kernel, rank = self._tensors[inputs[1]], 2 if kind == "FULLY_CONNECTED" else 4
        _check(len(_list(kernel.shape)) == rank, f"{what} has a kernel of shape {list(map(int, _list(kernel.shape)))}")
        _check(bool(_list(last.shape)), f"{what} has an output without dimensions")
        if type_of(first) in _QUANTIZED:
            _check(all(_scales(tensor) for tensor in (first, last)), f"{what} has a tensor without scale")

    def _check_scales(self, kind: str, inputs: list[int], output: Any, what: str) -> None:
        """Checks the factor of integer kernels, the input scales divided by the output scale, which is fixed-point."""
        of_inputs = [_largest_scale(self._tensors[index]) for index in inputs if index != -1]
        factor = math.prod(of_inputs[:2]) if kind in (*_WEIGHTED, "MUL") else max(of_inputs)
        if type_of(output) in _QUANTIZED and _scales(output) and kind not in _OF_FIXED_SCALE:
            _check(factor < _LARGEST_FACTOR * _largest_scale(output), f"{what} has scales too large for its output's")


def _largest_scale(tensor: Any) -> float:
    return float(max(tensor.quantization.scale)) if _scales(tensor) else 0.0


def _stored(buffer: Any) -> int:
    """Bytes of a constant, which is in the flatbuffer or, in large files, after it."""
    return buffer.size if buffer.data is None else len(buffer.data)


def _scales(tensor: Any) -> int:
    return 0 if tensor.quantization is None else len(_list(tensor.quantization.scale))


def _check_quantization(dtype: str, shape: list[int], quantization: Any, what: str) -> None:
    scales, zeros = np.asarray(_list(quantization.scale)), np.asarray(_list(quantization.zeroPoint))
    axis = quantization.quantizedDimension
    _check(len(scales) < 2 or 0 <= axis < len(shape), f"{what} has scales along dimension {axis}")
    _check(len(scales) < 2 or len(scales) == shape[axis], f"{what} has {len(scales)} scales for its shape {shape}")
    _check(len(zeros) in (0, len(scales)), f"{what} has {len(zeros)} zero points for {len(scales)} scales")
    if dtype in _QUANTIZED and len(scales):
        low, high = _QUANTIZED[dtype]
        plausible = (scales > _SCALES[0]) & (scales < _SCALES[1])  # nor NaN
        _check(bool(np.all(plausible)), f"{what} has a scale that is not a positive number of usual size")
        _check(bool(np.all((zeros >= low) & (zeros <= high))), f"{what} has a zero point out of the range of {dtype}")
