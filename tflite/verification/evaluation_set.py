"""Images on which the accuracy of files is measured."""

import dataclasses
import io
import itertools
import logging
import os
from collections.abc import Iterator, Sequence

import numpy as np

from fd_keras import imagenet
from fd_keras.io import printable
from fd_keras.photos import UNDECODABLE, counted, list_images
from fd_keras.progress import progress
from fd_keras.tflite.recipes import check_channels
from fd_keras.training.raw_photos import labels_of
from fd_keras.training.sources import Share, Source

BATCH = 32


@dataclasses.dataclass(frozen=True)
class EvaluationSet:
    """Images, optionally with labels, which are decoded on demand.

    Attributes:
        paths: Paths of the images.
        labels: Label of each path, or None.
        size: (height, width) to crop to, or (height, width, channels) for gray.
        resize: Whether to first resize as for evaluation.
    """

    paths: tuple[str, ...]
    labels: np.ndarray | None
    size: Sequence[int]
    resize: bool = True

    @classmethod
    def load(
        cls,
        folder: str,
        labels: str | None,
        size: Sequence[int],
        classes: int,
        resize: bool = True,
        names: Sequence[str] | None = None,
    ) -> "EvaluationSet":
        """Finds all images in a folder.

        Args:
            folder: Folder of images.
            labels: File with lines `image-name label`, where the label is a number from 0 or a class name; None for no
                labels.
            size: (height, width) to crop to, or (height, width, channels) for gray.
            classes: Number of classes.
            resize: Whether to resize as for evaluation first.
            names: Class names in label order, or None if they are unknown.

        Raises:
            ValueError: If there are no images, an image has no label, or the labels cannot be read.
            OSError: If the folder or the file does not exist.
        """
        check_channels(size)
        paths = list_images(folder)
        if labels is None:
            return cls(tuple(paths), None, size, resize)
        files = [os.path.relpath(path, folder).replace(os.sep, "/") for path in paths]
        found = labels_of(files, labels, names or [str(label) for label in range(classes)])
        return cls(tuple(paths), np.array(found), size, resize)

    def batches(self) -> Iterator[tuple[np.ndarray, np.ndarray | None]]:
        """Yields (images, labels), float 0..255 of shape (batch, height, width, channels), with progress.

        Photos that cannot be decoded are skipped and logged; raises ValueError if none can.
        """
        bad: list[str] = []
        yield from _batches(self._decoded(bad), bad, os.path.dirname(self.paths[0]))

    def _decoded(self, bad: list[str]) -> Iterator[tuple[np.ndarray, int | None]]:
        labels = [None] * len(self.paths) if self.labels is None else self.labels
        for path, label in progress(zip(self.paths, labels, strict=True), len(self.paths), unit="photos"):
            try:
                yield imagenet.load_image(path, self.size, resize=self.resize), label
            except ValueError as error:
                bad.append(str(error).rstrip("."))


@dataclasses.dataclass(frozen=True)
class SourceImages:
    """Labeled images from class folders, shards or TFDS, decoded like those of an `EvaluationSet`.

    Attributes:
        source: Source of the images.
        size: (height, width) to crop to, or (height, width, channels) for gray.
        resize: Whether to resize as for evaluation first.
    """

    source: Source
    size: Sequence[int]
    resize: bool = True

    def batches(self) -> Iterator[tuple[np.ndarray, np.ndarray | None]]:
        """Yields (images, labels), see `EvaluationSet.batches`."""
        check_channels(self.size)
        bad: list[str] = []
        yield from _batches(self._decoded(bad), bad, self.source.name)

    def _decoded(self, bad: list[str]) -> Iterator[tuple[np.ndarray, int]]:
        photos = self.source.ordered(Share()).map(lambda photo: (photo.data, photo.label, photo.key))
        count = getattr(self.source, "total", self.source.count)
        for data, label, key in progress(photos.as_numpy_iterator(), count, unit="photos"):
            name = printable(os.fsdecode(key))
            try:
                yield imagenet.decode_image(io.BytesIO(data), name, self.size, resize=self.resize), int(label)
            except ValueError as error:
                bad.append(str(error).rstrip("."))


def _batches(
    decoded: Iterator[tuple[np.ndarray, int | None]], bad: list[str], name: str
) -> Iterator[tuple[np.ndarray, np.ndarray | None]]:
    """Collects decoded photos in batches.

    Args:
        decoded: Photos with their labels, None without labels.
        bad: Reasons why photos were skipped; complete at the end of `decoded`.
        name: Name of the photos in messages.
    """
    found = False
    while chunk := list(itertools.islice(decoded, BATCH)):
        found = True
        images, labels = zip(*chunk, strict=True)
        yield np.stack(images).astype("float32"), None if labels[0] is None else np.array(labels)
    if bad:
        logging.warning("skipped %s", counted(UNDECODABLE, bad))
    if not found:
        raise ValueError(f"{name}: none of the photos can be decoded.")
