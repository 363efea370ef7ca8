"""Reads photos into memory, and names the files of `benchmarks.train_on_device`."""

import multiprocessing
import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import TYPE_CHECKING

import numpy as np

from fd_keras import imagenet, photos
from fd_keras.progress import progress

if TYPE_CHECKING:
    from benchmarks.device_loop import Photos

HISTORY, RECORD = "history.csv", "record.json"
COLUMNS = ("epoch", "loss", "top1", "top5", "val_loss", "val_top1")

_CHUNK = 500  # photos that a process decodes at once


def decoded(folder: str, size: int | None, workers: int | None = None) -> "tuple[Photos, list[str]]":
    """Decodes the photos of a folder with one folder per class.

    Args:
        folder: Folder of the classes.
        size: Side of the crops for evaluation in pixels; None for whole photos, which must be square and equally large.
        workers: Number of processes; None for one per core.

    Returns:
        The photos, and the names of the classes.

    Raises:
        FileNotFoundError: If there is no such folder.
        ValueError: If a photo cannot be decoded or has another size; the message names it.
    """
    from benchmarks.device_loop import Photos

    if not os.path.isdir(folder):
        raise FileNotFoundError(f"{folder}: no such folder; it must have a folder for each class.")
    listing = photos.list_classes(folder)
    labeled = [(os.path.join(folder, path), label) for label, paths in enumerate(listing.values()) for path in paths]
    paths, labels = zip(*labeled, strict=True)
    chunks = [paths[start : start + _CHUNK] for start in range(0, len(paths), _CHUNK)]
    # Not forked: JAX has threads, which a fork would not copy.
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
        parts = list(progress(pool.map(_decode, chunks, [size] * len(chunks)), len(chunks), unit="batches"))
    sides = sorted({len(part[0]) for part in parts})
    if len(sides) > 1:
        raise ValueError(f"{folder}: photos of {sides[0]} to {sides[-1]} pixels; all must have the same size.")
    return Photos(np.concatenate(parts), np.array(labels, "int32")), list(listing)


def _decode(paths: Sequence[str], size: int | None) -> np.ndarray:
    if size:
        return np.stack([imagenet.load_image(path, (size, size)) for path in paths])
    images = []
    for path in paths:
        try:
            with photos.opened(path) as image:
                images.append(np.asarray(photos.rgb(image)))
        except ValueError as error:
            raise ValueError(f"{path}: {error}.") from error
        height, width, _ = images[-1].shape
        if height != width or height != len(images[0]):
            raise ValueError(f"{path}: {width}x{height} pixels; all photos must be square and have the same size.")
    return np.stack(images)
