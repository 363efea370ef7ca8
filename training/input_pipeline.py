"""Batches as a pure function of (seed, step): what `tf.data` does between a source and the model.

uint8 leaves the pipeline; the mirror, the mixing and the normalization run in the model, with the random numbers that
come along here.
"""

import collections
import contextlib
import dataclasses
import logging
import os
import re
import threading
import time
from collections.abc import Iterable, Iterator

import tensorflow as tf

from fd_keras.errors import ProgramError
from fd_keras.io import printable
from fd_keras.training import crops, randaugment
from fd_keras.training.recipes import WIDER_NETWORKS, TrainingRecipe
from fd_keras.training.sources import Photo, Photos, Share, Source

# Purposes of random numbers, which keep them apart.
_CROP, _FLIP, _AUGMENT, _MIX = range(4)


class BadImages:
    """Counts the photos that cannot be decoded, and names each once in the log.

    Args:
        limit: Maximum number of them to skip.
    """

    def __init__(self, limit: int = 0):
        self.limit, self.names = limit, set()
        self._lock = threading.Lock()

    def report(self, key: bytes) -> None:
        """Counts a photo by its key."""
        name = printable(os.fsdecode(key))
        with self._lock:
            if name not in self.names:
                self.names.add(name)
                logging.warning("skipped %s: cannot be decoded (%d so far)", name, len(self.names))

    @property
    def too_many(self) -> bool:
        """Whether there are more than the limit."""
        return len(self.names) > self.limit

    def __str__(self) -> str:
        shown = ", ".join(sorted(self.names)[:5])
        return (
            f"{len(self.names)} photos cannot be decoded, more than --max_bad_images={self.limit}: {shown}. Remove "
            "them, make the data with fd-keras prepare, which does, or allow more."
        )


class Arrivals:
    """When batches left the pipeline, from which follows how long the model waited for them."""

    def __init__(self):
        self._times = collections.deque()

    def clear(self) -> None:
        """Forgets the batches of an earlier pipeline."""
        self._times.clear()

    def stamp(self) -> None:
        """Called by the pipeline for every batch, before it is put into the buffer."""
        self._times.append(time.perf_counter())

    def waited_since(self, asked: float) -> float:
        """Seconds from a time of `time.perf_counter` until the next batch was there; 0 if it was there before."""
        return max(0.0, self._times.popleft() - asked) if self._times else 0.0


@dataclasses.dataclass(frozen=True)
class Feed:
    """How batches are made on this machine; nothing here changes what is in them.

    Attributes:
        share: Part of the global batch that this process feeds.
        threads: Number of threads that decode; None lets TensorFlow choose.
        bad: Counter of the photos that cannot be decoded.
        careful: Whether to expect such photos. It costs 0.4 ms per photo, so a run turns it on when it meets one.
        arrivals: Record of when each batch left the pipeline.
    """

    share: Share = Share()
    threads: int | None = None
    bad: BadImages = dataclasses.field(default_factory=BadImages)
    careful: bool = False
    arrivals: Arrivals | None = None


class DamagedDataError(ProgramError):
    """A photo or shard was damaged or removed during the run; the message names the file."""


@contextlib.contextmanager
def explained(sources: Iterable[Source]) -> Iterator[None]:
    """Raises DamagedDataError for TensorFlow's errors about files that were damaged or removed while they were read.

    Args:
        sources: What is read in the block; a damaged shard is looked for in all of them.
    """
    try:
        yield
    except tf.errors.DataLossError as error:
        damaged = next(filter(None, (source.damaged() for source in sources)), None)
        raise DamagedDataError(
            f"{damaged or 'a shard'}: damaged ({_reason(error)}). Run the same fd-keras prepare again: it writes the "
            "damaged shards again."
        ) from error
    except (tf.errors.NotFoundError, tf.errors.PermissionDeniedError) as error:
        raise DamagedDataError(f"{_reason(error)}. Restore it, and start the same command again.") from error


def _reason(error: tf.errors.OpError) -> str:
    """What an error says of a file, such as "FILE: No such file or directory", out of what it says of operations."""
    lines = [re.sub(r"^\s*(\{\{[^}]*\}\}\s*)+", "", line).strip() for line in error.message.splitlines()]
    own = [line for line in lines if _OF_FILES.search(line)]
    return (own or lines)[0].replace("; ", ": ")


_OF_FILES = re.compile("; |corrupted|truncated")


def steps_per_epoch(source: Source, batch_size: int) -> int:
    """Full batches in an epoch; raises ValueError if there is none."""
    if source.count < batch_size:
        raise ValueError(
            f"{source.name}: {source.count} photos do not fill a batch of {batch_size}; pass a smaller --batch_size."
        )
    return source.count // batch_size


def training_batches(source: Source, recipe: TrainingRecipe, seed: int, step: int, feed: Feed) -> tf.data.Dataset:
    """The batches of the rest of an epoch, from a step on.

    Args:
        source: Training set.
        recipe: Recipe, which decides crops and augmentation.
        seed: Seed of the run.
        step: Number of steps done in the run; batches [step, end of its epoch) follow.
        feed: How batches are made on this machine.

    Returns:
        A dataset of (inputs, label, weight). `inputs` holds image, uint8 (batch, size, size, 3), of the size of the
        epoch; flip, uint8 (batch,), 1 for a photo to mirror; if the recipe mixes, own, float32 (batch,), and box, int32
        (batch, 4), for `trainable_classifier.mix`; with network augmentation wider, int32 (batch,), the number of the
        wider network to train, the same for all. label is int64 (batch,), weight float32 (batch,) with 0 for a photo
        that cannot be decoded.
    """
    steps = steps_per_epoch(source, recipe.batch_size)
    epoch, start = step // steps, step % steps
    size = recipe.size_at(epoch)
    local = recipe.batch_size // feed.share.count
    chunk = 1 if feed.careful or recipe.randaugment else _chunk(local)

    augment = None
    if recipe.randaugment:
        augment = randaugment.RandAugment(recipe.randaugment, recipe.randaugment_magnitude)

    def crop(item: Photo):
        data, draws = (tf.unstack(values, chunk) for values in (item.data, item.draw))
        images = crops.train_crops(data, draws, size, recipe.antialias, photos.jpegs)
        if augment:
            number = _seed(seed, epoch * source.count + item.position[0], _AUGMENT)
            images = augment(images[0], number)[None]
        return images, item.label, tf.ones(chunk)

    def finish(step, chunks):
        images, labels, weights = (tf.reshape(values, (local, *values.shape[2:])) for values in chunks)
        flips = tf.random.stateless_uniform([recipe.batch_size], _seed(seed, step, _FLIP)) < recipe.flip
        # No bool: Keras adds a batch up over TensorFlow's replicas when it first sees one.
        given = {"image": images, "flip": tf.cast(_dealt(flips, feed.share), tf.uint8)}
        if recipe.mixes:
            given |= _mixing(_seed(seed, step, _MIX), recipe, size, local)
        if recipe.netaug > 1:
            given["wider"] = tf.repeat(_wider(_seed(seed, step, _MIX), recipe.widens_at(epoch)), local)
        return given, labels, weights

    def draw(step):
        draws = crops.draw_boxes(recipe.batch_size, _seed(seed, step, _CROP), recipe.crop_scale)
        return tf.reshape(_dealt(draws, feed.share), (local // chunk, chunk, *draws.shape[1:]))

    numbers = tf.data.Dataset.range(step, step + steps - start)
    photos = source.shuffled(seed, epoch, start * recipe.batch_size, feed.share).take((steps - start) * local)
    photos = photos.batch(chunk).with_draws(numbers.map(draw).unbatch())
    blank = tf.zeros((chunk, size, size, 3), tf.uint8)
    chunks = _decoded(photos, crop, blank, feed).batch(local // chunk, drop_remainder=True)
    return _finished(tf.data.Dataset.zip(numbers, chunks).map(finish), steps - start, feed)


def _dealt(values, share: Share):
    """This process's part of what was drawn for the global batch."""
    return values[share.index :: share.count]


def _chunk(count: int) -> int:
    """How many photos one call of tf.data's function decodes: a divisor of a batch.

    A call costs time of its own; with more than eight photos it was slower again, as they leave a core's cache.
    """
    return max(divisor for divisor in range(1, 9) if count % divisor == 0)


def evaluation_batches(source: Source, size: int, batch_size: int, feed: Feed) -> tf.data.Dataset:
    """All photos once, cropped for evaluation; the last batch is filled up with photos of weight 0.

    Returns:
        A dataset of (image, label, weight), as `training_batches` describes them.
    """

    def photo(item: Photo):
        return crops.eval_crop(item.data, size), item.label, tf.constant(1.0)

    blank = tf.zeros((size, size, 3), tf.uint8)
    local = batch_size // feed.share.count
    total = getattr(source, "total", source.count)
    batches = -(-total // batch_size)
    filler = (blank, tf.constant(0, tf.int64), tf.constant(0.0))
    photos = _decoded(source.ordered(feed.share), photo, blank, feed)
    photos = photos.concatenate(tf.data.Dataset.from_tensors(filler).repeat(batch_size)).take(batches * local)
    return _finished(photos.batch(local, drop_remainder=True), batches, dataclasses.replace(feed, arrivals=None))


def _seed(seed: int, number, purpose: int) -> tf.Tensor:
    return tf.stack([tf.cast(number, tf.int64), tf.constant(4 * seed + purpose, tf.int64)])


def _decoded(photos: Photos, photo, blank, feed: Feed) -> tf.data.Dataset:
    """Maps photos in parallel. With `feed.careful` an error is confined to its own photo, which becomes blank."""
    parallel = feed.threads or tf.data.AUTOTUNE
    if not feed.careful:
        return photos.map(photo, num_parallel_calls=parallel, deterministic=True)

    def confined(item: Photo):
        def failed(key):
            tf.numpy_function(lambda name: feed.bad.report(name), [key], [])
            return blank, item.label, tf.zeros_like(item.label, tf.float32)

        one = tf.data.Dataset.from_tensors(item).map(photo).ignore_errors(log_warning=False)
        return one.concatenate(tf.data.Dataset.from_tensors(tf.reshape(item.key, [])).map(failed)).take(1)

    return photos.interleave(confined, cycle_length=16, num_parallel_calls=parallel, deterministic=True)


def _finished(batches: tf.data.Dataset, count: int, feed: Feed) -> tf.data.Dataset:
    arrivals = feed.arrivals
    if arrivals is not None:

        def stamped(*batch):
            with tf.control_dependencies([batch[1]]):
                tf.numpy_function(arrivals.stamp, [], [])
            return batch

        batches = batches.map(stamped)
    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
    if feed.threads:
        options.threading.private_threadpool_size = feed.threads
    return batches.apply(tf.data.experimental.assert_cardinality(count)).prefetch(4).with_options(options)


def _wider(seed, on: bool) -> tf.Tensor:
    """Number of the wider network of a step, see `network_augmentation`; `WIDER_NETWORKS` for none."""
    if not on:
        return tf.constant(WIDER_NETWORKS)
    return tf.random.stateless_uniform([], seed + 2_000_003, maxval=WIDER_NETWORKS, dtype=tf.int32)


def _mixing(seed, recipe: TrainingRecipe, size: int, batch: int) -> dict[str, tf.Tensor]:
    """The random numbers of MixUp (arXiv 1710.09412) or CutMix (arXiv 1905.04899) for one batch.

    Returns:
        own: share of each photo's own label; box: (top, left, bottom, right) of the pixels that CutMix replaces, empty
        for MixUp.
    """
    either = tf.random.stateless_uniform([3], seed)
    cut = either[0] < 0.5 if recipe.mixup and recipe.cutmix else tf.constant(bool(recipe.cutmix))
    alpha = tf.where(cut, recipe.cutmix or 1.0, recipe.mixup or 1.0)
    gammas = tf.random.stateless_gamma([2], seed + 1_000_003, alpha)
    own = tf.math.divide_no_nan(gammas[0], gammas[0] + gammas[1])
    center, half = either[1:] * float(size), float(size) * tf.sqrt(1 - own) / 2
    corners = tf.clip_by_value(tf.round(tf.concat([center - half, center + half], axis=0)), 0, float(size))
    kept = 1 - (corners[2] - corners[0]) * (corners[3] - corners[1]) / size**2
    box = tf.where(cut, tf.cast(corners, tf.int32), 0)
    return {"own": tf.repeat(tf.where(cut, kept, own), batch), "box": tf.repeat(box[None], batch, axis=0)}
