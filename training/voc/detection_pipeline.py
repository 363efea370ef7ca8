"""Reads training images and their objects with `tf.data`, as a pure function of (seed, step)."""

import functools
import hashlib
import json
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from fd_keras.training import crops
from fd_keras.training.sources import content_of, random_state
from fd_keras.training.voc import boxes, faster_rcnn
from fd_keras.training.voc.annotation import Annotation
from fd_keras.training.voc.detector_recipe import DetectorRecipe
from fd_keras.training.voc.retinanet_recipe import GRAY, RetinaNetRecipe


class Example(NamedTuple):
    """An image resized for the network.

    Attributes:
        image: Image, float32 (height, width, 3), RGB 0..255.
        scale: Scale relative to the original image, a float32 scalar.
        truth: Edges of the objects in pixels of this image, float32 (n, 4).
        labels: Indices of the objects' classes, int64 (n,).
    """

    image: tf.Tensor
    scale: tf.Tensor
    truth: tf.Tensor
    labels: tf.Tensor


_SPECS: Any = (  # of the tensors of an `Example`
    tf.TensorSpec((None, None, 3), tf.float32),
    tf.TensorSpec((), tf.float32),
    tf.TensorSpec((None, 4), tf.float32),
    tf.TensorSpec((None,), tf.int64),
)
SPEC = Example(*_SPECS)


class Images:
    """The training images of a split: those with at least one object that is not difficult.

    Args:
        name: Name of the split, for messages.
        annotations: Annotations of the split.

    Attributes:
        count: Number of training images.
        left_out: Number of images without such an object.
        fingerprint: Hash of the annotations.

    Raises:
        ValueError: If the training list is empty.
    """

    def __init__(self, name: str, annotations: Sequence[Annotation]):
        self.name = name
        self.annotations = [annotation for annotation in annotations if not annotation.difficult.all()]
        self.count = len(self.annotations)
        self.left_out = len(annotations) - self.count
        if not self.count:
            raise ValueError(f"{name}: no image has an object that is not difficult; check the annotations.")
        listing = [[a.id, a.boxes.tolist(), a.labels.tolist(), a.difficult.tolist()] for a in self.annotations]
        self.fingerprint = hashlib.sha256(json.dumps(listing).encode()).hexdigest()[:16]

    def content(self) -> dict[str, str]:
        """Returns hashes of the image files' content, see `sources.Source`."""
        return content_of([annotation.path for annotation in self.annotations])

    def order(self, seed: int, epoch: int) -> np.ndarray:
        """Returns the order of the images in an epoch, a permutation of their indices."""
        return random_state(seed, epoch).permutation(self.count)

    def at(self, seed: int, step: int) -> Annotation:
        """Returns the image of a step, counted from 0."""
        return self.annotations[self.order(seed, step // self.count)[step % self.count]]


def examples(
    images: Images, recipe: DetectorRecipe | RetinaNetRecipe, seed: int, step: int, threads: int | None = None
) -> tf.data.Dataset:
    """Returns the `Example`s from a step to the end of its epoch.

    Args:
        images: Training images.
        recipe: Recipe, which sets image sizes and flips.
        seed: Seed of the run.
        step: Number of steps done in the run, the index of the first image.
        threads: Number of decoding threads; None lets TensorFlow choose.
    """
    epoch, start = divmod(step, images.count)
    order = images.order(seed, epoch)[start:]
    chosen = [images.annotations[index] for index in order]
    kept = [~annotation.difficult for annotation in chosen]
    lengths = [int(keep.sum()) for keep in kept]
    truth = np.concatenate([a.boxes[keep] for a, keep in zip(chosen, kept, strict=True)])
    labels = np.concatenate([a.labels[keep] for a, keep in zip(chosen, kept, strict=True)])
    columns = (
        [annotation.path for annotation in chosen],
        _ragged(boxes.from_pixels(truth).astype("float32"), lengths),
        _ragged(labels, lengths),
        np.arange(step, step + len(chosen), dtype="int64"),
        np.array([annotation.orientation for annotation in chosen], "int32"),
    )
    rotated = any(annotation.orientation != 1 for annotation in chosen)

    @tf.autograph.experimental.do_not_convert  # conversion would take seconds
    def example(path, truth, labels, number, orientation):
        image = crops.decode(tf.io.read_file(path))
        image = _upright(image, orientation) if rotated else image
        # For the flip, the zoom, and the offsets in y and x.
        draw = tf.random.stateless_uniform([4], tf.stack([tf.constant(seed, tf.int64), number]))
        limit = math.log(recipe.zoom)
        image, factors = faster_rcnn.fit(
            tf.ensure_shape(image, (None, None, 3)), recipe, tf.exp((2 * draw[1] - 1) * limit)
        )
        found = _maybe_flipped(Example(image, tf.reduce_min(factors), truth * factors, labels), draw[0] < recipe.flip)
        return _window(found, recipe.short_side, draw[2:]) if limit else found

    options = tf.data.Options()
    options.deterministic = True
    if threads:
        options.threading.private_threadpool_size = threads
    dataset = tf.data.Dataset.from_tensor_slices(columns)
    return dataset.map(example, num_parallel_calls=threads or tf.data.AUTOTUNE).prefetch(4).with_options(options)


def _upright(image: tf.Tensor, orientation: tf.Tensor) -> tf.Tensor:
    """Applies an EXIF orientation, as `PIL.ImageOps.exif_transpose` does."""
    image = tf.cond(orientation >= 5, lambda: tf.transpose(image, [1, 0, 2]), lambda: image)
    for axis, flipped in ((1, (2, 3, 6, 7)), (0, (3, 4, 7, 8))):
        turned = tf.reduce_any(orientation == tf.constant(flipped))
        image = tf.cond(turned, functools.partial(tf.reverse, image, [axis]), functools.partial(tf.identity, image))
    return image


def _ragged(values: np.ndarray, lengths: list[int]) -> Any:
    """Splits values into rows of different lengths."""
    ragged: Any = tf.RaggedTensor  # its stub lacks the method
    return ragged.from_row_lengths(values, lengths)


def _maybe_flipped(example: Example, flips) -> Example:
    width = tf.cast(tf.shape(example.image)[1], tf.float32)
    return example._replace(
        image=tf.cond(flips, lambda: tf.image.flip_left_right(example.image), lambda: example.image),
        truth=tf.where(flips, boxes.mirror(example.truth, width), example.truth),
    )


def _window(example: Example, side: int, draw) -> Example:
    """Crops or pads an image at random offsets, so that it fits into a square; drops objects whose center is outside.

    Args:
        example: Example.
        side: Side of the square in pixels.
        draw: Two random numbers in [0, 1), for the offsets in y and x.
    """
    size = tf.shape(example.image)[:2]
    offset = tf.cast(tf.round(tf.cast(side - size, tf.float32) * draw), tf.int32)
    before, cut = tf.maximum(offset, 0), tf.maximum(-offset, 0)
    image = example.image[cut[0] : cut[0] + side, cut[1] : cut[1] + side]
    image = tf.pad(image, [[before[0], 0], [before[1], 0], [0, 0]], constant_values=GRAY)
    moved = example.truth + tf.tile(tf.cast(offset, tf.float32)[::-1], [2])
    centers = (moved[:, :2] + moved[:, 2:]) / 2
    visible = tf.reduce_all((centers >= 0) & (centers < side), axis=-1)
    return example._replace(
        image=image,
        truth=boxes.clip(tf.boolean_mask(moved, visible), (side, side)),
        labels=tf.boolean_mask(example.labels, visible),
    )
