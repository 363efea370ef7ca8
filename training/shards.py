"""TFRecord shards from raw photos: lists them, checks each, writes in parallel."""

import collections
import dataclasses
import hashlib
import io
import json
import math
import multiprocessing
import os
import tarfile
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from fd_keras import imagenet, photos
from fd_keras.io import TEMPORARY, join, read_bytes, write_json
from fd_keras.progress import progress

INDEX = "dataset.json"  # what `fd-keras prepare` writes beside its shards, once all are there
INDEXED = ("file", "count", "bytes", "max_label")  # what it holds of each shard
QUALITY = 95  # of photos that have to be encoded again
SHRUNK_QUALITY = 90  # of photos that are shrunk, which is for speed: a quarter fewer bytes to read and to decode
PER_SHARD = 1250  # photos; ImageNet's training set makes 1025 shards of 140 MB
TRAIN_PHOTOS, VAL_PHOTOS = 1_281_167, 50_000  # of ImageNet (ILSVRC 2012)


@dataclasses.dataclass(frozen=True)
class Raw:
    """A photo in a folder or a tar.

    Attributes:
        key: Name in logs and records.
        path: Path of the file, or of the tar that holds it.
        label: Label of its class.
        offset: Position in the tar, in bytes.
        size: Number of bytes in the tar; None for a file of its own.
    """

    key: str
    path: str
    label: int
    offset: int = 0
    size: int | None = None

    def read(self) -> bytes:
        """Its bytes."""
        with open(self.path, "rb") as file:
            file.seek(self.offset)
            return file.read(-1 if self.size is None else self.size)


def list_train(path: str) -> tuple[list[Raw], list[str]]:
    """Photos and class names of a training set.

    Args:
        path: Folder of class folders, or a tar of tars or of class folders, such as ImageNet's.

    Raises:
        ValueError: If it is neither.
        OSError: If it cannot be read.
    """
    found = _list_tar(path) if tarfile_at(path) else _list_folders(path)
    if not found:
        raise ValueError(f"{path}: no photos in class folders there.")
    classes = sorted({name for name, _ in found})
    return [dataclasses.replace(raw, label=classes.index(name)) for name, raw in found], classes


def list_val(path: str, labels: str | None, classes: Sequence[str]) -> list[Raw]:
    """Photos of a validation set.

    Args:
        path: Folder of class folders; or a flat folder or tar, with `labels`.
        labels: File of lines `photo-name label`; the label is a number from 0 or a class name.
        classes: Class names in label order.

    Raises:
        ValueError: If a photo has no label, or one that is out of range; names the photo.
    """
    if labels is None:
        if tarfile_at(path) or not any(os.path.isdir(os.path.join(path, name)) for name in os.listdir(path)):
            raise ValueError(f"{path}: a flat validation set needs --val_labels, a file of lines `photo-name label`.")
        number = {name: label for label, name in enumerate(classes)}
        found = _list_folders(path)
        strange = sorted({name for name, _ in found} - set(number))
        if strange:
            raise ValueError(f"{path}: class {strange[0]!r} is not among those of the training set.")
        return [dataclasses.replace(raw, label=number[name]) for name, raw in found]
    known = read_labels(labels, classes)
    raws = [raw for _, raw in _list_tar(path)] if tarfile_at(path) else _list_flat(path)
    missing = [raw.key for raw in raws if os.path.basename(raw.key) not in known]
    if missing:
        raise ValueError(f"{labels}: no line for {missing[0]} (and {len(missing) - 1} others).")
    return [dataclasses.replace(raw, label=known[os.path.basename(raw.key)]) for raw in raws]


def read_labels(path: str, classes: Sequence[str]) -> dict[str, int]:
    """Labels by photo name. Raises ValueError for a malformed line; names file and line."""
    number = {name: label for label, name in enumerate(classes)}
    labels = {}
    with open(path, encoding="utf-8") as file:
        for count, line in enumerate(file, start=1):
            if not line.strip():
                continue
            name, _, text = line.strip().rpartition(" ")
            label = number.get(text, int(text) if text.isdecimal() else -1)
            if not name or not 0 <= label < len(classes):
                raise ValueError(
                    f"{path}, line {count}: expected `photo-name label` with a label of 0 to {len(classes) - 1} or a "
                    f"class name, got {line.strip()!r}."
                )
            labels[name.strip()] = label
    return labels


def tarfile_at(path: str) -> bool:
    """Whether the path is a tar."""
    return os.path.isfile(path) and tarfile.is_tarfile(path)


def _list_folders(path: str) -> list[tuple[str, Raw]]:
    found = []
    for photo in photos.list_images(path):
        name = os.path.relpath(photo, path).split(os.sep)
        if len(name) > 1:
            found.append((name[0], Raw(os.path.join(*name), photo, -1)))
    return found


def _list_flat(path: str) -> list[Raw]:
    return [Raw(os.path.relpath(photo, path), photo, -1) for photo in photos.list_images(path)]


def _list_tar(path: str) -> list[tuple[str, Raw]]:
    """(class name, photo) of a tar, whose members are photos, or tars of photos named after their class.

    Nothing is unpacked: a photo is known by where it begins.
    """
    found = []
    with tarfile.open(path, "r:") as outer:
        for member in progress(outer, unit="members of the tar"):
            if member.name.endswith(".tar"):
                name = os.path.splitext(os.path.basename(member.name))[0]
                with tarfile.open(fileobj=outer.extractfile(member), mode="r:") as inner:
                    members = [(name, m, member.offset_data) for m in inner]
            else:
                members = [(os.path.basename(os.path.dirname(member.name)), member, 0)]
            for name, photo, base in members:
                if photo.isfile() and not photos.why_not(os.path.normpath(photo.name)):
                    key = photo.name if base == 0 else f"{name}/{photo.name}"
                    found.append((name, Raw(key, path, -1, base + photo.offset_data, photo.size)))
    return found


def check_counts(split: str, raws: Sequence[Raw], classes: Sequence[str]) -> str | None:
    """The line about a wrong number of photos, if the classes are ImageNet's; else None."""
    expected = {"train": TRAIN_PHOTOS, "val": VAL_PHOTOS}[split]
    if set(classes) != set(imagenet.wordnet_ids()) or len(raws) == expected:
        return None
    return f"{split}: {len(raws):,} photos, ImageNet has {expected:,}"


def checked(data: bytes, shrink: int | None) -> tuple[bytes, str | None]:
    """A photo as a JPEG that every decoder takes.

    Args:
        data: Bytes of the file.
        shrink: Short side to shrink larger photos to; None to leave them.

    Returns:
        The bytes, and what was wrong ("CMYK", "PNG", ...) if that had to be repaired.

    Raises:
        ValueError: If it cannot be decoded.
    """
    from PIL import Image

    try:
        with Image.open(io.BytesIO(data)) as image:
            image.load()
            kind = None if image.format in ("JPEG", "MPO") else image.format
            kind = kind or (image.mode if image.mode not in ("RGB", "L") else None)
            small = min(image.size) > (shrink or math.inf)
            if not (kind or small):
                return data, None
            image = image.convert("RGB")
            if shrink and small:
                height, width = imagenet.resized_size(image.height, image.width, (shrink, shrink))
                image = image.resize((width, height), Image.Resampling.BICUBIC)
            encoded = io.BytesIO()
            image.save(encoded, "JPEG", quality=SHRUNK_QUALITY if small else QUALITY)
            return encoded.getvalue(), kind
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(str(error)) from error


@dataclasses.dataclass(frozen=True)
class Task:
    """One shard to write.

    Attributes:
        path: Path of the shard.
        raws: Photos that go in.
        shrink: Short side to shrink photos to, see `checked`.
    """

    path: str
    raws: tuple[Raw, ...]
    shrink: int | None

    @property
    def plan(self) -> str:
        """Hash of what goes in, which changes when the shard has to be written again."""
        listing = json.dumps([[raw.key, raw.label, raw.size] for raw in self.raws] + [self.shrink])
        return hashlib.sha256(listing.encode()).hexdigest()[:16]


def plan(split: str, raws: Sequence[Raw], folder: str, count: int | None, shrink: int | None, seed: int) -> list[Task]:
    """Distributes shuffled photos over shards whose sizes differ by one at most."""
    count = count or max(1, round(len(raws) / PER_SHARD))
    if count > len(raws):
        raise ValueError(f"--shards={count}: there are only {len(raws)} {split} photos.")
    order = np.random.Generator(np.random.Philox(seed)).permutation(len(raws))
    return [
        Task(
            join(folder, f"{split}-{i:05d}-of-{count:05d}.tfrecord"),
            tuple(raws[j] for j in order[i::count]),
            shrink,
        )
        for i in range(count)
    ]


def write(tasks: Sequence[Task], workers: int) -> list[dict]:
    """Writes the shards in parallel, except those that an earlier call has written.

    Returns:
        For each: file, count, bytes, max_label, plan, repaired {photo: what} and bad {photo: why}.
    """
    done = {task.path: facts for task in tasks if (facts := _finished(task))}
    left = [task for task in tasks if task.path not in done]
    if done:
        print(f"{len(done)} of {len(tasks)} shards are there already")
    with _pool(min(workers, len(left))) as run:
        for facts in progress(run(write_shard, left), len(left), unit="shards"):
            done[join(os.path.dirname(tasks[0].path), facts["file"])] = facts
    return [done[task.path] for task in tasks]


class _pool:  # noqa: N801  (a context manager used as a function)
    """Gives a function like `map` that works in processes; with one worker it works in this one."""

    def __init__(self, workers: int):
        # Processes are started afresh: TensorFlow's threads do not survive a fork.
        self._pool = multiprocessing.get_context("spawn").Pool(workers) if workers > 1 else None

    def __enter__(self) -> Callable[..., Iterator]:
        return self._pool.imap_unordered if self._pool else map

    def __exit__(self, *error):
        if self._pool:
            self._pool.terminate()
            self._pool.join()


def _finished(task: Task) -> dict | None:
    """The facts of a shard that an earlier run wrote to this plan."""
    import tensorflow as tf

    try:
        facts = json.loads(read_bytes(task.path + ".json"))
        whole = tf.io.gfile.stat(task.path).length == facts["bytes"]
    except (OSError, tf.errors.OpError, ValueError, KeyError):
        return None
    return facts if whole and facts["plan"] == task.plan else None


def write_shard(task: Task) -> dict:
    """Writes one shard, then a .json that marks it as complete."""
    import tensorflow as tf

    facts = {"file": os.path.basename(task.path), "plan": task.plan, "repaired": {}, "bad": {}}
    temporary = join(os.path.dirname(task.path), TEMPORARY + facts["file"])
    labels = []
    with tf.io.TFRecordWriter(temporary) as writer:
        for raw in task.raws:
            try:
                data, kind = checked(raw.read(), task.shrink)
            except ValueError as error:
                facts["bad"][raw.key] = str(error)
                continue
            if kind:
                facts["repaired"][raw.key] = kind
            labels.append(raw.label)
            writer.write(_example(data, raw))
    tf.io.gfile.rename(temporary, task.path, overwrite=True)
    facts |= {"count": len(labels), "bytes": tf.io.gfile.stat(task.path).length, "max_label": max(labels, default=-1)}
    write_json(task.path + ".json", facts)
    return facts


def _example(data: bytes, raw: Raw) -> bytes:
    import tensorflow as tf

    features = {
        "image/encoded": tf.train.Feature(bytes_list=tf.train.BytesList(value=[data])),
        "image/class/label": tf.train.Feature(int64_list=tf.train.Int64List(value=[raw.label])),
        "image/filename": tf.train.Feature(bytes_list=tf.train.BytesList(value=[raw.key.encode()])),
    }
    return tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString()


def report(split: str, shards: Sequence[dict]) -> list[str]:
    """The lines about a split that was written."""
    photos, size = sum(shard["count"] for shard in shards), sum(shard["bytes"] for shard in shards)
    lines = [f"{split}: {photos:,} photos in {len(shards)} shards, {size / 1e6:,.1f} MB"]
    repaired = {key: kind for shard in shards for key, kind in shard["repaired"].items()}
    for kind, count in collections.Counter(repaired.values()).items():
        first = next(key for key, what in repaired.items() if what == kind)
        lines.append(f"  encoded again as RGB JPEG: {count} {kind} ({first}{', ...' if count > 1 else ''})")
    bad = {key: why for shard in shards for key, why in shard["bad"].items()}
    lines += [f"  left out, cannot be decoded: {key} ({why})" for key, why in list(bad.items())[:20]]
    if len(bad) > 20:
        lines.append(f"  and {len(bad) - 20} others; the .json beside each shard names them")
    return lines
