"""Checkpoints of runs: the whole state after a step, written atomically to one file.

A file is a zip of plain arrays and JSON (NumPy's .npz). It is read without unpickling, so an untrusted checkpoint
cannot run code. The zip's checksums detect damage.
"""

import io
import json
import re
import zipfile
from collections.abc import Callable, Sequence

import keras
import numpy as np
import tensorflow as tf

from fd_keras.checkpoints import CheckpointError
from fd_keras.io import join, read_bytes, write_atomically

_NAME = re.compile(r"step_(\d{9})\.npz")
_META = "meta.json"


def keyed(variables: Sequence[keras.Variable]) -> dict[str, keras.Variable]:
    """Returns the variables by keys made of their position and path."""
    return {f"{index:04d}/{variable.path}": variable for index, variable in enumerate(variables)}


def save(folder: str, step: int, variables: Sequence[keras.Variable], meta: dict, keep: int) -> str:
    """Writes a checkpoint and deletes all but the last `keep`.

    Args:
        folder: Folder of the checkpoints.
        step: Number of steps done, part of the file name.
        variables: Variables of the run, always in the same order.
        meta: State that is not in variables; must be serializable as JSON.
        keep: Number of checkpoints to keep, at least 1.

    Returns:
        The path of the checkpoint.
    """
    arrays = {key: variable.numpy() for key, variable in keyed(variables).items()}
    arrays[_META] = np.frombuffer(json.dumps(meta).encode(), "uint8")
    content = io.BytesIO()
    np.savez(content, **arrays)
    path = join(folder, f"step_{step:09d}.npz")
    write_atomically(path, content.getvalue())
    for old in saved(folder)[:-keep]:
        tf.io.gfile.remove(old)
    return path


def saved(folder: str) -> list[str]:
    """Returns the paths of the checkpoints in a folder, oldest first."""
    if not tf.io.gfile.isdir(folder):
        return []
    return [join(folder, name) for name in sorted(tf.io.gfile.listdir(folder)) if _NAME.fullmatch(name)]


def read(path: str) -> tuple[dict[str, np.ndarray], dict]:
    """Reads a checkpoint.

    Returns:
        The arrays by key, and the metadata.

    Raises:
        CheckpointError: If the file is damaged or not a checkpoint.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(read_bytes(path))) as archive:
            arrays = {member.filename.removesuffix(".npy"): _array(archive, member) for member in archive.infolist()}
        meta = json.loads(arrays.pop(_META).tobytes())
    except Exception as error:  # a flipped bit makes zipfile and NumPy raise almost anything
        raise CheckpointError(f"{path}: damaged ({error}).") from error
    if not isinstance(meta, dict):
        raise CheckpointError(f"{path}: damaged ({_META} is not an object).")
    return arrays, meta


def _array(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> np.ndarray:
    """Reads an uncompressed array, which cannot be larger than the file. Raises ValueError for anything else."""
    if member.compress_type != zipfile.ZIP_STORED or member.file_size != member.compress_size:
        raise ValueError(f"{member.filename} is compressed")  # a small compressed file may expand to a huge array
    content = io.BytesIO(archive.read(member))
    if np.lib.format.read_magic(content) != (1, 0):
        raise ValueError(f"{member.filename} is not an array of version 1.0")
    shape, fortran, dtype = np.lib.format.read_array_header_1_0(content)
    if dtype.hasobject:
        raise ValueError(f"{member.filename} contains Python objects")
    return np.frombuffer(content.read(), dtype).reshape(shape, order="F" if fortran else "C")


def assign(path: str, arrays: dict[str, np.ndarray], variables: Sequence[keras.Variable]) -> None:
    """Assigns the values of a checkpoint to the variables, to all of them or none.

    Raises:
        CheckpointError: If names, shapes or types differ; the message names the first variable that differs.
    """
    expected = keyed(variables)
    differing = sorted(set(arrays) ^ set(expected)) or [
        key for key, variable in expected.items() if _kind(variable) != (arrays[key].shape, arrays[key].dtype.name)
    ]
    if differing:
        raise CheckpointError(
            f"{path}: {differing[0].partition('/')[2] or differing[0]!r} does not fit this network; it was written by "
            "another version or for another network. Use a new folder."
        )
    for key, variable in expected.items():
        variable.assign(arrays[key])


def _kind(variable: keras.Variable) -> tuple[tuple[int, ...], str]:
    return tuple(variable.shape), keras.backend.standardize_dtype(variable.dtype)


def _check_finite(path: str, arrays: dict[str, np.ndarray]) -> None:
    """Raises CheckpointError for NaN or infinity: a run stops before it would save them, so the file is damaged."""
    for key, array in arrays.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise CheckpointError(f"{path}: damaged ({key.partition('/')[2]!r} has NaN or infinite values).")


def restore(folder: str, variables: Sequence[keras.Variable], warn: Callable[[str], None]) -> dict | None:
    """Restores the newest checkpoint that is not damaged.

    Args:
        folder: Folder of the checkpoints.
        variables: Variables of the run, in the order in which they were saved.
        warn: Called with a warning about each damaged checkpoint.

    Returns:
        The metadata of the checkpoint; None if there is no checkpoint.

    Raises:
        CheckpointError: If the checkpoint belongs to another network.
    """
    for path in reversed(saved(folder)):
        try:
            arrays, meta = read(path)
            _check_finite(path, arrays)
        except CheckpointError as error:
            warn(f"{error} Going back to the previous one.")
            continue
        assign(path, arrays, variables)
        return meta
    return None
