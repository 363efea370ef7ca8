"""Writes TFRecord shards from raw photos: checks each photo, writes in parallel, and verifies existing shards."""

import collections
import contextlib
import dataclasses
import errno
import hashlib
import io
import json
import math
import multiprocessing
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool

import numpy as np

from fd_keras import imagenet, photos
from fd_keras.errors import ProgramError
from fd_keras.io import TEMPORARY, is_local, join, printable, read_bytes, sha256_of, write_json
from fd_keras.progress import progress
from fd_keras.training.raw_photos import Raw

INDEX = "dataset.json"  # written by `fd-keras prepare` after all shards
INDEXED = ("file", "count", "bytes", "max_label", "sha256")  # facts of each shard in it
QUALITY = 95  # JPEG quality of photos that are encoded again
SHRUNK_QUALITY = 90  # JPEG quality of shrunk photos; a quarter fewer bytes to read and decode
PER_SHARD = 1250  # photos; ImageNet's training set makes 1025 shards of 140 MB
TRAIN_PHOTOS, VAL_PHOTOS = 1_281_167, 50_000  # number of ImageNet's photos (ILSVRC 2012)


def check_counts(split: str, raws: Sequence[Raw], classes: Sequence[str]) -> str | None:
    """Returns a message about missing photos, if the classes are ImageNet's; else None."""
    expected = {"train": TRAIN_PHOTOS, "val": VAL_PHOTOS}[split]
    if set(classes) != set(imagenet.wordnet_ids()) or len(raws) == expected:
        return None
    return f"{split}: found {len(raws):,} photos, ImageNet has {expected:,}"


def checked(data: bytes, shrink: int | None) -> tuple[bytes, str | None]:
    """Converts a photo to a JPEG that all decoders can read.

    Args:
        data: Bytes of the file.
        shrink: Short side in pixels to shrink larger photos to; None to keep their size.

    Returns:
        The bytes of the JPEG, and the reason ("CMYK", "PNG", ...) if it had to be encoded again, else None.

    Raises:
        ValueError: If it cannot be decoded.
    """
    from PIL import Image

    with photos.opened(io.BytesIO(data)) as image:
        image.load()
        kind = None if image.format in ("JPEG", "MPO") else image.format
        kind = kind or (image.mode if image.mode not in ("RGB", "L") else None)
        kind = kind or ("too large, at half its size" if photos.is_halved(image) else None)
        small = min(image.size) > (shrink or math.inf)
        if not (kind or small):
            return data, None
        image = photos.rgb(image)
        if shrink and small:
            height, width = imagenet.resized_size(image.height, image.width, (shrink, shrink))
            image = image.resize((width, height), Image.Resampling.BICUBIC)
        encoded = io.BytesIO()
        image.save(encoded, "JPEG", quality=SHRUNK_QUALITY if small else QUALITY)
        return encoded.getvalue(), kind


@dataclasses.dataclass(frozen=True)
class Task:
    """One shard to write.

    Attributes:
        path: Path of the shard.
        raws: Photos to write into it.
        shrink: Short side in pixels to shrink photos to, see `checked`.
    """

    path: str
    raws: tuple[Raw, ...]
    shrink: int | None

    @property
    def plan(self) -> str:
        """Hash of names, labels and settings; if it changes, the shard must be written again."""
        listing = json.dumps([[raw.key, raw.label, raw.size] for raw in self.raws] + [self.shrink])
        return hashlib.sha256(listing.encode()).hexdigest()[:16]

    @property
    def sizes(self) -> str:
        """Hash of the photos' sizes, to detect most changes of their content."""
        sizes = [os.path.getsize(raw.path) if raw.size is None else raw.size for raw in self.raws]
        return hashlib.sha256(json.dumps(sizes).encode()).hexdigest()[:16]


def plan(split: str, raws: Sequence[Raw], folder: str, count: int | None, shrink: int | None, seed: int) -> list[Task]:
    """Distributes shuffled photos over shards whose sizes differ by at most one photo.

    Args:
        split: "train" or "val".
        raws: Photos of the split.
        folder: Folder of the shards.
        count: Number of shards; None for one per `PER_SHARD` photos.
        shrink: Short side in pixels to shrink photos to, see `checked`.
        seed: Seed of the order.

    Raises:
        ValueError: If there are fewer photos than shards.
    """
    count = count or max(1, round(len(raws) / PER_SHARD))
    if count > len(raws):
        raise ValueError(f"--shards={count}: found only {len(raws)} {split} photos.")
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
    """Writes the shards in parallel, except those that exist already and have not changed.

    Returns:
        A dict for each shard: file, count, bytes, sha256, max_label, plan, sizes, repaired {photo: kind} and bad
        {photo: reason}.

    Raises:
        OSError: If a photo cannot be read or a shard cannot be written.
        ProgramError: If a process was killed.
    """
    with ThreadPoolExecutor(workers) as threads:
        kept = list(progress(threads.map(_kept, tasks), len(tasks), unit="shards checked"))
    done = {task.path: facts for task, facts in zip(tasks, kept, strict=True) if facts}
    left = [task for task in tasks if task.path not in done]
    if done:
        print(f"{len(done)} of {len(tasks)} shards exist already")
    for facts in progress(_in_processes(write_shard, left, workers), len(left), unit="shards"):
        done[join(os.path.dirname(tasks[0].path), facts["file"])] = facts
    return [done[task.path] for task in tasks]


def _in_processes(work: Callable[[Task], dict], tasks: Sequence[Task], workers: int) -> Iterator[dict]:
    """Yields the results as they are ready; with one worker, works in this process."""
    workers = min(workers, len(tasks))
    if workers <= 1:
        yield from map(work, tasks)
        return
    spawn = multiprocessing.get_context("spawn")  # not fork, which TensorFlow's threads do not survive
    with ProcessPoolExecutor(workers, spawn) as pool:
        try:
            for done in as_completed([pool.submit(work, task) for task in tasks]):
                yield done.result()
        except BrokenProcessPool as error:
            raise ProgramError(
                "a worker process was killed, perhaps because memory ran out. Run the same command again to resume, "
                f"with fewer --workers than {workers} to use less memory."
            ) from error
        except BaseException:
            for child in multiprocessing.active_children():
                child.terminate()
            raise


def _kept(task: Task) -> dict | None:
    """Returns the facts of an existing shard; None, with a message, if it must be written again."""
    import tensorflow as tf

    path = task.path + ".json"
    try:
        facts = dict(json.loads(read_bytes(path)))
        if facts["plan"] != task.plan:
            return None
        if _changed(task, facts):
            print(f"{facts['file']}: photos have changed, writing it again")
            return None
        whole = is_whole(task.path, facts["count"], facts.get("sha256"))
    except (OSError, tf.errors.OpError, ValueError, KeyError, TypeError):
        return None
    if not whole:
        print(f"{facts['file']}: damaged, writing it again")
        return None
    if "sha256" not in facts:  # written by an earlier version
        facts |= {"sha256": _sha256(task.path), "sizes": task.sizes}
        write_json(path, facts)
    return facts


def _changed(task: Task, facts: dict) -> bool:
    """Whether photos of a shard were changed after it was written."""
    files = [raw.path for raw in task.raws if raw.size is None]
    if not is_local(task.path) or not files:
        return False
    written = os.stat(task.path + ".json").st_mtime
    newer = any(os.stat(path).st_mtime > written for path in files)
    return newer or facts.get("sizes", task.sizes) != task.sizes


def is_whole(path: str, count: int, sha256: str | None = None) -> bool:
    """Whether a shard is complete and undamaged, by its hash if that is known, else by the checksums of its records."""
    import tensorflow as tf

    try:
        if sha256:
            return _sha256(path) == sha256
        return int(tf.data.TFRecordDataset(path).reduce(0, lambda total, record: total + 1)) == count
    except (OSError, tf.errors.OpError):
        return False


def _sha256(path: str) -> str:
    return sha256_of(path) if is_local(path) else hashlib.sha256(read_bytes(path)).hexdigest()


def write_shard(task: Task) -> dict:
    """Writes one shard, then a .json that marks it as complete.

    Raises:
        OSError: If a photo cannot be read, or the shard cannot be written.
    """
    import tensorflow as tf

    try:
        with _unfinished(task.path) as temporary:
            facts = _write_records(task, temporary)
            facts |= {"bytes": os.path.getsize(temporary), "sha256": sha256_of(temporary), "sizes": task.sizes}
            _publish(temporary, task.path)
        write_json(task.path + ".json", facts)
    except (OSError, tf.errors.OpError) as error:  # TensorFlow's errors could not be sent to another process
        if isinstance(error, OSError) and error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        reason = getattr(error, "message", str(error)).splitlines()[0]
        raise OSError(
            f"{task.path}: cannot be written ({reason}). Free disk space, and run the same command again."
        ) from None
    return facts


@contextlib.contextmanager
def _unfinished(path: str) -> Iterator[str]:
    """Creates a local temporary file with a unique name for writing `path`; deletes it unless it was moved."""
    handle, temporary = tempfile.mkstemp(dir=os.path.dirname(path) if is_local(path) else None, prefix=TEMPORARY)
    os.close(handle)
    try:
        yield temporary
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)


def _publish(temporary: str, path: str) -> None:
    """Moves a file to its final path after it is flushed to the disk."""
    import tensorflow as tf

    with open(temporary, "rb+") as file:
        os.fsync(file.fileno())
    os.chmod(temporary, 0o644)
    _end_if_orphaned()
    if is_local(path):
        os.replace(temporary, path)
    else:
        tf.io.gfile.copy(temporary, path, overwrite=True)


def _end_if_orphaned() -> None:
    """Exits if the parent process was killed, since another process may already be writing into the folder."""
    parent = multiprocessing.parent_process()
    if parent is not None and not parent.is_alive():
        os._exit(1)


def _write_records(task: Task, path: str) -> dict:
    """Writes the photos that can be decoded; returns the facts known so far."""
    import tensorflow as tf

    facts = {"file": os.path.basename(task.path), "plan": task.plan, "repaired": {}, "bad": {}}
    labels = []
    with tf.io.TFRecordWriter(path) as writer:
        for raw in task.raws:
            _end_if_orphaned()
            try:
                data, kind = checked(raw.read(), task.shrink)
            except ValueError as error:
                facts["bad"][raw.key] = str(error)
                continue
            if kind:
                facts["repaired"][raw.key] = kind
            labels.append(raw.label)
            writer.write(_example(data, raw))
    return facts | {"count": len(labels), "max_label": max(labels, default=-1)}


def _example(data: bytes, raw: Raw) -> bytes:
    import tensorflow as tf

    features = {
        "image/encoded": tf.train.Feature(bytes_list=tf.train.BytesList(value=[data])),
        "image/class/label": tf.train.Feature(int64_list=tf.train.Int64List(value=[raw.label])),
        "image/filename": tf.train.Feature(bytes_list=tf.train.BytesList(value=[os.fsencode(raw.key)])),
    }
    example = tf.train.Example(features=tf.train.Features(feature=features))
    return example.SerializeToString(deterministic=True)  # so that a shard has the same hash whenever it is written


def report(split: str, shards: Sequence[dict]) -> list[str]:
    """Formats the lines about a finished split."""
    count, size = sum(shard["count"] for shard in shards), sum(shard["bytes"] for shard in shards)
    lines = [f"{split}: {count:,} photos in {len(shards)} shards, {size / 1e6:,.1f} MB"]
    repaired = {key: kind for shard in shards for key, kind in shard["repaired"].items()}
    for kind, times in collections.Counter(repaired.values()).items():
        first = next(key for key, what in repaired.items() if what == kind)
        lines.append(f"  encoded again as RGB JPEG: {times} {kind} ({printable(first)}{', ...' if times > 1 else ''})")
    bad = [f"{key}: {why}" for shard in shards for key, why in shard["bad"].items()]
    if bad:
        lines.append(f"  skipped {photos.counted(photos.UNDECODABLE, bad)}, all named in the .json beside each shard")
    return lines
