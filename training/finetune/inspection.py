"""Inspects photos before training: finds broken, tiny, rotated and duplicate ones."""

import concurrent.futures
import dataclasses
import hashlib
import io
import os
from collections.abc import Sequence

import numpy as np

from fd_keras import photos
from fd_keras.progress import progress

_THUMBNAIL = 16  # side of the gray thumbnails to compare photos by, in pixels
# Minimum correlation of the thumbnails of duplicates. For photos of Imagenette that were halved, or saved again at
# quality 50, it was at least 0.997; for two different ones of its 9,469 photos, at most 0.969.
_ALIKE = 0.985
_FLAT = 4.0  # standard deviation of a thumbnail (0..255) below which it is too uniform to be compared
_BLOCK = 2048  # thumbnails to compare with all others at once, to limit memory


@dataclasses.dataclass(frozen=True)
class InspectedPhoto:
    """Facts about a photo.

    Attributes:
        path: Path of the file.
        label: Index of its class.
        width: Width in pixels, as stored.
        height: Height in pixels, as stored.
        rotated: Whether its EXIF orientation rotates or mirrors it.
        sha256: Hash of the file; "" if it cannot be decoded.
        thumbnail: Gray thumbnail, float32 of shape (256,), with mean 0 and norm 1; zeros if it is too uniform.
        fault: Reason why it cannot be decoded; "" if it can.
    """

    path: str
    label: int
    width: int = 0
    height: int = 0
    rotated: bool = False
    sha256: str = ""
    thumbnail: np.ndarray = dataclasses.field(
        default_factory=lambda: np.zeros(_THUMBNAIL**2, "float32"), compare=False, repr=False
    )
    fault: str = ""


def inspect(paths: Sequence[str], labels: Sequence[int], threads: int | None = None) -> list[InspectedPhoto]:
    """Inspects photos in parallel.

    Args:
        paths: Paths of the files.
        labels: Label of each photo.
        threads: Number of threads; None for one per core.
    """
    with concurrent.futures.ThreadPoolExecutor(threads or os.cpu_count()) as pool:
        return list(progress(pool.map(inspect_photo, paths, labels), len(paths), unit="photos"))


def inspect_photo(path: str, label: int) -> InspectedPhoto:
    """Inspects one photo."""
    try:
        with open(path, "rb") as file:
            data = file.read()
        with photos.opened(io.BytesIO(data)) as image:
            width, height = image.size
            rotated = photos.orientation(image) != 1
            image.draft("L", (4 * _THUMBNAIL, 4 * _THUMBNAIL))  # lets libjpeg decode an eighth of the pixels
            gray = photos.rgb(image).convert("L").resize((_THUMBNAIL, _THUMBNAIL), reducing_gap=3.0)
    except (OSError, ValueError) as error:
        return InspectedPhoto(path, label, fault=str(error))
    digest = hashlib.sha256(data).hexdigest()
    return InspectedPhoto(path, label, width, height, rotated, digest, _normalized(np.asarray(gray, "float32").ravel()))


def _normalized(values: np.ndarray) -> np.ndarray:
    values = values - values.mean()
    if values.std() < _FLAT:
        return np.zeros_like(values)
    return values / np.linalg.norm(values)


def duplicate_groups(found: Sequence[InspectedPhoto]) -> np.ndarray:
    """Groups duplicates: returns the number of each photo's group, int of shape (photos,).

    Two photos are duplicates if their files are equal, or if their thumbnails correlate, as for a photo that was
    resized or saved again. Almost uniform photos are only compared by their files. Groups are the connected components
    of such pairs.
    """
    groups = _Groups(len(found))
    first: dict[str, int] = {}
    for index, photo in enumerate(found):
        if photo.sha256:
            groups.join(first.setdefault(photo.sha256, index), index)
    thumbnails = np.stack([photo.thumbnail for photo in found])
    for start in range(0, len(found), _BLOCK):
        alike = thumbnails[start : start + _BLOCK] @ thumbnails[start:].T >= _ALIKE
        for row, column in zip(*np.nonzero(np.triu(alike, 1)), strict=True):
            groups.join(start + int(row), start + int(column))
    return groups.numbers()


class _Groups:
    """Disjoint sets of indices."""

    def __init__(self, count: int):
        self._parents = list(range(count))

    def join(self, one: int, other: int) -> None:
        low, high = sorted((self._root(one), self._root(other)))
        self._parents[high] = low

    def numbers(self) -> np.ndarray:
        return np.array([self._root(index) for index in range(len(self._parents))])

    def _root(self, index: int) -> int:
        while self._parents[index] != index:
            self._parents[index] = self._parents[self._parents[index]]  # path halving
            index = self._parents[index]
        return index
