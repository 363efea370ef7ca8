"""Sources of photos: prepared shards, class folders, or TensorFlow Datasets (TFDS). All yield `Photo`s.

A source yields its photos in an order that is a pure function of (seed, epoch), starting at any position, so that a run
can be resumed at any step. All files are read through `tf.io`, so buckets (gs://, s3://) are supported.
"""

import dataclasses
import functools
import hashlib
import itertools
import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

import numpy as np
import tensorflow as tf

from fd_keras import imagenet
from fd_keras.io import is_local, read_bytes, sha256_of
from fd_keras.training.shards import is_whole

WINDOW = 16  # shards that are shuffled together; for ImageNet that is 20,000 photos, about 2 GB
TFDS_WINDOW = 10_000  # photos of a TFDS split that are shuffled together
SPLITS = ("train", "val")
SAMPLE = 256 << 20  # bytes of a folder's photos whose content is compared when a run is resumed: all of most data sets
REMOTE_SAMPLE = 32  # photos of a bucket whose content is compared
VALIDATION_PHOTOS = 50_000  # of ImageNet


class Photo(NamedTuple):
    """An encoded photo, as scalars of a `tf.data` element; or several photos, as vectors.

    Attributes:
        data: Bytes of the file, string.
        label: Index of the class, int64.
        key: Name in logs, string.
        position: Position in the epoch, int64.
        draw: Random numbers from `crops.draw_boxes`, float32 (4, TRIES); empty in evaluation.
    """

    data: tf.Tensor
    label: tf.Tensor
    key: tf.Tensor
    position: tf.Tensor
    draw: tf.Tensor | tuple = ()


@dataclasses.dataclass(frozen=True)
class Share:
    """The part of each global batch that this process loads: positions `index`, `index + count`, ..."""

    index: int = 0
    count: int = 1


@dataclasses.dataclass(frozen=True)
class Photos:
    """A dataset of photos that are not parsed yet.

    Each function call costs time in tf.data, so parsing is traced into the function that is mapped next.

    Attributes:
        rows: Dataset of unparsed rows.
        photo: Function that converts a row to a `Photo`, in a graph.
        jpegs: Whether all photos are known to be JPEGs.
    """

    rows: tf.data.Dataset
    photo: Callable[..., Photo]
    jpegs: bool = False

    def take(self, count: int) -> "Photos":
        """Returns the first `count` photos."""
        return dataclasses.replace(self, rows=self.rows.take(count))

    def batch(self, count: int) -> "Photos":
        """Groups `count` photos into each element; drops the remainder."""
        return dataclasses.replace(self, rows=self.rows.batch(count, drop_remainder=True))

    def with_draws(self, draws: tf.data.Dataset) -> "Photos":
        """Adds random numbers, one element for each element of photos."""
        rows = tf.data.Dataset.zip(self.rows, draws)
        return dataclasses.replace(self, rows=rows, photo=lambda row, draw: self.photo(*row)._replace(draw=draw))

    def map(self, function: Callable[[Photo], object], **options) -> tf.data.Dataset:
        """Maps a function over the photos, see `tf.data.Dataset.map`."""
        return self.rows.map(lambda *row: function(self.photo(*row)), **options)

    def interleave(self, function: Callable[[Photo], tf.data.Dataset], **options) -> tf.data.Dataset:
        """Interleaves the datasets that a function returns for each photo, see `tf.data.Dataset.interleave`."""
        return self.rows.interleave(lambda *row: function(self.photo(*row)), **options)


class Source(Protocol):
    """A split of a data set.

    Attributes:
        name: Name as the user gave it.
        classes: Class names in label order.
        count: Number of photos in an epoch.
        fingerprint: Hash of the names, labels and order of the photos.
    """

    name: str
    classes: tuple[str, ...]
    count: int
    fingerprint: str

    def content(self) -> dict[str, str]:
        """Returns hashes of the photos' content by name; takes seconds, and may only cover a fixed sample."""
        ...

    def damaged(self) -> str | None:
        """Returns the first file whose checksums fail; None if there is none, or if files have no checksums."""
        ...

    def shuffled(self, seed: int, epoch: int, start: int, share: Share) -> Photos:
        """Returns the photos of an epoch from position `start` on, which is a multiple of the share's count."""
        ...

    def ordered(self, share: Share) -> Photos:
        """Returns all photos in a fixed order, for evaluation."""
        ...


def random_state(*key: int) -> np.random.Generator:
    """Returns a random generator that is a pure function of some nonnegative numbers."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(key)))


class Folder:
    """A folder with one subfolder of photos per class.

    Args:
        name: Name for messages.
        paths: Paths of the photos.
        labels: Label of each photo.
        classes: Class names in label order.
    """

    def __init__(self, name: str, paths: Sequence[str], labels: Sequence[int] | np.ndarray, classes: Sequence[str]):
        self.name, self.classes, self.count = name, tuple(classes), len(paths)
        # As bytes, since file names on Linux may not be valid text.
        self._paths = np.asarray([os.fsencode(path) for path in paths], dtype=object)
        self._labels = np.asarray(labels, "int64")
        self.fingerprint = hash_of([list(paths), self._labels.tolist(), self.classes])

    @property
    def paths(self) -> list[str]:
        """Paths of the photos."""
        return [os.fsdecode(path) for path in self._paths]

    @property
    def counts(self) -> list[int]:
        """Number of photos of each class."""
        return np.bincount(self._labels, minlength=len(self.classes)).tolist()

    def relabeled(self, label_of: Mapping[str, int], classes: Sequence[str]) -> "Folder":
        """Returns the same photos with other labels.

        Args:
            label_of: New label of each class by name, an index into `classes`.
            classes: New class names in label order.
        """
        numbers = np.array([label_of[name] for name in self.classes])
        return Folder(self.name, self.paths, numbers[self._labels], classes)

    def content(self) -> dict[str, str]:
        """See `Source`: names relative to the folder, which may have been moved; sizes; all bytes of a sample."""
        names = [path.removeprefix(f"{self.name}/") for path in self.paths]
        return {"names": hash_of([names, self._labels.tolist(), self.classes]), **content_of(self.paths)}

    def damaged(self) -> None:
        """See `Source`."""

    def shuffled(self, seed: int, epoch: int, start: int, share: Share) -> Photos:
        """See `Source`."""
        order = random_state(seed, epoch).permutation(self.count)
        return self._read(order, start, share)

    def ordered(self, share: Share) -> Photos:
        """See `Source`."""
        return self._read(np.arange(self.count), 0, share)

    def _read(self, order, start, share):
        mine = slice(start + share.index, None, share.count)
        columns = (self._paths[order][mine].tolist(), self._labels[order][mine], np.arange(self.count)[mine])
        if not columns[0]:
            return _empty()
        rows = tf.data.Dataset.from_tensor_slices(columns).map(
            lambda path, label, position: (tf.io.read_file(path), label, path, position),
            num_parallel_calls=16,  # reads wait for the disk or the network, not for a core
        )
        return Photos(rows, Photo)


class Shards:
    """TFRecord shards that `fd-keras prepare` wrote.

    An epoch reads the shards in random order, `WINDOW` at a time; each shard of a window is shuffled completely, and
    the shards are interleaved. Prepared shards differ by at most one photo, so a window ends with its shortest shard.
    Resuming is fast, since whole windows are skipped without being read.

    Args:
        name: Name for messages.
        files: Paths of the shards.
        counts: Number of photos in each shard.
        classes: Class names in label order.
        content: See `Source.content`.
    """

    def __init__(
        self,
        name: str,
        files: Sequence[str],
        counts: Sequence[int],
        classes: Sequence[str],
        content: Mapping[str, str] = MappingProxyType({}),
    ):
        self.name, self.classes, self._content = name, tuple(classes), dict(content)
        self._files, self._counts = list(files), list(counts)
        self._lane = min(counts)  # photos taken from each shard
        self.total, self.count = sum(counts), self._lane * len(files)
        self.fingerprint = hash_of([[os.path.basename(file) for file in files], self._counts, self.classes])

    def content(self) -> dict[str, str]:
        """See `Source`: hashes from the index of the shards."""
        return self._content

    def damaged(self) -> str | None:
        """See `Source`."""
        counted = zip(self._files, self._counts, strict=True)
        return next((file for file, count in counted if not is_whole(file, count)), None)

    def shuffled(self, seed: int, epoch: int, start: int, share: Share) -> Photos:
        """See `Source`."""
        random = random_state(seed, epoch)
        files = [self._files[i] for i in random.permutation(len(self._files))]
        seeds = random.integers(2**62, size=len(files)).tolist()
        window = WINDOW * self._lane
        first = start // window  # earlier windows are finished
        # A process can skip the others' shards if all windows divide evenly among the processes.
        lanes = share if WINDOW % share.count == 0 and len(files) % share.count == 0 else Share()
        parts = []
        for low, high, count in self._windows(first):
            chunk = [(files[i : i + count], seeds[i : i + count]) for i in range(low, high, count)]
            if chunk:
                columns = ([c[0] for c in chunk], np.asarray([c[1] for c in chunk], "int64"))
                rows = tf.data.Dataset.from_tensor_slices(columns)
                parts.append(rows.flat_map(lambda *window: self._window(window, lanes)))
        if not parts:
            return _empty()
        dataset = _concatenated(parts)
        begin = first * window
        if lanes is share:
            dataset = dataset.skip((start - begin) // share.count)
        else:
            dataset = dataset.skip(start - begin).shard(share.count, share.index)
        return self._photos(dataset, start, share)

    def _windows(self, first: int):
        """Yields (first shard, end, shards per window) for the full windows from `first` on, and the partial one."""
        full = len(self._files) // WINDOW * WINDOW
        yield min(first * WINDOW, full), full, WINDOW
        if full < len(self._files) and first * WINDOW <= full:
            yield full, len(self._files), len(self._files) - full

    def _window(self, window: Any, lanes: Share) -> tf.data.Dataset:
        """Returns the photos of a window of (files, seeds), shuffled and interleaved."""
        pairs = tf.data.Dataset.from_tensor_slices(window).shard(lanes.count, lanes.index)
        longest = max(self._counts)

        def photos(*pair):
            file, seed = pair
            return _permuted(tf.data.TFRecordDataset(file), longest, seed).take(self._lane)

        return pairs.interleave(
            photos,
            cycle_length=WINDOW,
            num_parallel_calls=2,  # enough, since decoding takes longer than reading
            deterministic=True,
        )

    def ordered(self, share: Share) -> Photos:
        """See `Source`."""
        dataset = tf.data.Dataset.from_tensor_slices(self._files).flat_map(tf.data.TFRecordDataset)
        return self._photos(dataset.shard(share.count, share.index), 0, share)

    @staticmethod
    def _photos(dataset, start: int, share: Share) -> Photos:
        return dataclasses.replace(_numbered(dataset, start, share, _parse), jpegs=True)  # `prepare` writes only JPEGs


class Tfds:
    """A split of a classification data set from TensorFlow Datasets, with encoded photos.

    Args:
        builder: `tfds.core.DatasetBuilder` with features "image" and "label".
        split: Name of the split.
    """

    def __init__(self, builder, split: str):
        self.name, self._builder, self._split = f"tfds:{builder.info.full_name} ({split})", builder, split
        self.classes = tuple(builder.info.features["label"].names)
        self.count = builder.info.splits[split].num_examples
        self.fingerprint = hashlib.sha256(f"{builder.info.full_name} {split} {self.count}".encode()).hexdigest()[:16]

    def content(self) -> dict[str, str]:
        """See `Source`: nothing, since a version of a data set never changes."""
        return {}

    def damaged(self) -> None:
        """See `Source`."""

    def shuffled(self, seed: int, epoch: int, start: int, share: Share) -> Photos:
        """See `Source`."""
        windows = math.ceil(self.count / TFDS_WINDOW)
        # The partial window stays last, so that all windows before a position are full.
        order = [*random_state(seed, epoch).permutation(windows - 1), windows - 1]
        first = start // TFDS_WINDOW
        parts = []
        for index in order[first:]:
            low, high = index * TFDS_WINDOW, min(self.count, (index + 1) * TFDS_WINDOW)
            key = int(random_state(seed, epoch, index).integers(2**62))
            parts.append(_permuted(self._read(f"{self._split}[{low}:{high}]"), TFDS_WINDOW, key))
        dataset = _concatenated(parts).skip(start - first * TFDS_WINDOW).shard(share.count, share.index)
        return _numbered(dataset, start, share)

    def ordered(self, share: Share) -> Photos:
        """See `Source`."""
        return _numbered(self._read(self._split).shard(share.count, share.index), 0, share)

    def _read(self, split: str) -> tf.data.Dataset:
        import tensorflow_datasets as tfds

        dataset = self._builder.as_dataset(
            split=split,
            shuffle_files=False,
            decoders={"image": tfds.decode.SkipDecoding()},
            read_config=tfds.ReadConfig(interleave_cycle_length=1, try_autocache=False),
        )
        return dataset.map(
            lambda row: (row["image"], tf.cast(row["label"], tf.int64), row.get("file_name", tf.constant("a photo")))
        )


def hash_of(content: Any) -> str:
    """Returns a short hash of a JSON value."""
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]


def counts_by_class(source: Source) -> list[int]:
    """Returns the number of photos of each class; raises ValueError for sources that do not list their labels."""
    if not isinstance(source, Folder):
        raise ValueError(f"--class_balance only works with --data=folder:DIR; {source.name} does not list its labels.")
    return source.counts


def content_of(paths: Sequence[str]) -> dict[str, str]:
    """Hashes files: the sizes of all, and the content of a sample that depends on their number.

    Returns:
        Hashes by name: "sizes" (local files only) and "sample".

    Raises:
        OSError: If a file cannot be read.
    """
    order: list[int] = random_state(len(paths)).permutation(len(paths)).tolist()
    ordered = [paths[i] for i in order]
    if not all(map(is_local, paths)):  # each request is slow
        return {"sample": hash_of([hashlib.sha256(read_bytes(path)).hexdigest() for path in ordered[:REMOTE_SAMPLE]])}
    with ThreadPoolExecutor(16) as threads:  # file servers handle many requests at once
        sizes = list(threads.map(os.path.getsize, ordered))
        before = itertools.accumulate(sizes, initial=0)
        sample = [path for path, total in zip(ordered, before, strict=False) if total < SAMPLE]
        return {"sizes": hash_of(sizes), "sample": hash_of(list(threads.map(sha256_of, sample)))}


def describe(source: Source) -> dict:
    """Describes a split for a run's record, see `run_record.check_same`."""
    known = {"fingerprint": source.fingerprint, "photos": source.count, "name": source.name}
    return known | source.content()


def is_imagenet(source: Source) -> bool:
    """Whether a source is all of ImageNet's validation photos, for which the recipes' targets are stated."""
    return len(source.classes) == imagenet.CLASSES and getattr(source, "total", source.count) == VALIDATION_PHOTOS


def _concatenated(parts: Sequence[tf.data.Dataset]) -> tf.data.Dataset:
    return functools.reduce(lambda one, other: one.concatenate(other), parts)


def _permuted(dataset: tf.data.Dataset, count: int, seed) -> tf.data.Dataset:
    """Shuffles up to `count` elements; the order only depends on `seed`.

    `Dataset.shuffle` would also use the global seed. This is the same operation, which never copies photos.
    """
    shuffled = tf.raw_ops.ShuffleDatasetV3(
        input_dataset=tf.data.experimental.to_variant(dataset),
        buffer_size=count,
        seed=seed,
        seed2=1,  # two zeros would mean a random seed
        seed_generator=tf.raw_ops.DummySeedGenerator(),
        reshuffle_each_iteration=False,
        output_types=[spec.dtype for spec in tf.nest.flatten(dataset.element_spec)],
        output_shapes=[spec.shape for spec in tf.nest.flatten(dataset.element_spec)],
    )
    return tf.data.experimental.from_variant(shuffled, dataset.element_spec)


def _parse(record):
    row = tf.io.parse_example(record, FEATURES)
    return row["image/encoded"], row["image/class/label"], row["image/filename"]


FEATURES = {
    "image/encoded": tf.io.FixedLenFeature([], tf.string),
    "image/class/label": tf.io.FixedLenFeature([], tf.int64),
    "image/filename": tf.io.FixedLenFeature([], tf.string),
}


def _numbered(dataset: tf.data.Dataset, start: int, share: Share, parse: Callable[..., Any] = tuple) -> Photos:
    """Adds positions to rows, which `parse` converts to (data, label, key)."""

    def photo(index, row) -> Photo:
        data, label, key = parse(row)
        return Photo(data, label, key, start + share.index + index * share.count)

    return Photos(dataset.enumerate(), photo)


def _empty() -> Photos:
    spec = tuple(tf.TensorSpec([], dtype) for dtype in (tf.string, tf.int64, tf.string, tf.int64))
    return Photos(tf.data.Dataset.from_generator(lambda: iter(()), output_signature=spec), Photo)
