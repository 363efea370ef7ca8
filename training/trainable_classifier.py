"""A classifier in training: flips and mixes photos, computes the loss, and averages the weights."""

import functools
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from fd_keras import builder, layers, spec, zoo
from fd_keras import weights as weights_lib
from fd_keras.training import distillation, reparametrization
from fd_keras.training.network_augmentation import WiderNetworks
from fd_keras.training.recipes import TrainingRecipe


def mix(images: Any, own: Any, box: Any) -> Any:
    """Mixes each photo with the previous one in the batch.

    Args:
        images: Photos, float (batch, height, width, channels).
        own: Share of each photo's own label, (batch,).
        box: Pixels to replace by those of the other photo (CutMix), int32 (batch, 4) as (top, left, bottom, right); if
            the box is empty, all pixels are averaged (MixUp).

    Returns:
        Mixed images of the same shape.
    """
    other = ops.roll(images, 1, axis=0)
    shape: Any = ops.shape(images)
    rows = ops.reshape(ops.arange(shape[1], dtype="int32"), (1, -1, 1, 1))
    columns = ops.reshape(ops.arange(shape[2], dtype="int32"), (1, 1, -1, 1))
    top, left, bottom, right = (box[:, side][:, None, None, None] for side in range(4))
    inside = (rows >= top) & (rows < bottom) & (columns >= left) & (columns < right)
    cut = bottom > top
    share: Any = ops.reshape(ops.cast(own, images.dtype), (-1, 1, 1, 1))
    averaged = share * images + (1 - share) * other
    return ops.where(cut, ops.where(inside, other, images), averaged)


class TrainableClassifier(keras.Model):
    """A network in training.

    The whole state consists of variables of this model and its optimizer, so a checkpoint only has to save those.

    Args:
        net: Network that computes logits from raw images.
        recipe: Training recipe.
        classes: Number of classes.
        teacher: Network to distill from, see `distillation.open_teacher`; None for none.
        class_weights: Loss weight of each class; None for 1.
        wider: Wider networks to train as well; None for none.

    Attributes:
        net: Network in training.
        averages: Exponential moving averages of all weights and batch-norm statistics; empty if the recipe has none.
        steps: Number of steps done.
        bad_step: First step whose loss was not finite, else -1.
    """

    def __init__(
        self,
        net: keras.Model,
        recipe: TrainingRecipe,
        classes: int,
        teacher: keras.Model | None = None,
        class_weights: Sequence[float] | None = None,
        wider: WiderNetworks | None = None,
    ):
        super().__init__(name="trainee")
        self.net, self.recipe, self.classes, self.wider = net, recipe, classes, wider
        # Inside a function, since Keras would track the teacher's weights as weights of this model.
        self._answers = None if teacher is None else functools.partial(distillation.logits, teacher)
        self._class_weights = None if class_weights is None else tuple(class_weights)
        self.steps = self._state("steps", 0, "int32")
        self.bad_step = self._state("bad_step", -1, "int32")
        self.averages = []
        if recipe.ema_decay:
            for weight in net.weights:
                average = self._state(f"average_of_{weight.path.replace('/', '_')}", 0.0, weight.dtype, weight.shape)
                average.assign(weight.numpy())  # a copy: JAX donates each buffer of a step only once
                self.averages.append(average)

    def _state(self, name: str, value, dtype: str, shape=()):
        return self.add_weight(
            name=name, shape=shape, dtype=dtype, trainable=False, autocast=False,
            initializer=keras.initializers.Constant(value), aggregation="only_first_replica",
        )  # fmt: skip

    def call(self, inputs, training=False):
        """Computes the logits of a batch; for the inputs, see `input_pipeline.training_batches`."""
        return self.net(self._shown(inputs), training=training)

    def _shown(self, inputs) -> Any:
        """Flips and mixes the images for the network."""
        images = inputs["image"]  # flipped as uint8, which is a quarter of the bytes
        images = ops.where(inputs["flip"][:, None, None, None] > 0, ops.flip(images, axis=2), images)
        images = ops.cast(images, self.compute_dtype if self.recipe.mixes else "float32")
        if self.recipe.mixes:
            images = mix(images, inputs["own"], inputs["box"])
        return images

    def compute_loss(self, x: Any = None, y=None, y_pred=None, sample_weight=None, training=True):
        """Computes the loss, with labels mixed like the photos; in training, also counts the step."""
        targets: Any = ops.one_hot(y, self.classes)
        if self.recipe.mixes:
            own = x["own"][:, None]
            targets = own * targets + (1 - own) * ops.roll(targets, 1, axis=0)
        logits: Any = ops.cast(y_pred, "float32")
        labels_loss = functools.partial(super().compute_loss, x, targets, sample_weight=self._weighed(y, sample_weight))
        if not training:
            return labels_loss(logits)
        answers = None if self._answers is None else self._answers(self._shown(x))

        def criterion(logits: Any) -> Any:
            if answers is None:
                return labels_loss(logits)
            share = self.recipe.teacher_share
            return (1 - share) * labels_loss(logits) + share * self._distance(answers, logits, sample_weight)

        loss = criterion(logits)
        if self.wider is not None:
            loss += self.wider.loss(self._shown(x), x["wider"][0], criterion)
        self._note(loss)
        return loss

    def _weighed(self, labels: Any, sample_weight: Any) -> Any:
        """Multiplies the weights of photos by those of their classes."""
        if self._class_weights is None:
            return sample_weight
        weights: Any = ops.take(ops.convert_to_tensor(self._class_weights, "float32"), labels)
        return weights if sample_weight is None else weights * sample_weight

    def _distance(self, answers: Any, logits: Any, sample_weight: Any) -> Any:
        """Computes the distillation loss (arXiv 1503.02531): KL divergence from the teacher, at the same temperature.

        Gradients decrease with the square of the temperature, so the loss is multiplied by it.
        """
        temperature = self.recipe.teacher_temperature
        softened: Any = ops.stop_gradient(answers / temperature)
        wanted: Any = ops.softmax(softened)
        # Keras's own loss, which knows how many devices share a batch and ignores photos of weight 0.
        cross_entropy = keras.losses.CategoricalCrossentropy(from_logits=True)
        entropy: Any = cross_entropy(wanted, softened, sample_weight)
        divergence: Any = cross_entropy(wanted, logits / temperature, sample_weight) - entropy
        return temperature**2 * divergence

    def _note(self, loss) -> None:
        """Counts the step, and updates the averages.

        They use the weights before the step's update, for which the batch-norm statistics were computed.
        """
        step: Any = ops.convert_to_tensor(self.steps.value)
        first_bad = ops.logical_and(self.bad_step.value < 0, ops.logical_not(ops.isfinite(loss)))
        self.bad_step.assign(ops.where(first_bad, step, self.bad_step.value))
        if self.averages:
            count: Any = ops.cast(step, "float32")
            # Increases with the steps, so that the initial random weights are forgotten quickly.
            decay: Any = ops.minimum(self.recipe.ema_decay, (1 + count) / (10 + count))
            for average, weight in zip(self.averages, self.net.weights, strict=True):
                value = ops.stop_gradient(ops.cast(weight.value, average.dtype))
                average.assign(average.value + (1 - decay) * (value - average.value))
        self.steps.assign(step + 1)

    def give_weights(self, plain: keras.Model) -> None:
        """Copies the averages, or the weights without averaging, into a network without branches."""
        values = [weight.numpy() for weight in self.averages or self.net.weights]
        if self.recipe.reparam:
            reparametrization.fold(self.net, values, plain)
        else:
            plain.set_weights(values)


def build_net(
    model: str, alpha: float, size: int | None, classes: int, *, groups=None, stem_multiplier=None, dropout=0.0,
    activation=None, reparam=False,
) -> keras.Model:  # fmt: skip
    """Builds a network with random weights that takes raw images.

    Args:
        model: Key of `zoo.ARCHS`.
        alpha: Width multiplier.
        size: Side of the images in pixels; None for any size.
        classes: Number of classes.
        groups: Number of groups of a ShuffleNet.
        stem_multiplier: Stem width of a ShuffleNet.
        dropout: Dropout rate before the classifier.
        activation: Activation of the classifier; None for logits.
        reparam: Whether convolutions have branches, see `reparametrization`.
    """
    arch = zoo.get_arch(model, groups, stem_multiplier)
    net_ops = spec.lower(arch, alpha, (size, size), classes=classes)
    image = keras.Input((size, size, 3), name=spec.IMAGE)
    convolutions: Any = reparametrization.BranchedLayers(arch) if reparam else layers
    outputs = builder.build(
        arch,
        net_ops,
        image,
        layers=convolutions,
        classifier_activation=activation,
        dropout=dropout,
    )
    return keras.Model(image, outputs, name=spec.model_name(arch, alpha, (size, size)))


def load_weights(net: keras.Model, weights: str, model: str, alpha: float, groups=None, stem_multiplier=None) -> bool:
    """Loads the weights that `--init_weights` names; skips those of the classifier if the classes differ.

    Returns:
        Whether the classifier's weights were loaded too.

    Raises:
        ValueError: If the weights do not fit the network.
        OSError: If the weights cannot be read or downloaded.
    """
    arch = zoo.get_arch(model, groups, stem_multiplier)
    path = weights_lib.resolve(weights, arch, alpha)
    size, classes = net.input_shape[1:3], net.output_shape[-1]
    try:
        ops_with_top = spec.lower(arch, alpha, size, classes=classes)
        values, top = weights_lib.read(path, arch, alpha, ops_with_top), True
    except ValueError:
        values, top = weights_lib.read(path, arch, alpha, spec.lower(arch, alpha, size, include_top=False)), False
    for layer, arrays in values.items():
        net.get_layer(layer).set_weights(arrays)
    return top


def freeze(net: keras.Model, what: str) -> None:
    """Freezes layers, including the statistics of their batch normalizations.

    Args:
        net: Network whose layers to freeze.
        what: "none", "backbone" (all but the classifier), or the number of layers to freeze, starting at the input.

    Raises:
        ValueError: If `what` is anything else, or there are fewer layers.
    """
    kernels = [
        layer for layer in net.layers if layer.trainable_weights and "BatchNormalization" not in str(type(layer))
    ]
    if what == "none":
        return
    count = len(kernels) - 1 if what == "backbone" else int(what) if what.isdecimal() else -1
    if not 0 <= count < len(kernels):
        raise ValueError(f'--freeze={what}: must be "none", "backbone" or a number of layers below {len(kernels)}.')
    frozen = {layer.name for layer in kernels[:count]}
    for layer in net.layers:
        if layer.name in frozen or layer.name.removesuffix("_bn") in frozen:
            layer.trainable = False


def metrics(classes: int) -> list[keras.metrics.Metric]:
    """Returns metrics for top-1 and top-5; with fewer than five classes, top-5 is always 100%."""
    return [
        keras.metrics.SparseCategoricalAccuracy(name="top1"),
        keras.metrics.SparseTopKCategoricalAccuracy(min(5, classes), name="top5"),
    ]


def scorer_of(net: keras.Model) -> keras.Model:
    """Compiles a network that returns probabilities, so that `evaluate` computes cross_entropy, top1 and top5."""
    cross_entropy = keras.metrics.SparseCategoricalCrossentropy(name="cross_entropy")
    net.compile(
        loss="sparse_categorical_crossentropy",
        weighted_metrics=[cross_entropy, *metrics(net.output_shape[-1])],
        jit_compile=jit(),
    )
    return net


def jit() -> Any:
    """Returns `jit_compile` for Keras: XLA on JAX only; with TensorFlow on a CPU, it makes a step six times slower."""
    return "auto" if keras.backend.backend() == "jax" else False
