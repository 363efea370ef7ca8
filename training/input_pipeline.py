"""Makes batches from a source with `tf.data`, as a pure function of (seed, step).

Batches are uint8; flips, mixing and normalization run in the model, with random numbers that are part of the batch.
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
from fd_keras.photos import UNDECODABLE, counted
from fd_keras.training import crops, randaugment
from fd_keras.training.recipes import WIDER_NETWORKS, TrainingRecipe
from fd_keras.training.sources import Photo, Photos, Share, Source

# Purposes of random numbers; each has its own seeds.
_CROP, _FLIP, _AUGMENT, _MIX = range(4)


class BadImages:
    """Counts the photos that cannot be decoded, and logs each of them once.

    Args:
        limit: Maximum number of such photos to skip.
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
                logging.warning("skipped %s: %d so far (%s)", UNDECODABLE, len(self.names), name)

    @property
    def too_many(self) -> bool:
        """Whether more photos than the limit cannot be decoded."""
        return len(self.names) > self.limit

    def __str__(self) -> str:
        return (
            f"{counted(UNDECODABLE, sorted(self.names))}, more than --max_bad_images={self.limit}. Remove them, raise "
            "the limit, or make shards with fd-keras prepare, which skips them."
        )


class Arrivals:
    """Records when batches left the pipeline, to compute how long the model waited for them."""

    def __init__(self):
        self._times = collections.deque()

    def clear(self) -> None:
        """Removes the times of an earlier pipeline."""
        self._times.clear()

    def stamp(self) -> None:
        """Records that a batch is ready; called by the pipeline before the batch enters the buffer."""
        self._times.append(time.perf_counter())

    def waited_since(self, asked: float) -> float:
        """Returns the seconds between a time of `time.perf_counter` and the next batch; 0 if it was ready before."""
        return max(0.0, self._times.popleft() - asked) if self._times else 0.0


@dataclasses.dataclass(frozen=True)
class Feed:
    """How batches are made on this machine. Does not change their content.

    Attributes:
        share: Part of the global batch that this process loads.
        threads: Number of decoding threads; None lets TensorFlow choose.
        bad: Counter of the photos that cannot be decoded.
        careful: Whether to skip such photos instead of failing. It costs 0.4 ms per photo, so a run enables it when it
            finds the first one.
        arrivals: Times at which batches left the pipeline.
    """

    share: Share = Share()
    threads: int | None = None
    bad: BadImages = dataclasses.field(default_factory=BadImages)
    careful: bool = False
    arrivals: Arrivals | None = None


class DamagedDataError(ProgramError):
    """Raised when a photo or shard is damaged or removed during a run; the message names the file."""


@contextlib.contextmanager
def explained(sources: Iterable[Source]) -> Iterator[None]:
    """Turns TensorFlow's errors about damaged or missing files into DamagedDataError.

    Args:
        sources: Sources that are read in the block; all are searched for the damaged shard.
    """
    try:
        yield
    except tf.errors.DataLossError as error:
        damaged = next(filter(None, (source.damaged() for source in sources)), None)
        raise DamagedDataError(
            f"{damaged or 'a shard'}: damaged ({_reason(error)}). Run the same fd-keras prepare command again; it "
            "rewrites damaged shards."
        ) from error
    except (tf.errors.NotFoundError, tf.errors.PermissionDeniedError) as error:
        raise DamagedDataError(f"{_reason(error)}. Restore it, and run the same command again.") from error


def _reason(error: tf.errors.OpError) -> str:
    """Extracts the line about a file, such as "FILE: No such file or directory", from an error about operations."""
    lines = [re.sub(r"^\s*(\{\{[^}]*\}\}\s*)+", "", line).strip() for line in error.message.splitlines()]
    own = [line for line in lines if _OF_FILES.search(line)]
    return (own or lines)[0].replace("; ", ": ")


_OF_FILES = re.compile("; |corrupted|truncated")


def steps_per_epoch(source: Source, batch_size: int) -> int:
    """Returns the number of full batches in an epoch; raises ValueError if it is 0."""
    if source.count < batch_size:
        raise ValueError(
            f"{source.name}: {source.count} photos do not fill a batch of {batch_size}; reduce --batch_size."
        )
    return source.count // batch_size


def training_batches(source: Source, recipe: TrainingRecipe, seed: int, step: int, feed: Feed) -> tf.data.Dataset:
    """Returns the batches from a step to the end of its epoch.

    Args:
        source: Training set.
        recipe: Recipe, which sets crops and augmentation.
        seed: Seed of the run.
        step: Number of steps done in the run, the index of the first batch.
        feed: How batches are made on this machine.

    Returns:
        A dataset of (inputs, label, weight). `inputs` is a dict of:
            image: uint8 (batch, size, size, 3), where size depends on the epoch.
            flip: uint8 (batch,), 1 for photos to mirror.
            own, box: float32 (batch,) and int32 (batch, 4), for `trainable_classifier.mix`, if the recipe mixes.
            wider: int32 (batch,), the index of the wider network to train, equal in the batch, if the recipe has
                network augmentation.
        label is int64 (batch,); weight is float32 (batch,), 0 for a photo that cannot be decoded and 1 for others.
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
        # Not bool: Keras sums the first batch over TensorFlow's replicas.
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
    """Selects this process's part of random numbers for the global batch."""
    return values[share.index :: share.count]


def _chunk(count: int) -> int:
    """Returns how many photos each call of tf.data's function decodes: a divisor of the batch size, at most 8.

    Each call has a fixed cost; more than eight photos no longer fit into a core's cache and were slower.
    """
    return max(divisor for divisor in range(1, 9) if count % divisor == 0)


def evaluation_batches(source: Source, size: int, batch_size: int, feed: Feed) -> tf.data.Dataset:
    """Returns all photos once, cropped for evaluation; the last batch is padded with blank photos of weight 0.

    Args:
        source: Validation set.
        size: Side of the crops in pixels.
        batch_size: Number of photos in a batch, over all processes.
        feed: How batches are made on this machine.

    Returns:
        A dataset of (image, label, weight): uint8 (batch, size, size, 3), int64 (batch,) and float32 (batch,).
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
    """Decodes photos in parallel. With `feed.careful`, photos that cannot be decoded become blank, with weight 0."""
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
    """Draws the index of the wider network for a step, see `network_augmentation`; `WIDER_NETWORKS` means none."""
    if not on:
        return tf.constant(WIDER_NETWORKS)
    return tf.random.stateless_uniform([], seed + 2_000_003, maxval=WIDER_NETWORKS, dtype=tf.int32)


def _mixing(seed, recipe: TrainingRecipe, size: int, batch: int) -> dict[str, tf.Tensor]:
    """Draws the random numbers of MixUp (arXiv 1710.09412) or CutMix (arXiv 1905.04899) for one batch.

    Returns:
        A dict of:
            own: float32 (batch,), the share of each photo's own label.
            box: int32 (batch, 4), (top, left, bottom, right) of the pixels that CutMix replaces; zeros for MixUp.
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
