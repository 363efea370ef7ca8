"""Reads untrusted HDF5 files: only data inside the file, after checking its size.

The HDF5 library hangs on some damaged files and crashes on others, and neither can be prevented inside the process.
So `check` first reads the file in a separate process: this module, run as a program.
"""

import contextlib
import io
import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from typing import cast

import h5py
import numpy as np

from fd_keras.errors import UntrustedFileError

MOST_BYTES = 1 << 30  # 60 times the largest network of the zoo; anything larger is not weights
_CHECK_SECONDS = 10  # CPU time; the largest network takes a tenth of a second
_CHECK_MEMORY = 4 << 30  # bytes of address space


def check(file: str | io.BytesIO) -> None:
    """Reads a file in a separate process; raises UntrustedFileError if that crashes or hangs."""
    if not sys.executable:  # Python is embedded in another program
        return
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    path = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
    content = file.getvalue() if isinstance(file, io.BytesIO) else None
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            __name__,
            "-" if content is not None else os.path.abspath(str(file)),
            str(_CHECK_SECONDS),
        ],
        input=content or b"",
        capture_output=True,
        env=os.environ | {"PYTHONPATH": path, "OPENBLAS_NUM_THREADS": "1"},
    )
    if done.returncode:
        raise UntrustedFileError("the HDF5 library crashes or hangs on it")


def _read_all(path: str, seconds: int) -> None:
    """Reads everything in a file within `seconds` of CPU time; ignores exceptions, which the real reader reports."""
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
        resource.setrlimit(resource.RLIMIT_AS, (_CHECK_MEMORY, _CHECK_MEMORY))
    file = io.BytesIO(sys.stdin.buffer.read()) if path == "-" else path
    with _ignoring_faults():
        for _ in arrays(file):
            pass
    with _ignoring_faults(), h5py.File(file, "r") as h5:
        _read_attributes("", h5)
        h5.visititems(_read_attributes)


def _read_attributes(_, item) -> None:
    with _ignoring_faults():
        for name in item.attrs:
            with _ignoring_faults():
                item.attrs[name]


@contextlib.contextmanager
def _ignoring_faults() -> Iterator[None]:
    """Ignores all exceptions except MemoryError."""
    try:
        yield
    except MemoryError:
        raise
    except Exception:  # noqa: S110  (the caller of `check` gets the same exception and knows the file)
        pass


def arrays(file: str | io.BytesIO, skip: str = "") -> Iterator[tuple[str, h5py.Dataset, np.ndarray]]:
    """Yields the datasets of a file: name, dataset and values. Does not follow links to other files.

    Args:
        file: Path, or content.
        skip: Prefix of the names to skip.

    Raises:
        UntrustedFileError: If a dataset is stored outside the file (external storage, virtual datasets), or the total
            size is too large.
    """
    datasets: list[tuple[str, h5py.Dataset]] = []

    def visit(name: str, item) -> None:
        if isinstance(item, h5py.Dataset) and not (skip and name.startswith(skip)):
            datasets.append((name, item))

    with h5py.File(file, "r") as h5:
        h5.visititems(visit)
        for name, dataset in datasets:
            if dataset.external or dataset.is_virtual:
                raise UntrustedFileError(f"the values of {name!r} are in another file, which is not read")
        total = sum(dataset.nbytes for _, dataset in datasets)
        if total > MOST_BYTES:
            raise UntrustedFileError(f"it declares {total >> 20} MiB of weights (limit {MOST_BYTES >> 20} MiB)")
        for name, dataset in datasets:
            yield name, dataset, dataset[()]


def weight_names(path: str, group: str) -> list[tuple[str, list[str]]]:
    """The layers of a group in the older Keras layout, in order, each with the names of its weights."""
    with h5py.File(path, "r") as h5:
        layers = cast(h5py.Group, h5[group])
        return [(name, _texts(layers[name].attrs["weight_names"])) for name in _texts(layers.attrs["layer_names"])]


def _texts(names) -> list[str]:
    return [name.decode() if isinstance(name, bytes) else str(name) for name in names]


def read_member(archive: zipfile.ZipFile, name: str) -> bytes:
    """Content of a member of a zip; raises UntrustedFileError if it is too large, KeyError if it does not exist."""
    size = archive.getinfo(name).file_size
    if size > MOST_BYTES:
        raise UntrustedFileError(f"{name} declares {size >> 20} MiB (limit {MOST_BYTES >> 20} MiB)")
    return archive.read(name)


if __name__ == "__main__":
    _read_all(sys.argv[1], int(sys.argv[2]))
