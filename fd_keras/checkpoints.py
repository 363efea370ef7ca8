"""Strict, name-by-name import of checkpoints from this project and others.

Each reader converts a file to `{key: array}`; each naming maps every variable of the network to keys of the file.
`read` checks that each key is used exactly once and that all shapes match before it returns anything. No code from a
file is ever run.
"""

import collections
import contextlib
import dataclasses
import io
import math
import os
import pickle
import re
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from fd_keras.errors import UntrustedFileError
from fd_keras.spec import Op

State = dict[str, np.ndarray]
Weights = dict[str, list[np.ndarray]]  # layer name -> its weights, in the order of `layer.get_weights()`

_BATCH_NORM = ("gamma", "beta", "moving_mean", "moving_variance")


class CheckpointError(ValueError):
    """A checkpoint that cannot be used: damaged, for another network, or unsafe. The message names the file."""


@dataclasses.dataclass(frozen=True)
class Variable:
    """One variable of the network.

    Attributes:
        op: Op of the variable.
        layer: Name of the Keras layer.
        weight: Role in the layer: kernel, bias, gamma, beta, moving_mean or moving_variance.
        shape: Shape in Keras's layout.
    """

    op: Op
    layer: str
    weight: str
    shape: tuple[int, ...]


def variables(ops: Sequence[Op]) -> Iterator[Variable]:
    """All variables of a lowered network, layer by layer in Keras's order."""
    for op in ops:
        if op.kernel_shape:
            yield Variable(op, op.name, "kernel", op.kernel_shape)
        if op.kind == "dense":
            yield Variable(op, op.name, "bias", (op.cout,))
        if op.batch_norm:
            for weight in _BATCH_NORM:
                yield Variable(op, f"{op.name}_bn", weight, (op.cout,))


# --- namings -----------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class KeySource:
    """Source of a variable: the keys whose arrays, each converted, are concatenated along the last axis."""

    keys: tuple[str, ...]
    convert: Callable[[np.ndarray], np.ndarray] = lambda array: array

    def take(self, state: State) -> np.ndarray:
        """The variable's value; raises KeyError for a key that the file lacks."""
        return np.concatenate([self.convert(state[key]) for key in self.keys], axis=-1)


Naming = Callable[[Sequence[Op]], Iterator[tuple[Variable, KeySource]]]


def keras_naming(ops: Sequence[Op]) -> Iterator[tuple[Variable, KeySource]]:
    """Naming of Keras's own files: "layer/0", "layer/1" ... in the order of the layer's weights."""
    seen = collections.Counter()
    for variable in variables(ops):
        yield variable, KeySource((f"{variable.layer}/{seen[variable.layer]}",))
        seen[variable.layer] += 1


_TORCH_WEIGHTS = {
    "kernel": "weight",
    "bias": "bias",
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}
_TORCH_AXES = {"conv": (2, 3, 1, 0), "depthwise": (2, 3, 0, 1), "dense": (1, 0)}  # to Keras's order


def authors_naming(ops: Sequence[Op]) -> Iterator[tuple[Variable, KeySource]]:
    """Naming of the authors' torch code (qinzheng93/FD-MobileNet, pyvision/models/ImageNet/MobileNet.py)."""
    for variable in variables(ops):
        op, layer = variable.op, "norm" if variable.layer.endswith("_bn") else "conv"
        if op.kind == "dense":
            module = "classifier"
        elif op.name == "conv1":
            module = f"features.{layer}_0"
        else:
            _, part, index = op.name.split("_")  # conv_dw_3
            module = f"features.{part}_{layer}_{int(index) - 1}"
        axes = _TORCH_AXES[op.kind] if variable.weight == "kernel" else (0,)
        key = f"{module}.{_TORCH_WEIGHTS[variable.weight]}"
        yield variable, KeySource((key,), lambda array, axes=axes: _permuted(array, axes))


def _permuted(array: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    return array.transpose(axes) if array.ndim == len(axes) else array  # a wrong rank is reported as a shape


def imgclsmob_naming(ops: Sequence[Op]) -> Iterator[tuple[Variable, KeySource]]:
    """Naming of imgclsmob's TensorFlow 2 code (osmr/imgclsmob, tensorflow2/tf2cv/models), shortened as on reading."""
    units = _imgclsmob_units(ops)
    for variable in variables(ops):
        op, unit = variable.op, units[variable.op.name]
        if op.kind == "dense":
            keys = [f"output1/{variable.weight}"]
        elif variable.weight != "kernel":
            keys = [f"{unit.norm}/{variable.weight}"]
        elif op.kind == "depthwise":
            keys = [f"{unit.conv}/dw_conv/depthwise_kernel"]
        elif op.groups == 1:
            keys = [_shortened(f"{unit.conv}/conv/kernel")]
        else:
            keys = [f"{unit.conv}/convgroup{group + 1}/kernel" for group in range(op.groups)]
        yield variable, KeySource(tuple(keys))


@dataclasses.dataclass(frozen=True)
class _Unit:
    """Prefixes of a convolution's kernel and of its batch normalization in imgclsmob's keys."""

    conv: str
    norm: str


def _imgclsmob_units(ops: Sequence[Op]) -> dict[str, _Unit]:
    units, stage, index = {}, 0, 0
    for op in ops:
        shuffle_unit = re.fullmatch(r"stage(\d+)_unit(\d+)_(compress|dw|expand)", op.name)
        if shuffle_unit:
            stage, index, part = int(shuffle_unit[1]) - 1, int(shuffle_unit[2]), shuffle_unit[3]
            number = {"compress": 1, "dw": 2, "expand": 3}[part]
            prefix = f"stage{stage}/unit{index}/{part}"
            units[op.name] = _Unit(f"{prefix}_conv{number}", f"{prefix}_bn{number}")
            continue
        if op.kind == "depthwise":  # starts a unit; a stride (or the first unit) starts a stage
            stage, index = (stage + 1, 1) if op.stride > 1 or not stage else (stage, index + 1)
        part = "dw_conv" if op.kind == "depthwise" else "pw_conv"
        prefix = f"stage{stage}/unit{index}/{part}" if stage else "init_block"
        units[op.name] = _Unit(f"{prefix}/conv", f"{prefix}/bn")
    return units


# --- readers -----------------------------------------------------------------------------------------------


def read_keras(path: str) -> State:
    """Reads a `.keras` or `.weights.h5` file as {"layer/0": array, ...}, keyed by the layers' names."""
    from fd_keras import hdf5

    file: str | io.BytesIO = path
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            file = io.BytesIO(hdf5.read_member(archive, "model.weights.h5"))
        hdf5.check(file)
    state: State = {}
    for name, dataset, values in hdf5.arrays(file, skip="optimizer/"):
        if "seed_generator" not in name:
            layer = dataset.parent.attrs.get("name", dataset.parent.parent.name)
            state[f"{layer}/{name.rsplit('/', 1)[1]}"] = values
    return state


def read_whole_keras_h5(path: str) -> State:
    """Reads an .h5 file of `model.save` from an older Keras; the keys are those of `read_keras`."""
    from fd_keras import hdf5

    state: State = {}
    counts = collections.Counter()
    values = {name: array for name, _, array in hdf5.arrays(path, skip="optimizer_weights/")}
    for layer, names in hdf5.weight_names(path, "model_weights"):
        for name in names:
            state[f"{layer}/{counts[layer]}"] = values[f"model_weights/{layer}/{name}"]
            counts[layer] += 1
    return state


def read_imgclsmob(path: str) -> State:
    """Reads an imgclsmob `.tf2.h5` (legacy Keras layout), with its keys shortened to their distinct parts.

    The groups repeat names ("features/features/stage1/stage1/unit1"); the number of repetitions depends on the Keras
    version. Repetitions and everything before the first block's name are dropped, which leaves "stage1/unit1/...".
    """
    from fd_keras import hdf5

    state: State = {}
    for name, _, values in hdf5.arrays(path):
        key = _shortened(name)
        if key in state:
            raise CheckpointError(f"{path}: two variables have the name {key!r}.")
        state[key] = values
    return state


def _shortened(name: str) -> str:
    parts = name.split(":")[0].split("/")
    parts = [part for i, part in enumerate(parts) if i == 0 or part != parts[i - 1]]
    starts = (i for i, part in enumerate(parts) if re.fullmatch(r"init_block|stage\d+|output1", part))
    return "/".join(parts[next(starts, 0) :])


_TORCH_MAGIC = 0x1950A86A20F9469CFC6C
_TORCH_DTYPES = {
    "DoubleStorage": "<f8",
    "FloatStorage": "<f4",
    "HalfStorage": "<f2",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
}


class _Tensor(NamedTuple):
    """A tensor of a torch file: a view into a storage that comes later in the file.

    This is a tuple so that no pickle opcode can change its attributes.
    """

    key: str
    dtype: str
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


def _array(tensor: _Tensor, storages: dict[str, bytes]) -> np.ndarray:
    """The tensor's values, from the storages that have been read."""
    flat = np.frombuffer(storages[tensor.key], tensor.dtype)
    offset, size, stride = tensor.offset, tensor.size, tensor.stride
    last = offset + sum((n - 1) * s for n, s in zip(size, stride, strict=True))
    if min((offset, *size, *stride)) < 0 or (0 not in size and last >= flat.size):
        raise CheckpointError("a tensor reaches outside its storage")
    if math.prod(size) > flat.size:
        raise CheckpointError("a tensor is larger than its storage")
    return np.lib.stride_tricks.as_strided(flat[offset:], size, [step * flat.itemsize for step in stride]).copy()


def _rebuild(storage: tuple, offset: int, size: Sequence[int], stride: Sequence[int], *_) -> _Tensor:
    """Replaces torch's `_rebuild_tensor` functions."""
    key, dtype = storage
    return _Tensor(key, dtype, offset, tuple(size), tuple(stride))


class _TorchUnpickler(pickle.Unpickler):
    """Unpickles the structure of a legacy torch file; allows only the few names that it needs."""

    def find_class(self, module: str, name: str):
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        if module == "torch" and name in _TORCH_DTYPES:
            return _TORCH_DTYPES[name]
        if module == "torch._utils" and name in ("_rebuild_tensor", "_rebuild_tensor_v2"):
            return _rebuild
        raise CheckpointError(
            f"it imports {module}.{name}, which a checkpoint of tensors does not need; nothing was run. "
            "Do not trust this file"
        )

    def persistent_load(self, pid):
        kind, dtype, key, *_ = pid
        if kind != "storage":
            raise CheckpointError(f"it refers to an unknown kind of object, {kind!r}")
        return key, dtype


def read_torch(path: str) -> State:
    """Reads a legacy torch checkpoint (before torch 1.6's zip format) without torch.

    Takes {"state_dict": ...} or the bare dict; a "module." prefix (torch's DataParallel) and torch's
    `num_batches_tracked` counters are dropped.
    """
    with open(path, "rb") as file:
        header = [_TorchUnpickler(file, encoding="utf-8").load() for _ in range(3)]
        if header[0] != _TORCH_MAGIC:
            raise CheckpointError("it is not a torch checkpoint")
        outline = _TorchUnpickler(file, encoding="utf-8").load()
        keys = _TorchUnpickler(file, encoding="utf-8").load()
        tensors = outline.get("state_dict", outline) if isinstance(outline, dict) else None
        if not (isinstance(tensors, dict) and all(isinstance(t, _Tensor) for t in tensors.values())):
            raise CheckpointError("it does not contain a dict of tensors")
        sizes = {t.key: np.dtype(t.dtype).itemsize for t in _all_tensors(outline)}
        storages = {key: _read_storage(file, sizes[key]) for key in keys}
    state = {name.removeprefix("module."): _array(tensor, storages) for name, tensor in tensors.items()}
    return {name: array for name, array in state.items() if not name.endswith("num_batches_tracked")}


def _all_tensors(outline) -> Iterator[_Tensor]:
    """All tensors in the unpickled structure (a training checkpoint also has the optimizer's).

    Each object is visited once, so cycles and repeated references take no extra time.
    """
    waiting, seen = [outline], set()
    while waiting:
        item = waiting.pop()
        if id(item) in seen:
            continue
        seen.add(id(item))
        if isinstance(item, _Tensor):
            yield item
        elif isinstance(item, dict | list | tuple):
            waiting.extend(item.values() if isinstance(item, dict) else item)


def _read_storage(file: io.BufferedReader, itemsize: int) -> bytes:
    (count,) = struct.unpack("<q", file.read(8))
    nbytes = count * itemsize
    data = file.read(nbytes) if 0 <= nbytes <= os.fstat(file.fileno()).st_size else b""
    if len(data) != nbytes:
        raise CheckpointError("it is truncated")
    return data


# --- import ------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Format:
    """A checkpoint format: its title for messages, its reader, and its naming of variables."""

    title: str
    read: Callable[[str], State]
    naming: Naming


KERAS = Format("Keras weights", read_keras, keras_naming)
WHOLE_KERAS = Format("Keras model", read_whole_keras_h5, keras_naming)
IMGCLSMOB = Format("imgclsmob checkpoint", read_imgclsmob, imgclsmob_naming)
TORCH = Format("torch checkpoint of the FD-MobileNet authors", read_torch, authors_naming)


def detect(path: str) -> Format:
    """Detects a file's format by its content.

    Raises:
        CheckpointError: If the format is not supported.
        OSError: If the file cannot be read.
    """
    with open(path, "rb") as file:
        head = file.read(512)
    if head.startswith(b"\x89HDF"):
        return _detect_hdf5(path)
    if head.startswith(b"PK"):
        return _detect_zip(path)
    if head.startswith(b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19"):
        return TORCH
    if not head:
        raise CheckpointError(f"{path}: the file is empty; download or save it again.")
    if re.match(rb"\s*<(!doctype|html|\?xml)", head, re.IGNORECASE):
        raise CheckpointError(
            f"{path}: a web page, not weights; the download returned an error or preview page. "
            "Download the file itself."
        )
    raise CheckpointError(f"{path}: not a supported checkpoint. {_ACCEPTED}")


_ACCEPTED = (
    "Supported are .keras, .weights.h5, the .h5 of model.save, imgclsmob's .tf2.h5 and the authors' .pth.tar (legacy "
    "torch format)."
)


def _detect_hdf5(path: str) -> Format:
    import h5py

    from fd_keras import hdf5

    with _reporting(path, "HDF5 file"):
        hdf5.check(path)
    with _reporting(path, "HDF5 file"), h5py.File(path, "r") as h5:
        if "layer_names" in h5.attrs:
            return IMGCLSMOB
        return WHOLE_KERAS if "model_weights" in h5 else KERAS


def _detect_zip(path: str) -> Format:
    with _reporting(path, "zip file"), zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    if "model.weights.h5" in names:
        return KERAS
    if any(name.endswith("data.pkl") for name in names):
        raise CheckpointError(
            f"{path}: torch's zip format is not supported; save it in the legacy format with "
            "torch.save(..., _use_new_zipfile_serialization=False)."
        )
    if any(name.endswith(".h5") for name in names):
        raise CheckpointError(f"{path}: a zip with {', '.join(names)} inside; unzip it and pass the .h5.")
    raise CheckpointError(f"{path}: a zip file without weights. {_ACCEPTED}")


# Exceptions that readers raise for damaged files.
_BROKEN = (
    AttributeError,
    EOFError,
    IndexError,
    KeyError,
    MemoryError,
    OSError,
    OverflowError,
    RuntimeError,
    TypeError,
    ValueError,
    pickle.UnpicklingError,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
)


@contextlib.contextmanager
def _reporting(path: str, title: str) -> Iterator[None]:
    """Converts the exceptions that damaged files cause to a CheckpointError that names the file."""
    try:
        yield
    except CheckpointError as error:
        if str(error).startswith(path):
            raise
        raise CheckpointError(f"{path}: {error}.") from error
    except UntrustedFileError as error:
        raise CheckpointError(f"{path}: {error}.") from error
    except (FileNotFoundError, PermissionError):
        raise
    except _BROKEN as error:
        raise CheckpointError(
            f"{path}: the {title} is damaged or truncated ({error}); download or save it again."
        ) from error


def read(path: str | os.PathLike, ops: Sequence[Op], explain: Callable[[State, Format], str] | None = None) -> Weights:
    """Reads a checkpoint for a lowered network.

    Args:
        path: `.keras`, `.weights.h5`, `.h5` of `model.save`, imgclsmob `.tf2.h5` or legacy torch file, detected by its
            content.
        ops: Ops of the network. If they have no classifier, the file's classifier is ignored; every other key of the
            file must be used exactly once.
        explain: Function that is called if the file does not fit; returns a sentence on the argument to change, or "".

    Returns:
        The weights by layer name, complete and with the right shapes.

    Raises:
        CheckpointError: If a key is missing, unused or has the wrong shape; the message has the file and the key.
        OSError: If the file cannot be opened.
    """
    path = os.fspath(path)
    file_format = detect(path)
    with _reporting(path, file_format.title):
        state = file_format.read(path)
    problem = mismatch(state, file_format, ops)
    if problem:
        advice = explain(state, file_format) if explain else ""
        raise CheckpointError(f"{path}: {problem} {advice}".rstrip())
    weights: Weights = {}
    for variable, source in file_format.naming(ops):
        if fault := _fault([state[key] for key in source.keys]):
            raise CheckpointError(f"{path}: key {source.keys[0]!r} {fault}; train or download the weights again.")
        weights.setdefault(variable.layer, []).append(source.take(state).astype("float32"))
    return weights


def _fault(arrays: Sequence[np.ndarray]) -> str:
    """Why arrays are not valid weights, or ""."""
    for array in arrays:
        if array.dtype.kind != "f":
            return f"has type {array.dtype} instead of floating point"
        with np.errstate(over="ignore"):  # values too large for float32 become infinite
            if not np.isfinite(array.astype("float32")).all():
                return "has NaN or infinite values"
    return ""


def mismatch(state: State, file_format: Format, ops: Sequence[Op]) -> str:
    """The first reason why a file's content does not fit the network, or ""."""
    try:
        sources = list(file_format.naming(ops))
    except (KeyError, ValueError):
        return f"the {file_format.title} cannot have weights of this network (the format is for MobileNets)."
    used: set[str] = set()
    for variable, source in sources:
        missing = [key for key in source.keys if key not in state]
        if missing:
            return f"the {file_format.title} has no key {missing[0]!r}, which {variable.layer} needs."
        try:
            shape = source.take(state).shape
        except ValueError:
            shape = tuple(state[key].shape for key in source.keys)
        if shape != variable.shape:
            return (
                f"key {source.keys[0]!r} has shape {shape}, but the {variable.weight} of {variable.layer} has shape "
                f"{variable.shape}."
            )
        used.update(source.keys)
    left = [key for key in state if key not in used and not _is_classifier(key, ops)]
    if left:
        return f"key {left[0]!r} (one of {len(left)}) in the {file_format.title} belongs to no layer of the model."
    return ""


def _is_classifier(key: str, ops: Sequence[Op]) -> bool:
    """Whether the key belongs to a classifier that the model does not have."""
    return ops[-1].kind != "dense" and key.startswith(("predictions/", "output1/", "classifier."))
