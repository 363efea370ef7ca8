"""Writes a .tflite file as a C++ array, for microcontrollers without a file system."""

import os
from collections.abc import Iterator

from fd_keras.io import printable, sha256_of, write_atomically
from fd_keras.source_code import cpp_numbers, identifier
from fd_keras.tflite.format.flatbuffer import read
from fd_keras.tflite.format.network import FileNetwork, FileTensor
from fd_keras.tflite.memory.arena import ALIGNMENT, plan, tflm_bytes
from fd_keras.tflite.output import writing

# Methods of tflite::MicroMutableOpResolver whose names differ from the schema's names in CamelCase.
_METHODS = {"PADV2": "PadV2"}
# Ops that this package's files use and that TensorFlow Lite Micro supports.
_SUPPORTED = {
    "ADD",
    "AVERAGE_POOL_2D",
    "CONCATENATION",
    "CONV_2D",
    "DEPTHWISE_CONV_2D",
    "DEQUANTIZE",
    "FULLY_CONNECTED",
    "LOGISTIC",
    "MAX_POOL_2D",
    "MEAN",
    "MUL",
    "PAD",
    "PADV2",
    "QUANTIZE",
    "RELU",
    "RELU6",
    "RESHAPE",
    "SLICE",
    "SOFTMAX",
    "SPLIT",
    "SUB",
    "TRANSPOSE",
}

_HEADER = """\
// {file}, {size:,} bytes, as an array for TensorFlow Lite Micro (TFLM).
// sha256 {sha256}
// input:  {input}
// output: {output}
#ifndef {guard}
#define {guard}

#include <cstddef>

namespace {space} {{

alignas({alignment}) extern const unsigned char kModel[];
constexpr std::size_t kModelSize = {size};

// The activations, as TFLM or the file itself plans them.
constexpr std::size_t kActivationBytes = {activations};
// Estimated size of the tensor arena: the activations, and {tflm} bytes for TFLM's tables and for a multiplier and a
// shift per channel, as on a 64-bit machine. A vendor's kernels may need additional scratch memory: measure with
// MicroInterpreter::arena_used_bytes().
constexpr std::size_t kArenaSize = {arena};

// Adds the operations of this network to a tflite::MicroMutableOpResolver<kOpCount>. Returns false if one is rejected.
constexpr unsigned int kOpCount = {op_count};
template <typename Resolver>
bool AddOps(Resolver& resolver) {{
  return {add_ops};
}}

}}  // namespace {space}

#endif  // {guard}
"""

_SOURCE = """\
#include "{header}"

namespace {space} {{

alignas({alignment}) const unsigned char kModel[] = {{
{rows}
}};

}}  // namespace {space}
"""


def write_c_array(path: str) -> Iterator[str]:
    """Writes NAME.h and NAME.cc beside NAME.tflite, and yields their paths.

    Raises:
        LiteRTError: If the .tflite file cannot be read.
        ValueError: If the file has an op that TFLM does not support; the message names it.
    """
    stem = os.path.splitext(path)[0]
    texts = c_array(path, os.path.basename(stem))
    paths = f"{stem}.h", f"{stem}.cc"
    with writing(paths[0], replaced=paths[1]):
        for file, text in zip(paths, texts, strict=True):
            write_atomically(file, text.encode())
    yield from paths


def c_array(path: str, name: str) -> tuple[str, str]:
    """Formats the header and the source of an array; raises the same errors as `write_c_array`.

    Args:
        path: Path of the .tflite file.
        name: Name of the two files without a suffix, from which the namespace is derived.
    """
    with open(path, "rb") as file:
        data = file.read()
    space = identifier(name)
    common = {"space": space, "alignment": ALIGNMENT, "header": f"{name}.h"}
    return _HEADER.format(**common, **_facts(path, space)), _SOURCE.format(**common, rows=cpp_numbers(data))


def _facts(path: str, space: str) -> dict:
    network = read(path).network
    try:
        methods = [f"resolver.{method}() == 0" for method in resolver_methods(network)]  # kTfLiteOk is 0
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    activations, tflm = plan(network).arena, tflm_bytes(network)
    return {
        "file": printable(os.path.basename(path)),
        "size": os.path.getsize(path),
        "sha256": sha256_of(path),
        "input": ", ".join(_described(network.tensors[index]) for index in network.inputs),
        "output": ", ".join(_described(network.tensors[index]) for index in network.outputs),
        "guard": f"{space.upper()}_H_",
        "activations": activations,
        "tflm": tflm,
        "arena": -(-(activations + tflm) // ALIGNMENT) * ALIGNMENT,
        "op_count": len(methods),
        "add_ops": " &&\n         ".join(methods),
    }


def resolver_methods(network: FileNetwork) -> list[str]:
    """Names of the MicroMutableOpResolver methods that add the ops of a network.

    Raises:
        ValueError: If TFLM does not support an op.
    """
    kinds = sorted({op.kind for op in network.ops})
    unknown = [kind for kind in kinds if kind not in _SUPPORTED]
    if unknown:
        raise ValueError(f"contains the operation {unknown[0]}, which is not known to run on microcontrollers.")
    return [f"Add{_METHODS.get(kind) or _capitalized(kind)}" for kind in kinds]


def _capitalized(kind: str) -> str:
    """Converts a name such as DEPTHWISE_CONV_2D to DepthwiseConv2D."""
    return "".join(part.capitalize() for part in kind.split("_")).replace("2d", "2D")


def _described(tensor: FileTensor) -> str:
    return f"{tensor.dtype.lower()} [{', '.join(map(str, tensor.shape))}]"
