"""Images and their objects as a pure function of (seed, step): what `tf.data` does before a training step."""

import hashlib
import json
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from fd_keras.training import crops
from fd_keras.training.sources import content_of, random_state
from fd_keras.training.voc import boxes, faster_rcnn
from fd_keras.training.voc.annotation import Annotation
from fd_keras.training.voc.detector_recipe import DetectorRecipe
from fd_keras.training.voc.retinanet_recipe import RetinaNetRecipe


class Example(NamedTuple):
    """One image as the network sees it.

    Attributes:
        image: Image, float32 (height, width, 3), RGB 0..255.
        scale: Ratio of its size to the original's.
        truth: Edges of the objects in this image, float32 (n, 4).
        labels: Labels of the objects, int64 (n,).
    """

    image: tf.Tensor
    scale: tf.Tensor
    truth: tf.Tensor
    labels: tf.Tensor


_SPECS: Any = (  # of an example's tensors
    tf.TensorSpec((None, None, 3), tf.float32),
    tf.TensorSpec((), tf.float32),
    tf.TensorSpec((None, 4), tf.float32),
    tf.TensorSpec((None,), tf.int64),
)
SPEC = Example(*_SPECS)


class Images:
    """The images of a split that can be trained on: those with an object that is not difficult.

    Args:
        name: Name of the split, for people.
        annotations: Annotations of the split.

    Attributes:
        count: Number of images.
        left_out: Number of images that were left out.
        fingerprint: Hash that changes when the annotations do.

    Raises:
        ValueError: If none is left.
    """

    def __init__(self, name: str, annotations: Sequence[Annotation]):
        self.name = name
        self.annotations = [annotation for annotation in annotations if not annotation.difficult.all()]
        self.count = len(self.annotations)
        self.left_out = len(annotations) - self.count
        if not self.count:
            raise ValueError(f"{name}: no image has an object to learn from (difficult ones do not count).")
        listing = [[a.id, a.boxes.tolist(), a.labels.tolist(), a.difficult.tolist()] for a in self.annotations]
        self.fingerprint = hashlib.sha256(json.dumps(listing).encode()).hexdigest()[:16]

    def content(self) -> dict[str, str]:
        """Hashes of what the image files hold, see `sources.Source`."""
        return content_of([annotation.path for annotation in self.annotations])

    def order(self, seed: int, epoch: int) -> np.ndarray:
        """The order in which an epoch goes through the images."""
        return random_state(seed, epoch).permutation(self.count)

    def at(self, seed: int, step: int) -> Annotation:
        """The image that a step trains on."""
        return self.annotations[self.order(seed, step // self.count)[step % self.count]]


def examples(
    images: Images, recipe: DetectorRecipe | RetinaNetRecipe, seed: int, step: int, threads: int | None = None
) -> tf.data.Dataset:
    """The `Example`s of the rest of an epoch, from a step on.

    Args:
        images: Images of the split.
        recipe: Recipe, which decides the sides and the flip.
        seed: Seed of the run.
        step: Number of steps done in the run; the images of [step, end of its epoch) follow.
        threads: Number of threads that decode.
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
    )

    @tf.autograph.experimental.do_not_convert  # which would take seconds
    def example(path, truth, labels, number):
        image = crops.decode(tf.io.read_file(path))
        image, factors = faster_rcnn.fit(tf.ensure_shape(image, (None, None, 3)), recipe)
        return _maybe_flipped(Example(image, tf.reduce_min(factors), truth * factors, labels), recipe, seed, number)

    options = tf.data.Options()
    options.deterministic = True
    if threads:
        options.threading.private_threadpool_size = threads
    dataset = tf.data.Dataset.from_tensor_slices(columns)
    return dataset.map(example, num_parallel_calls=threads or tf.data.AUTOTUNE).prefetch(4).with_options(options)


def _ragged(values: np.ndarray, lengths: list[int]) -> Any:
    """Rows of different lengths."""
    ragged: Any = tf.RaggedTensor  # whose stub lacks this
    return ragged.from_row_lengths(values, lengths)


def _maybe_flipped(example: Example, recipe: DetectorRecipe | RetinaNetRecipe, seed: int, number) -> Example:
    draw = tf.random.stateless_uniform([], tf.stack([tf.constant(seed, tf.int64), number]))
    width = tf.cast(tf.shape(example.image)[1], tf.float32)
    flips = draw < recipe.flip
    return example._replace(
        image=tf.cond(flips, lambda: tf.image.flip_left_right(example.image), lambda: example.image),
        truth=tf.where(flips, boxes.mirror(example.truth, width), example.truth),
    )
