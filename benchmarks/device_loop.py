"""Training steps on photos in an accelerator's memory: crops, flips and steps run in one compiled loop of JAX.

A GPU trains a tiny network faster than CPU cores decode photos, and a step is so short that starting it from Python
takes longer. So the photos are decoded once, and an epoch is a single call. The steps are those of `fd-keras train`:
the same network, loss and optimizer, and crops of the same distribution (with other random numbers).
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import keras
import numpy as np

from fd_keras import spec, zoo
from fd_keras.saved import load_model
from fd_keras.training import distillation, trainable_classifier
from fd_keras.training.network_augmentation import WiderNetworks
from fd_keras.training.optimizer import optimizer_of
from fd_keras.training.recipes import RATIO, TRIES, WIDER_NETWORKS, TrainingRecipe
from fd_keras.training.trainable_classifier import TrainableClassifier

# Settings that this loop does not have; their defaults turn them off.
_NOT_HERE = ("mixup", "cutmix", "randaugment", "antialias", "progressive_size", "class_balance", "patience")


class Photos(NamedTuple):
    """Square photos of equal size in memory.

    Attributes:
        images: uint8 (photos, side, side, 3).
        labels: int32 (photos,).
    """

    images: Any
    labels: Any


def draw_boxes(key: Any, count: int, crop_scale: float) -> Any:
    """Draws the random numbers of crops; the JAX version of `crops.draw_boxes`.

    Args:
        key: Random key of JAX.
        count: Number of photos.
        crop_scale: Minimum share of a photo's area in its crop.

    Returns:
        float32 (count, 4, TRIES).
    """
    draws = jax.random.uniform(key, (count, 4, TRIES))
    area = crop_scale + (1 - crop_scale) * draws[:, 0]
    low, high = np.log(RATIO)
    ratio = jnp.exp(low + (high - low) * draws[:, 1])
    return jnp.concatenate([jnp.sqrt(jnp.stack([area / ratio, area * ratio], axis=1)), draws[:, 2:]], axis=1)


def boxes(draws: Any, side: int) -> Any:
    """Computes the boxes of crops; the JAX version of `crops.random_box` for square photos.

    Args:
        draws: Random numbers from `draw_boxes`, (photos, 4, TRIES).
        side: Side of the photos in pixels.

    Returns:
        float32 (photos, 4): top, left, height, width.
    """
    sizes = jnp.round(draws[:, :2] * side)
    fits = jnp.all((sizes > 0) & (sizes <= side), axis=1)
    first = jnp.argmax(fits, axis=1)[:, None, None]
    size = jnp.take_along_axis(sizes, first, axis=2)[..., 0]
    place = jnp.take_along_axis(draws[:, 2:], first, axis=2)[..., 0]
    found = jnp.concatenate([jnp.floor(place * (side - size + 1)), size], axis=1)
    whole = jnp.array([0.0, 0.0, side, side])  # the central crop, if no try fits
    return jnp.where(fits.any(axis=1, keepdims=True), found, whole)


def crop(images: Any, of: Any, size: int) -> Any:
    """Crops photos and resizes the crops bilinearly, without a filter, as OpenCV does.

    Args:
        images: uint8 (photos, side, side, 3).
        of: Boxes from `boxes`.
        size: Side of the crops in pixels.

    Returns:
        uint8 (photos, size, size, 3).
    """
    side = images.shape[1]

    def weights(start: Any, length: Any) -> Any:
        """Share of each pixel of the photo in each pixel of the crop, along one axis: (photos, size, side)."""
        centers = (jnp.arange(size) + 0.5) * length[:, None] / size - 0.5
        centers = start[:, None] + jnp.clip(centers, 0, length[:, None] - 1)
        return jnp.maximum(0, 1 - jnp.abs(centers[..., None] - jnp.arange(side)))

    rows, columns = weights(of[:, 0], of[:, 2]), weights(of[:, 1], of[:, 3])
    pixels = images.astype("float32")
    exact = jax.lax.Precision.HIGHEST  # GPUs multiply float32 matrices with 10 bits otherwise
    pixels = jnp.einsum("bis,bstc->bitc", rows, pixels, precision=exact)
    pixels = jnp.einsum("bjt,bitc->bijc", columns, pixels, precision=exact)
    return jnp.round(pixels).astype("uint8")


class DeviceTraining:
    """Trains one network; the counterpart of `classifier_run.ClassifierRun` without files and without resuming.

    Args:
        model: Key of `zoo.ARCHS`.
        alpha: Width multiplier.
        recipe: Training recipe, with crops and flips as the only augmentation.
        photos: Training set.
        classes: Number of classes.
        seed: Seed of all random numbers.
        teacher: Path of the teacher's .keras file, if any.
        weights: Initial weights, as for `--init_weights`; None for random ones.

    Raises:
        ValueError: If the recipe needs what the loop does not have, or the weights do not fit.
    """

    def __init__(
        self,
        model: str,
        alpha: float,
        recipe: TrainingRecipe,
        photos: Photos,
        classes: int,
        seed: int = 0,
        teacher: str | None = None,
        weights: str | None = None,
    ):
        for name in _NOT_HERE:
            value, off = getattr(recipe, name), getattr(TrainingRecipe, name)
            if value != off:
                raise ValueError(
                    f"--{name}={value}: not available for photos in the device's memory; use {off}, or fd-keras train."
                )
        keras.utils.set_random_seed(seed)
        self.recipe, self.seed = recipe, seed
        self.steps_per_epoch = len(photos.labels) // recipe.batch_size
        # Arguments of the compiled functions, which would contain them as constants otherwise.
        self._photos, self._key = Photos(*map(jnp.asarray, photos)), jax.random.key(seed)

        def net(**arguments: Any) -> keras.Model:
            return trainable_classifier.build_net(model, alpha, recipe.image_size, classes, **arguments)

        trained = net(dropout=recipe.dropout, reparam=recipe.reparam)
        if weights:
            trainable_classifier.load_weights(trained, weights, model, alpha)
        wider = None
        if recipe.netaug > 1:
            arch = zoo.get_arch(model)
            # The same table for all seeds, so that they share compiled functions.
            wider = WiderNetworks(arch, spec.lower(arch, alpha, classes=classes), trained, recipe.netaug, seed=0)
        teaching = distillation.as_logits(load_model(teacher)) if teacher else None
        self.trainee = TrainableClassifier(trained, recipe, classes, teaching, wider=wider)
        self.optimizer = optimizer_of(recipe, self.steps_per_epoch)
        self.trainee.compile(
            self.optimizer,
            keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=recipe.label_smoothing),
            weighted_metrics=trainable_classifier.metrics(classes),
        )
        self.optimizer.build(self.trainee.trainable_variables)
        self.model = net(activation="softmax")
        self._epoch = jax.jit(self._steps, donate_argnums=0)
        self._answers = jax.jit(lambda values, images: self.model.stateless_call(*values, images, training=False)[0])
        self._statistics = jax.jit(self._statistics_of)
        self._build_metrics()

    def _build_metrics(self) -> None:
        """Creates the variables of the metrics, which Keras does when it first sees a batch."""
        indices = jnp.arange(self.recipe.batch_size)
        shapes = jax.eval_shape(self._batch, self._photos, self._key, indices, 0, False)
        batch = jax.tree.map(lambda part: keras.KerasTensor(part.shape, str(part.dtype)), shapes)
        self.trainee._symbolic_build(data_batch=batch)

    def _batch(self, photos: Photos, key: Any, indices: Any, step: Any, widens: Any) -> tuple[dict[str, Any], Any, Any]:
        """Makes a batch as `input_pipeline.training_batches` does."""
        recipe = self.recipe
        boxes_key, flip_key, wider_key = jax.random.split(jax.random.fold_in(key, step), 3)
        of = boxes(draw_boxes(boxes_key, recipe.batch_size, recipe.crop_scale), photos.images.shape[1])
        flips = jax.random.uniform(flip_key, (recipe.batch_size,)) < recipe.flip
        inputs = {
            "image": crop(photos.images[indices], of, recipe.image_size),
            "flip": flips.astype("uint8"),
        }
        if recipe.netaug > 1:
            number = jax.random.randint(wider_key, (), 0, WIDER_NETWORKS)
            inputs["wider"] = jnp.broadcast_to(jnp.where(widens, number, WIDER_NETWORKS), (recipe.batch_size,))
        return inputs, photos.labels[indices], jnp.ones((recipe.batch_size,), "float32")

    def _steps(self, state: Any, photos: Photos, key: Any, order: Any, first: Any, widens: Any) -> Any:
        """Does a step for each row of `order`, the indices of its photos."""

        def step(state: Any, row: Any) -> tuple[Any, None]:
            indices, number = row
            return self.trainee.train_step(state, self._batch(photos, key, indices, number, widens))[1], None

        return jax.lax.scan(step, state, (order, first + jnp.arange(len(order))))[0]

    def _variables(self) -> tuple[list[keras.Variable], ...]:
        trainee = self.trainee
        parts = (trainee.trainable_variables, trainee.non_trainable_variables, self.optimizer.variables)
        return (*map(list, parts), list(trainee.metrics_variables))

    def train_epoch(self, epoch: int) -> dict[str, float]:
        """Trains for an epoch, counted from 0; returns the means of loss, top-1 and top-5."""
        self.trainee.reset_metrics()
        count = self.steps_per_epoch * self.recipe.batch_size
        order = np.random.default_rng([self.seed, epoch]).permutation(len(self._photos.labels))[:count]
        return self.train_steps(
            order.reshape(self.steps_per_epoch, -1), epoch * self.steps_per_epoch, self.recipe.widens_at(epoch)
        )

    def train_steps(self, order: np.ndarray, first: int, widens: bool = False) -> dict[str, float]:
        """Trains on the photos of each row of `order`, as steps from `first` on; returns the running means."""
        variables = self._variables()
        state = tuple(map(_values_of, variables))
        state = self._epoch(state, self._photos, self._key, order.astype("int32"), np.int32(first), np.bool_(widens))
        for variable, value in zip(sum(variables, []), sum(state, []), strict=True):
            variable.assign(value)
        return {name: float(value) for name, value in self.trainee.get_metrics_result().items()}

    def update_model(self, last: bool) -> None:
        """Gives the weights to `model`; after the last epoch, also recomputes its batch-norm statistics."""
        self.trainee.give_weights(self.model)
        if last and self.recipe.bn_batches:
            self._recompute_statistics()

    def _recompute_statistics(self) -> None:
        """Does what `batch_statistics.estimate` does, with a compiled function."""
        norms: list[Any] = [layer for layer in self.model.layers if isinstance(layer, keras.layers.BatchNormalization)]
        momenta, values = [norm.momentum for norm in norms], self._values()
        for norm in norms:
            norm.momentum = 0.0  # the moving statistics become those of one batch
        rng = np.random.default_rng([self.seed, self.recipe.epochs])
        found = []
        for number in range(self.recipe.bn_batches):
            indices = rng.choice(len(self._photos.labels), self.recipe.batch_size, replace=False)
            step = self.recipe.epochs * self.steps_per_epoch + number
            found.append(self._statistics(values, self._photos, self._key, indices, step))
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        statistics = {id(variable) for norm in norms for variable in (norm.moving_mean, norm.moving_variance)}
        for variable, batches in zip(self.model.non_trainable_variables, zip(*found, strict=True), strict=True):
            if id(variable) in statistics:
                variable.assign(np.mean(batches, axis=0, dtype="float64"))

    def _statistics_of(self, values: Any, photos: Photos, key: Any, indices: Any, number: Any) -> Any:
        """Computes the batch-norm statistics of one batch."""
        images = self._batch(photos, key, indices, number, False)[0]["image"].astype("float32")
        return self.model.stateless_call(*values, images, training=True)[1]

    def _values(self) -> tuple[list[Any], list[Any]]:
        """Values of the model's variables, as `stateless_call` takes them."""
        return _values_of(self.model.trainable_variables), _values_of(self.model.non_trainable_variables)

    def score(self, photos: Photos, batch: int = 500) -> dict[str, float]:
        """Computes top-1 and the mean cross-entropy of `model` on photos that are already cropped for evaluation."""
        values, hits, loss = self._values(), 0, 0.0
        for start in range(0, len(photos.labels), batch):
            images, labels = photos.images[start : start + batch], photos.labels[start : start + batch]
            padding = ((0, batch - len(images)), *((0, 0),) * 3)  # one shape, so one compilation
            answers = np.asarray(self._answers(values, np.pad(images, padding).astype("float32")))[: len(labels)]
            hits += int((answers.argmax(-1) == labels).sum())
            loss -= float(np.log(np.maximum(answers[np.arange(len(labels)), labels], 1e-7)).sum())
        return {"val_loss": loss / len(photos.labels), "val_top1": hits / len(photos.labels)}


def _values_of(variables: list[keras.Variable]) -> list[Any]:
    return [variable.value for variable in variables]
