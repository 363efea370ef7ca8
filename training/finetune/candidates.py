"""Candidates of a fine-tuning: a linear head on frozen features, and the whole network, trained from that head."""

import dataclasses
import os
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from scipy.special import softmax

from fd_keras import applications, imagenet, spec, zoo
from fd_keras.io import join
from fd_keras.saved import load_model
from fd_keras.training import devices, input_pipeline, run_record, trainable_classifier
from fd_keras.training.classifier_run import ClassifierRun, ClassifierRunConfig
from fd_keras.training.finetune import features
from fd_keras.training.finetune.linear_head import LinearHead
from fd_keras.training.finetune.photo_folder import Labeled, labels_of
from fd_keras.training.finetune.results import Measured
from fd_keras.training.recipes import TrainingRecipe
from fd_keras.training.sources import Folder, Source

# Maximum standard deviation of the classifier's initial weights. A head that was fitted on features that barely
# separate the classes has large weights, whose gradients would destroy the features.
_START_DEVIATION = 0.01
_LEAST_CROP = 0.5  # minimum share of a photo's area in the views that the head is fitted on
_BATCH = 64


@dataclasses.dataclass(frozen=True)
class FinetuneNetwork:
    """A network to fine-tune.

    Attributes:
        model: Key of `zoo.ARCHS`.
        alpha: Width multiplier.
        image_size: Side of the input image in pixels.
        classes: Class names in label order.
        weights: Path of the initial weights; None for random weights.
        groups: Number of groups of a ShuffleNet.
        stem_multiplier: Stem width of a ShuffleNet.
        seed: Seed of all random numbers.
        enlarged_to: Side in pixels to enlarge images to before the network; None to not enlarge them.
    """

    model: str
    alpha: float
    image_size: int
    classes: tuple[str, ...]
    weights: str | None
    groups: int | None = None
    stem_multiplier: float | None = None
    seed: int = 0
    enlarged_to: int | None = None

    @property
    def arch(self) -> spec.Arch:
        """Table of the network."""
        return zoo.get_arch(self.model, self.groups, self.stem_multiplier)

    @property
    def name(self) -> str:
        """Name of the model, used in the names of its files."""
        return spec.model_name(self.arch, self.alpha, (self.image_size, self.image_size))

    def build(self) -> keras.Model:
        """Builds the network with its initial weights; those of the classifier only if it has as many classes."""
        variant = {"groups": self.groups, "stem_multiplier": self.stem_multiplier}
        image = seen = keras.Input((self.image_size, self.image_size, 3))
        if self.enlarged_to is not None:
            # Not keras.layers.Resizing: a model with it updates its batch normalizations when it is merely called.
            seen = keras.ops.image.resize(image, (self.enlarged_to, self.enlarged_to))
        net = applications.build_by_name(
            self.model, alpha=self.alpha, input_tensor=seen, classes=len(self.classes), weights=None, **variant
        )
        if self.weights is not None:
            trainable_classifier.load_weights(net, self.weights, self.model, self.alpha, **variant)
        return net


def classifier_of(net: keras.Model) -> Any:
    """Returns the last dense layer of a network."""
    return next(layer for layer in reversed(net.layers) if isinstance(layer, keras.layers.Dense))


def pooled_features(network: FinetuneNetwork, paths: Sequence[str], views: int) -> np.ndarray:
    """Computes the features of photos, float32 (photos, views, channels), see `features.pooled`."""
    net = network.build()
    trunk = keras.Model(net.inputs, classifier_of(net).input)
    return features.pooled(trunk, paths, views, _LEAST_CROP, network.seed)


class PhotoFeatures:
    """Features of photos, computed only once for each network.

    Args:
        paths: Paths of the photos.
    """

    def __init__(self, paths: Sequence[str]):
        self._paths = paths
        self._known: dict[FinetuneNetwork, np.ndarray] = {}

    def of(self, network: FinetuneNetwork, views: int) -> np.ndarray:
        """Returns the features of the first views of all photos, float32 (photos, views, channels)."""
        if network not in self._known or self._known[network].shape[1] < views:
            self._known[network] = pooled_features(network, self._paths, views)
        return self._known[network][:, :views]


def pixels(size: int, photos: Sequence[Labeled]) -> np.ndarray:
    """Returns the pixels of small evaluation crops as features, float32 (photos, 1, size * size * 3)."""
    images = [imagenet.load_image(path, (size, size)) for path, _ in photos]
    return np.stack(images).astype("float32").reshape(len(photos), 1, -1)


def with_head(network: FinetuneNetwork, head: LinearHead) -> keras.Model:
    """Builds the network with a linear head as its classifier."""
    net = network.build()
    classifier_of(net).set_weights([head.kernel, head.bias])
    return net


def shrunk(head: LinearHead) -> LinearHead:
    """Scales a head down so that its weights are small enough to start fine-tuning from."""
    kernel = head.kernel - head.kernel.mean(-1, keepdims=True)
    factor = min(1.0, _START_DEVIATION / max(float(kernel.std()), 1e-9))
    return dataclasses.replace(head, kernel=factor * kernel, bias=factor * (head.bias - head.bias.mean()))


def measure_head(head: LinearHead, values: np.ndarray, photos: Sequence[Labeled]) -> Measured:
    """Measures a head on photos, given the features of their first views, (photos, channels)."""
    return Measured([path for path, _ in photos], labels_of(photos), softmax(head.logits(values), axis=-1))


def cross_validated(head: LinearHead, photos: Sequence[Labeled]) -> Measured:
    """Returns the predictions of cross-validation, in which heads were tested on photos they were not fitted on."""
    tested = [photos[index] for index in head.tested]
    return Measured([path for path, _ in tested], labels_of(tested), softmax(head.logits_when_left_out, axis=-1))


def measure(model: keras.Model, photos: Sequence[Labeled]) -> Measured:
    """Measures a network on photos."""
    source = source_of("held-out photos", photos, [""] * model.output_shape[-1])
    batches = input_pipeline.evaluation_batches(source, model.input_shape[1], _BATCH, input_pipeline.Feed())
    rows = [(model.predict_on_batch(images.numpy().astype("float32")), weights) for images, _, weights in batches]
    probabilities = np.concatenate([row[weights.numpy() > 0] for row, weights in rows])
    return Measured([path for path, _ in photos], labels_of(photos), probabilities)


def tune(
    network: FinetuneNetwork,
    recipe: TrainingRecipe,
    train: Sequence[Labeled],
    held_out: Sequence[Labeled],
    run_dir: str,
    *,
    start: LinearHead | None = None,
    teacher: str | None = None,
    which: str = "last",
    threads: int | None = None,
    say: Callable[[str], None] = print,
) -> keras.Model:
    """Trains the whole network; resumes an earlier call with the same run folder.

    Args:
        network: Network to train.
        recipe: Training recipe.
        train: Training photos.
        held_out: Photos to evaluate on after each epoch.
        run_dir: Folder of the run.
        start: Head to start from, or None for a random classifier.
        teacher: Path of the teacher's .keras file; None for no distillation.
        which: "last" for the network of the last epoch; "best" for that with the highest top-1 on `held_out`.
        threads: Number of threads; None for all cores.
        say: Prints a line.

    Returns:
        The trained network, from raw images to probabilities.

    Raises:
        Stopped: After a signal, when the state is saved.
        TrainingError: If the run cannot continue.
    """
    weights = network.weights
    if start is not None:
        weights = join(run_dir, "start.keras")
        if not os.path.exists(weights):
            run_record.save_model(with_head(network, shrunk(start)), weights)
    config = ClassifierRunConfig(
        recipe, network.model, alpha=network.alpha, run_dir=run_dir, dir_flag="--output_dir", groups=network.groups,
        threads=threads, stem_multiplier=network.stem_multiplier, seed=network.seed, init_weights=weights,
        teacher=teacher,
    )  # fmt: skip
    data: dict[str, Source] = {
        "train": source_of("photos to train on", train, network.classes),
        "val": source_of("held-out photos", held_out, network.classes),
    }
    run = ClassifierRun(config, data, devices.make("none", recipe.batch_size), say)
    try:
        run.train()
        return load_model(run.model_path(which))
    finally:
        run.close()


def source_of(name: str, photos: Sequence[Labeled], classes: Sequence[str]) -> Folder:
    """Wraps photos as a source for training and evaluation."""
    return _Photos(name, [path for path, _ in photos], [label for _, label in photos], classes)


class _Photos(Folder):
    """Photos whose record does not depend on where they are, since the copies move with the output folder."""

    def content(self) -> dict[str, str]:
        """See `Source`."""
        names = Folder(self.name, [os.path.basename(path) for path in self.paths], self._labels, self.classes)
        return super().content() | {"names": names.fingerprint}
