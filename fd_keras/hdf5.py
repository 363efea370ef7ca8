"""HDF5 files from strangers: what is read is in the file itself, and its size is checked first.

The HDF5 library loops for ever on some damaged files and crashes on others, and neither can be stopped from inside, so
`check` has a process of its own read a file first: this module, run as a program.
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

MOST_BYTES = 1 << 30  # 60 times the largest network of the zoo; what declares more is not weights
_CHECK_SECONDS = 10  # of processor time; the largest network takes a tenth of a second
_CHECK_MEMORY = 4 << 30  # bytes of address space


def check(file: str | io.BytesIO) -> None:
    """Reads a file in a process of its own; raises UntrustedFileError if that crashes or does not end."""
    if not sys.executable:  # Python is part of another program
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
        raise UntrustedFileError("reading it crashes the HDF5 library, or does not end")


def _read_all(path: str, seconds: int) -> None:
    """Reads everything in a file, within so many seconds; exceptions are left to the reader that handles them."""
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
    """Ignores all exceptions but a lack of memory."""
    try:
        yield
    except MemoryError:
        raise
    except Exception:  # noqa: S110  (the caller of `check` meets it again, and knows the file)
        pass


def arrays(file: str | io.BytesIO, skip: str = "") -> Iterator[tuple[str, h5py.Dataset, np.ndarray]]:
    """The datasets of a file: name, dataset and values.

    Args:
        file: Path, or content.
        skip: Prefix of the names to leave out.

    Raises:
        UntrustedFileError: If a dataset lies outside the file (external storage, virtual datasets), or the datasets
            are too large together. Links to other files are not followed.
    """
    datasets: list[tuple[str, h5py.Dataset]] = []

    def visit(name: str, item) -> None:
        if isinstance(item, h5py.Dataset) and not (skip and name.startswith(skip)):
            datasets.append((name, item))

    with h5py.File(file, "r") as h5:
        h5.visititems(visit)
        for name, dataset in datasets:
            if dataset.external or dataset.is_virtual:
                raise UntrustedFileError(f"the values of {name!r} are not in the file but in others, which is not read")
        total = sum(dataset.nbytes for _, dataset in datasets)
        if total > MOST_BYTES:
            raise UntrustedFileError(f"it claims {total >> 20} MiB of weights; {MOST_BYTES >> 20} MiB are the limit")
        for name, dataset in datasets:
            yield name, dataset, dataset[()]


def weight_names(path: str, group: str) -> list[tuple[str, list[str]]]:
    """The layers of a group in the older Keras layout, each with the names of its weights, in order."""
    with h5py.File(path, "r") as h5:
        layers = cast(h5py.Group, h5[group])
        return [(name, _texts(layers[name].attrs["weight_names"])) for name in _texts(layers.attrs["layer_names"])]


def _texts(names) -> list[str]:
    return [name.decode() if isinstance(name, bytes) else str(name) for name in names]


def read_member(archive: zipfile.ZipFile, name: str) -> bytes:
    """Content of a member of a zip; raises UntrustedFileError if it is too large, KeyError if it is not there."""
    size = archive.getinfo(name).file_size
    if size > MOST_BYTES:
        raise UntrustedFileError(f"{name} claims {size >> 20} MiB; {MOST_BYTES >> 20} MiB are the limit")
    return archive.read(name)


if __name__ == "__main__":
    _read_all(sys.argv[1], int(sys.argv[2]))
