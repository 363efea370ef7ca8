"""HDF5 files from strangers: what is read is in the file itself, and its size is checked first."""

import io
import zipfile
from collections.abc import Iterator
from typing import cast

import h5py
import numpy as np

from fd_keras.errors import UntrustedFileError

MOST_BYTES = 1 << 30  # 60 times the largest network of the zoo; what declares more is not weights


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
