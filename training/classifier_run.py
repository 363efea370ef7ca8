"""Trains a classifier: epochs of Keras's `fit`, checkpoints at any step, and bit-identical resume."""

import dataclasses
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from fd_keras import class_names, spec, zoo
from fd_keras.io import write_atomically
from fd_keras.training import (
    batch_statistics,
    calibration,
    distillation,
    input_pipeline,
    reporting,
    run_record,
    sources,
    trainable_classifier,
)
from fd_keras.training.devices import Devices
from fd_keras.training.epoch import EpochCallback, EpochCallbacks, EvaluationCallback
from fd_keras.training.network_augmentation import WiderNetworks
from fd_keras.training.optimizer import optimizer_of
from fd_keras.training.recipes import TrainingRecipe
from fd_keras.training.run import RunConfig, TrainingError, TrainingRun, state_of
from fd_keras.training.sources import Source, describe


@dataclasses.dataclass(frozen=True)
class ClassifierRunConfig(RunConfig):
    """Configuration of a classifier's run, made from flags and stored in the run's folder.

    Attributes:
        recipe: Training recipe.
        model: Key of `zoo.ARCHS`.
        freeze: Layers that are not trained, see `trainable_classifier.freeze`.
        teacher: Teacher, see `distillation.open_teacher`; None for no distillation.
        max_bad_images: Maximum number of undecodable photos to skip.
        opened: Arguments of `data_sets.open_data` that reopen the data, see `run_record.lasting`.
    """

    FIXED = ("model", *RunConfig.FIXED, "freeze", "teacher")

    recipe: TrainingRecipe
    model: str
    freeze: str = "none"
    max_bad_images: int = 100
    teacher: str | None = None
    opened: dict | None = None

    @property
    def name(self) -> str:
        """Name of the model, used in the names of its files."""
        size = self.recipe.image_size
        return spec.model_name(self.arch, self.alpha, (size, size))

    @property
    def arch(self) -> spec.Arch:
        """Table of the network."""
        return zoo.get_arch(self.model, self.groups, self.stem_multiplier)


class ClassifierRun(TrainingRun):
    """A classifier's run, see `TrainingRun`.

    Args:
        config: Configuration of the run.
        data: Training and validation set, {"train", "val"}, from `data_sets.open_data`.
        devices: Devices to train on.
        say: Prints a line.
    """

    COLUMNS = reporting.COLUMNS

    config: ClassifierRunConfig
    trainee: trainable_classifier.TrainableClassifier

    def __init__(
        self,
        config: ClassifierRunConfig,
        data: dict[str, Source],
        devices: Devices,
        say: Callable[[str], None] = print,
    ):
        self.recipe, self.data = config.recipe, data
        self._final: list[np.ndarray] | None = None  # weights of the model after the last epoch
        self.arrivals = input_pipeline.Arrivals()
        bad = input_pipeline.BadImages(config.max_bad_images)
        self.feed = input_pipeline.Feed(devices.share, config.threads, bad, arrivals=self.arrivals)
        steps_per_epoch = input_pipeline.steps_per_epoch(data["train"], self.recipe.batch_size)
        super().__init__(config, _describe(config, data), steps_per_epoch, devices, say)
        if devices.leads:
            names = "".join(f"{name}\n" for name in data["train"].classes)
            write_atomically(self._path(class_names.FILE), names.encode())

    def _build(self) -> None:
        config, recipe, classes = self.config, self.recipe, len(self.data["train"].classes)
        _check(config)
        keras.utils.set_random_seed(config.seed)
        with self.devices.scope():
            size = recipe.image_size if recipe.progressive_size == 1 else None
            net = self._net(size, dropout=recipe.dropout, reparam=recipe.reparam)
            self._load_weights(net)
            trainable_classifier.freeze(net, config.freeze)
            self.devices.synchronize(net)
            self.trainee = trainable_classifier.TrainableClassifier(
                net, recipe, classes, self._teacher(), self._class_weights(), self._wider(net)
            )
            self.optimizer = optimizer_of(recipe, self.steps_per_epoch)
            self.trainee.compile(
                self.optimizer,
                keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=recipe.label_smoothing),
                weighted_metrics=trainable_classifier.metrics(classes),
                jit_compile=trainable_classifier.jit(),
            )
            self.optimizer.build(self.trainee.trainable_variables)
            self.model = trainable_classifier.scorer_of(self._net(recipe.image_size, activation="softmax"))
        # Metrics create their variables when they first see data, but a checkpoint needs all variables from the start.
        batch = self._batches(0).element_spec
        symbolic = keras.tree.map_structure(lambda t: keras.KerasTensor(t.shape, t.dtype.name), batch)
        self.trainee._symbolic_build(data_batch=symbolic)

    def _teacher(self) -> keras.Model | None:
        """Opens the teacher; raises like `distillation.open_teacher`."""
        teacher = self.config.teacher
        return None if teacher is None else distillation.open_teacher(teacher, self.data["train"].classes)

    def _wider(self, net: keras.Model) -> WiderNetworks | None:
        """Builds the wider networks that network augmentation trains together with this one."""
        config, recipe = self.config, self.recipe
        if recipe.netaug == 1:
            return None
        net_ops = spec.lower(config.arch, config.alpha, classes=net.output_shape[-1])
        return WiderNetworks(config.arch, net_ops, net, recipe.netaug, config.seed)

    def _class_weights(self) -> list[float] | None:
        """Loss weight of each class; None without class balancing."""
        if not self.recipe.class_balance:
            return None
        return class_weights(sources.counts_by_class(self.data["train"]), self.recipe.class_balance).tolist()

    def _net(self, size: int | None, **arguments) -> keras.Model:
        config, classes = self.config, len(self.data["train"].classes)
        return trainable_classifier.build_net(
            config.model, config.alpha, size, classes, groups=config.groups,
            stem_multiplier=config.stem_multiplier, **arguments,
        )  # fmt: skip

    def _load_weights(self, net: keras.Model) -> None:
        config = self.config
        if config.init_weights:
            whole = trainable_classifier.load_weights(
                net, config.init_weights, config.model, config.alpha, config.groups, config.stem_multiplier
            )
            self.say(f"started from {config.init_weights}{'' if whole else ', with a new classifier'}")

    @property
    def variables(self) -> list[keras.Variable]:
        """All variables of a checkpoint, without duplicates, always in the same order."""
        every = [*self.trainee.variables, *self.optimizer.variables, *self.trainee.metrics_variables]
        return list({id(variable): variable for variable in every}.values())

    def learning_rate_at(self, step: int) -> float:
        """The learning rate of a step, counted from 0."""
        return float(self.optimizer.learning_rate_at(step))

    # One epoch.

    def _train_epoch(self, epoch: int) -> dict[str, float]:
        self._interval = reporting.Interval()
        while self.step < (epoch + 1) * self.steps_per_epoch:  # twice if a photo cannot be decoded
            self._tolerating(self._fit)
            self._check_finite()
            self._stop_if_asked()
        means = {name: float(value) for name, value in self.trainee.get_metrics_result().items()}
        return {
            "step": self.step,
            "lr": self.learning_rate_at(self.step - 1),
            **{name: means[name] for name in reporting.TRAINED},
            "images_per_second": self.timer.total.steps_per_second * self.recipe.batch_size,
            "input_bound": self.timer.total.input_bound,
            "seconds": self.timer.total.seconds,
        }

    def _fit(self) -> None:
        """Trains on the rest of an epoch."""
        step = self.step
        in_the_middle = step % self.steps_per_epoch > 0
        metrics = state_of(self.trainee.metrics_variables) if in_the_middle else []
        self._logged = self.timer.total
        self.arrivals.clear()
        callback = EpochCallback(step, self.timer, self.arrivals, self._after_batch, metrics)
        callbacks = EpochCallbacks([callback], add_history=True, model=self.trainee)
        try:
            self.trainee.fit(self._batches(step), verbose=_QUIET, shuffle=False, callbacks=callbacks)
        except tf.errors.InvalidArgumentError:
            # The operations of a step run in parallel, so a batch that failed may have been counted.
            self.trainee.steps.assign(callback.step)
            raise

    def _batches(self, step: int) -> tf.data.Dataset:
        return input_pipeline.training_batches(self.data["train"], self.recipe, self.config.seed, step, self.feed)

    def _after_batch(self, step: int, logs: Mapping[str, Any]) -> bool:
        self._check_photos()
        return self._after_step(step, lambda: {name: float(value) for name, value in logs.items()})

    def _check_photos(self) -> None:
        """Raises TrainingError if too many photos cannot be decoded."""
        if self.feed.bad.too_many:
            raise TrainingError(str(self.feed.bad))

    def _asked_to_stop(self) -> bool:
        """Whether to stop an evaluation. With several processes it always runs to the end, since all must take part."""
        self._check_photos()
        return self.devices.alone and self.stop_signal is not None

    def _tolerating(self, work: Callable):
        """Runs a function that reads photos; if one cannot be decoded, makes later calls skip such photos.

        Returns:
            The function's result; None if it has to be called again.
        """
        try:
            with input_pipeline.explained(self.data.values()):
                return work()
        except tf.errors.InvalidArgumentError:
            if self.feed.careful:
                raise
        self.line.clear()
        logging.warning("a photo cannot be decoded; from now on, photos are decoded one by one to skip such photos")
        self.feed = dataclasses.replace(self.feed, careful=True)
        return None

    def _evaluate(self) -> dict[str, float]:
        """Computes loss, top-1 and top-5 on the validation set, for the weights that are saved."""
        self._update_model()
        scores = None
        while scores is None:  # twice if a photo cannot be decoded
            scores = self._tolerating(self._score)
            self._stop_if_asked()
        if not scores.get("cross_entropy") and not scores.get("top1"):  # all photos had weight 0
            raise TrainingError(f"{self.data['val'].name}: none of the validation photos can be decoded.")
        return {"val_loss": scores["cross_entropy"], "val_top1": scores["top1"], "val_top5": scores["top5"]}

    def _update_model(self) -> None:
        if self._final is None:
            self.trainee.give_weights(self.model)
            if not (self.recipe.bn_batches and self.step == self.total_steps):
                return
            self._estimate_statistics()
            self._final = self.model.get_weights()
        self.model.set_weights(self._final)

    def _estimate_statistics(self) -> None:
        """Recomputes the batch-norm statistics of the model, on the batches that would come next."""
        # Each process uses whole batches, so that all get the same statistics.
        feed = dataclasses.replace(self.feed, share=sources.Share(), careful=True, arrivals=None)
        batches = input_pipeline.training_batches(
            self.data["train"], self.recipe, self.config.seed, self.total_steps, feed
        )
        images = (inputs["image"] for inputs, _, _ in batches.take(self.recipe.bn_batches).as_numpy_iterator())
        batch_statistics.estimate(self.model, (batch.astype("float32") for batch in images))

    def _score(self) -> dict[str, float]:
        batches = input_pipeline.evaluation_batches(
            self.data["val"], self.recipe.image_size, self.recipe.batch_size, self.feed
        )
        callbacks = [EvaluationCallback(self._asked_to_stop)]
        scores = self.model.evaluate(batches, verbose=_QUIET, return_dict=True, callbacks=callbacks)
        return {name: float(value) for name, value in scores.items()}

    # Output.

    def _show(self, step: int, losses: Mapping[str, float]) -> None:
        done = (step - 1) % self.steps_per_epoch + 1
        self._log_steps(step, self._interval.means(done, losses))
        if self.timer.total.steps:
            epoch = f"{len(self.history) + 1}/{self.recipe.epochs}"
            speed = self.timer.total.steps_per_second * self.recipe.batch_size
            left = (self.total_steps - step) * self.timer.total.seconds_per_step
            self.line.show(reporting.batch_line(epoch, done, self.steps_per_epoch, speed, losses, left))

    def _log_steps(self, step: int, means: Mapping[str, float]) -> None:
        """Writes the means over the steps since the last call to TensorBoard."""
        part, self._logged = self.timer.total - self._logged, self.timer.total
        if part.steps:
            scalars = {f"training/{name}": means[name] for name in reporting.TRAINED} | {
                "training/learning_rate": self.learning_rate_at(step - 1),
                "speed/images_per_second": part.steps_per_second * self.recipe.batch_size,
                "speed/input_bound": part.input_bound,
            }
            self.board.write(step, scalars)

    def _epoch_line(self, row: dict) -> str:
        return reporting.epoch_line(row, self.recipe.epochs, len(self.data["train"].classes) > 5)

    def _log_epoch(self, row: dict) -> None:
        self.board.write(row["step"], {f"validation/{name}": row[f"val_{name}"] for name in reporting.TRAINED})

    def _plot(self, path: str) -> None:
        title = f"{self.config.name}, recipe {self.recipe.name}, {self.data['train'].name}"
        reporting.plot(path, title, self.history)

    def _remedies(self, bad_step: int) -> str:
        if keras.config.dtype_policy().name == "mixed_float16":
            return ", a longer --warmup_epochs, or bfloat16 instead of --mixed_precision=float16"
        return ", or a longer --warmup_epochs"

    def _is_over(self) -> bool:
        """Whether the last epoch is done, or the validation loss has not improved for `patience` epochs."""
        losses = [row["val_loss"] for row in self.history]
        since_best = len(losses) - 1 - losses.index(min(losses)) if losses else 0
        return super()._is_over() or 0 < self.recipe.patience <= since_best

    # Results.

    @property
    def best(self) -> dict:
        """The row of the epoch with the best top-1 on the validation set."""
        return max(self.history, key=lambda row: row["val_top1"])

    def _kinds(self) -> list[str]:
        return ["last", "best"] if self.best is self.history[-1] else ["last"]

    def _facts(self) -> dict:
        return {
            "best": self.best,
            "models": {kind: self.model_path(kind) for kind in ("best", "last")},
            "bad_images": sorted(self.feed.bad.names),
            "calibration": calibration.flags(
                self.config.run_dir, self.data["train"], self.data["val"], self.feed.bad.names, self.devices.leads
            ),
        }


_QUIET: Any = 0  # Keras's default is "auto", from which a type checker infers a string


def class_weights(counts: Sequence[int] | np.ndarray, power: float) -> np.ndarray:
    """Returns the weight of each class, float64 of shape (classes,), with a mean of 1 over all photos.

    Args:
        counts: Number of photos of each class.
        power: Exponent, see `TrainingRecipe.class_balance`.
    """
    numbers = np.asarray(counts, "float64")
    weights = numbers**-power
    return weights * numbers.sum() / (weights * numbers).sum()


def _check(config: ClassifierRunConfig) -> None:
    """Raises ValueError for flags that contradict each other."""
    recipe = config.recipe
    if recipe.reparam and config.init_weights:
        raise ValueError(
            f"--reparam trains from random weights; leave out --init_weights={config.init_weights}, or pass "
            "--noreparam."
        )
    if recipe.bn_batches and recipe.patience:
        raise ValueError(
            f"--bn_batches={recipe.bn_batches} needs the last epoch, which --patience={recipe.patience} may skip; pass "
            "0 for one of them."
        )
    if config.freeze != "none" and (recipe.reparam or recipe.netaug > 1):
        flag = "--reparam" if recipe.reparam else f"--netaug={recipe.netaug:g}"
        raise ValueError(f"{flag} trains all layers, but --freeze={config.freeze}; leave one of them out.")


def _describe(config: ClassifierRunConfig, data: dict[str, Source]) -> dict:
    """Returns the description of a run for its record."""
    return {
        "name": config.name,
        "config": config.fixed() | {"precision": keras.config.dtype_policy().name} | config.recipe.settings(),
        "data": {split: describe(source) for split, source in data.items()},
        "opened": config.opened,
        "classes": len(data["train"].classes),
        **run_record.origin(),
    }
