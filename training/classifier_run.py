"""The training loop: epochs of Keras's `fit`, checkpoints at any step, and a resume that ends at the same bits."""

import dataclasses
import logging
import time
from collections.abc import Callable

import keras
import tensorflow as tf

from fd_keras import spec, zoo
from fd_keras.io import join, write_atomically, write_json
from fd_keras.training import checkpoint, input_pipeline, reporting, run_lifecycle, run_record, trainable_classifier
from fd_keras.training.devices import Devices
from fd_keras.training.optimizer import optimizer_of
from fd_keras.training.recipes import TrainingRecipe
from fd_keras.training.run_lifecycle import TrainingError

CHECK_EVERY = 10  # steps between two looks at the loss; each makes an accelerator wait for the host


@dataclasses.dataclass(frozen=True)
class ClassifierRunConfig(run_lifecycle.RunConfig):
    """What a run is. Flags make it; a run's folder keeps it.

    Attributes:
        recipe: how to train.
        model: a key of `zoo.ARCHS`.
        freeze: see `model.freeze`.
        max_bad_images: how many photos that cannot be decoded to put up with.
    """

    FIXED = ("model", *run_lifecycle.RunConfig.FIXED, "freeze")

    recipe: TrainingRecipe
    model: str
    freeze: str = "none"
    max_bad_images: int = 100

    @property
    def name(self) -> str:
        """The model's, which joins its files."""
        size = self.recipe.image_size
        return spec.model_name(zoo.get_arch(self.model, self.groups, self.stem_multiplier), self.alpha, (size, size))


class ClassifierRun:
    """A run: made new or restored from its folder, then trained to the end.

    Args:
        config: what it is.
        data: from `sources.open_data`.
        devices: what it runs on.
        say: prints a line.

    Raises:
        ValueError, OSError: before the first step, for anything that cannot work.
    """

    def __init__(self, config: ClassifierRunConfig, data: dict, devices: Devices, say: Callable[[str], None] = print):
        self.config, self.recipe, self.data, self.devices, self.say = config, config.recipe, data, devices, say
        self.steps_per_epoch = input_pipeline.steps_per_epoch(data["train"], self.recipe.batch_size)
        self.history: list[dict] = []
        self.stop_signal: int | None = None
        self.feed = input_pipeline.Feed(
            devices.share,
            config.threads,
            input_pipeline.BadImages(config.max_bad_images),
            arrivals=input_pipeline.Arrivals(),
        )
        self._open_folder()
        self._build()
        run_lifecycle.check_disk(config.run_dir, self._variables, config.keep)
        self._restore()

    # Before the first step.

    def _open_folder(self) -> None:
        """Makes the folder, keeps others out of it, and tries to write."""
        self._lock = run_lifecycle.open_folder(self.config.run_dir, leads=self.devices.leads)
        self._described = run_record.describe(self.config, self.data)
        run_record.check_same(self._path(run_record.FILE), self._described)

    def _build(self) -> None:
        config = self.config
        keras.utils.set_random_seed(config.seed)
        with self.devices.scope():
            net = self._net(dropout=self.recipe.dropout)
            if config.init_weights:
                top = trainable_classifier.load_weights(
                    net, config.init_weights, config.model, config.alpha, config.groups, config.stem_multiplier
                )
                self.say(f"started from {config.init_weights}{'' if top else ', with a new classifier'}")
            trainable_classifier.freeze(net, config.freeze)
            self.devices.synchronize(net)
            self.trainee = trainable_classifier.TrainableClassifier(net, self.recipe, len(self.data["train"].classes))
            self.trainee.compile(
                optimizer_of(self.recipe, self.steps_per_epoch),
                keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=self.recipe.label_smoothing),
                weighted_metrics=trainable_classifier.metrics(self.trainee.classes),
                jit_compile=trainable_classifier.jit(),
            )
            self.trainee.optimizer.build(self.trainee.trainable_variables)
            self.scorer = trainable_classifier.scorer_of(self._net(activation="softmax"))
        # Metrics make their variables when they first see data; a checkpoint needs them all from the start.
        batch = input_pipeline.training_batches(self.data["train"], self.recipe, config.seed, 0, self.feed).element_spec
        self._symbolic = keras.tree.map_structure(lambda t: keras.KerasTensor(t.shape, t.dtype.name), batch)
        self.trainee._symbolic_build(data_batch=self._symbolic)

    def _net(self, **arguments) -> keras.Model:
        config, classes = self.config, len(self.data["train"].classes)
        return trainable_classifier.build_net(
            config.model, config.alpha, self.recipe.image_size, classes, groups=config.groups,
            stem_multiplier=config.stem_multiplier, **arguments,
        )  # fmt: skip

    @property
    def _variables(self) -> list:
        """All that changes, once each, in an order that does not."""
        trainee = self.trainee
        every = [*trainee.variables, *trainee.optimizer.variables, *trainee.metrics_variables]
        return list({id(variable): variable for variable in every}.values())

    def _restore(self) -> None:
        meta = checkpoint.restore(run_lifecycle.checkpoints(self.config.run_dir), self._variables, logging.warning)
        if meta is not None:
            self.history = meta["history"]
            self.say(f"resumed at step {self.step} of {self.total_steps} ({self.config.run_dir})")
        if self.devices.leads:
            write_json(self._path(run_record.FILE), self._described)
            write_atomically(
                self._path("classes.txt"), "".join(f"{name}\n" for name in self.data["train"].classes).encode()
            )

    # Training.

    @property
    def step(self) -> int:
        """Steps done."""
        return int(self.trainee.steps.numpy())

    @property
    def total_steps(self) -> int:
        """Steps of the whole run."""
        return self.recipe.epochs * self.steps_per_epoch

    def train(self) -> dict:
        """Trains to the end.

        Returns:
            The closing facts: "best" and "last" rows of the history, "models" (paths), "bad_images".

        Raises:
            Stopped: after a signal; everything is saved.
            TrainingError: if it cannot go on.
        """
        self.board = reporting.TensorBoard(self._path("tensorboard")) if self.devices.leads else None
        self.line = reporting.StatusLine()
        with self._signals():
            while len(self.history) < self.recipe.epochs:
                epoch = len(self.history)
                rates = self._train_epoch(epoch)
                scores = self._evaluate()
                self.history.append(self._row(epoch, rates, scores))
                self._save_models()
                self.save()
                self._report()
        return self._closing()

    def _train_epoch(self, epoch: int) -> "Pace":
        """Trains to the end of an epoch, from wherever it was left."""
        pace = Pace(self, epoch)
        while self.step < (epoch + 1) * self.steps_per_epoch:
            held = [variable.numpy() for variable in self.trainee.metrics_variables]
            pace.resume(held)
            batches = input_pipeline.training_batches(
                self.data["train"], self.recipe, self.config.seed, self.step, self._next_feed()
            )
            self._tolerating(lambda data=batches: self.trainee.fit(data, verbose=0, shuffle=False, callbacks=[pace]))
            self._check_finite()
            self._stop_if_asked()
        return pace

    def _next_feed(self) -> input_pipeline.Feed:
        self.feed.arrivals.times.clear()
        return self.feed

    def _tolerating(self, work: Callable):
        """Runs something that reads photos; if one cannot be decoded, says so to the pipeline and returns None."""
        try:
            return work()
        except (tf.errors.InvalidArgumentError, tf.errors.DataLossError) as error:
            if isinstance(error, tf.errors.DataLossError):
                raise TrainingError(f"a shard is damaged ({error.message}); run training.prepare again.") from error
            if self.feed.careful:
                raise
            self.line.clear()
            logging.warning("a photo cannot be decoded; from here on every photo is decoded on its own")
            self.feed = dataclasses.replace(self.feed, careful=True)
        return None

    def _evaluate(self) -> dict[str, float]:
        """Loss, top-1 and top-5 of the weights that would be saved, on the validation set."""
        self.scorer.set_weights(self.trainee.best_weights())
        scores = None
        while scores is None:
            batches = input_pipeline.evaluation_batches(
                self.data["val"], self.recipe.image_size, self.recipe.batch_size, self.feed
            )
            scores = self._tolerating(
                lambda data=batches: self.scorer.evaluate(
                    data, verbose=0, return_dict=True, callbacks=[_StopTest(self)]
                )
            )
            self._stop_if_asked()
        return {"loss": scores["cross_entropy"], "top1": scores["top1"], "top5": scores["top5"]}

    def _row(self, epoch: int, pace: "Pace", scores: dict) -> dict:
        trained = {metric.name: float(metric.result()) for metric in self.trainee.metrics if metric.name == "loss"}
        trained |= {name: float(value) for name, value in self.trainee.get_metrics_result().items()}
        rate = float(self.trainee.optimizer.learning_rate_at(self.step - 1))
        row = {"epoch": epoch + 1, "step": self.step, "lr": rate}
        row |= {name: trained[name] for name in reporting.TRAINED} | {f"val_{k}": float(v) for k, v in scores.items()}
        return row | pace.totals()

    def _check_finite(self) -> None:
        bad = int(self.trainee.bad_step.numpy())
        if bad < 0:
            return
        last = (checkpoint.saved(run_lifecycle.checkpoints(self.config.run_dir)) or ["none yet"])[-1]
        raise TrainingError(
            f"the loss was no longer a number at step {bad} (epoch {bad // self.steps_per_epoch + 1}). The last good "
            f"checkpoint is {last}. Try, with a new --run_dir, a lower --learning_rate than "
            f"{self.recipe.learning_rate:g}, or a longer --warmup_epochs than {self.recipe.warmup_epochs:g}; with "
            "--mixed_precision=float16, try bfloat16."
        )

    def save(self) -> str | None:
        """Writes a checkpoint of this moment; returns its path, or None on a process that does not lead."""
        if not self.devices.leads:
            return None
        meta = {"history": self.history}
        return run_lifecycle.save(self.config.run_dir, self.step, self._variables, meta, self.config.keep)

    def _save_models(self) -> None:
        """Saves the network as it was just evaluated: as the last one, and as the best if it is that."""
        best = max(self.history, key=lambda row: row["val_top1"])
        kinds = ["last", "best"] if best is self.history[-1] else ["last"]
        for kind in kinds:  # by all processes: Keras on JAX has them agree on every array that it reads
            run_record.save_model(self.scorer, self._model_path(kind), write=self.devices.leads)

    def _model_path(self, kind: str) -> str:
        return self._path(kind, f"{self.config.name}.keras")

    def _path(self, *parts: str) -> str:
        return join(self.config.run_dir, *parts)

    # Telling people.

    def _report(self) -> None:
        if not self.devices.leads:
            return
        row = self.history[-1]
        self.line.clear()
        self.say(reporting.epoch_line(row, self.recipe.epochs))
        reporting.write_history(self._path("history.csv"), self.history)
        names = {f"val_{name}": f"validation/{name}" for name in reporting.TRAINED}
        self.board.write(row["step"], {title: row[name] for name, title in names.items()})
        self.board.flush()

    def _closing(self) -> dict:
        """Draws the plot and gathers what to tell."""
        title = f"{self.config.name}, recipe {self.recipe.name}, {self.data['train'].name}"
        drawn = self.devices.leads and reporting.plot(self._path("curves.png"), title, self.history)
        facts = {
            "best": max(self.history, key=lambda row: row["val_top1"]),
            "last": self.history[-1],
            "models": {kind: self._model_path(kind) for kind in ("best", "last")},
            "plot": self._path("curves.png") if drawn else None,
            "bad_images": sorted(self.feed.bad.names),
        }
        if self.devices.leads:
            write_json(self._path(run_record.FILE), self._described | {"result": facts})
        return facts

    # Signals.

    def _signals(self):
        return run_lifecycle.Signals(self._ask_to_stop)

    def _ask_to_stop(self, number: int) -> None:
        self.stop_signal = number
        self.line.clear()
        self.say(run_lifecycle.stopping(number))

    def _stop_if_asked(self) -> None:
        if self.stop_signal is not None:
            raise run_lifecycle.stopped_after_saving(self.step, self.total_steps, self.save(), self.stop_signal)


class Pace(keras.callbacks.Callback):
    """Follows an epoch: progress, checkpoints, a look at the loss, and how long the model waited for input."""

    def __init__(self, run: ClassifierRun, epoch: int):
        super().__init__()
        self.run, self.epoch = run, epoch
        self.start: float | None = None
        self.waited, self.done = 0.0, 0
        self.interval = reporting.Interval()

    def resume(self, metrics: list) -> None:
        """Notes the metrics' state, which `fit` resets, for an epoch that goes on in the middle."""
        self._metrics = metrics
        self._step = self.run.step
        self._fresh = self._step % self.run.steps_per_epoch == 0

    def on_epoch_begin(self, epoch, logs=None):
        if not self._fresh:
            for variable, value in zip(self.run.trainee.metrics_variables, self._metrics, strict=True):
                variable.assign(value)

    def on_train_batch_begin(self, batch, logs=None):
        self._asked = time.perf_counter()

    def on_train_batch_end(self, batch, logs=None):
        run = self.run
        self._step += 1
        arrived = run.feed.arrivals.times.popleft() if run.feed.arrivals.times else self._asked
        if self.start is None:  # the first step was spent on tracing and on filling the pipeline
            self.start = time.perf_counter()
            self._logged = (self.start, 0.0, 0)
        else:
            self.done += 1
            self.waited += max(0.0, arrived - self._asked)
        at_end = self._step % run.steps_per_epoch == 0
        if self._step % CHECK_EVERY == 0 or at_end:
            self._look({name: float(value) for name, value in logs.items()})
        if run.feed.bad.too_many:
            raise TrainingError(str(run.feed.bad))
        if run.stop_signal is not None:
            self.model.stop_training = True
        elif self._step % run.config.checkpoint_every == 0 and not at_end:  # the epoch's end saves anyway
            run.devices.sync(self.model)
            run._check_finite()
            run.save()

    def _look(self, logs: dict[str, float]) -> None:
        run, now = self.run, time.perf_counter()
        if not all(map(_is_finite, logs.values())):
            run.devices.sync(self.model)
            run._check_finite()
        done = (self._step - 1) % run.steps_per_epoch + 1
        then, waited, count = self._logged
        means = self.interval.means(done, logs)
        if run.board is not None and self.done > count:
            images = (self.done - count) * run.recipe.batch_size
            scalars = {f"training/{name}": means[name] for name in reporting.TRAINED} | {
                "training/learning_rate": float(run.trainee.optimizer.learning_rate_at(self._step - 1)),
                "speed/images_per_second": images / (now - then),
                "speed/input_bound": min(1.0, (self.waited - waited) / (now - then)),
            }
            run.board.write(self._step, scalars)
        self._logged = (now, self.waited, self.done)
        if not self.done:
            return
        rate = self.done / (now - self.start)
        line = reporting.batch_line(
            f"{self.epoch + 1}/{run.recipe.epochs}", done, run.steps_per_epoch, rate, run.recipe.batch_size, logs,
            left=(run.total_steps - self._step) / rate,
        )  # fmt: skip
        run.line.show(line)

    def totals(self) -> dict[str, float]:
        """Speed of the epoch (of the part since it was resumed), its first step left out."""
        seconds = time.perf_counter() - self.start if self.done else 0.0
        return {
            "images_per_second": self.done * self.run.recipe.batch_size / seconds if seconds else 0.0,
            "input_bound": min(1.0, self.waited / seconds) if seconds else 0.0,
            "seconds": seconds,
        }


class _StopTest(keras.callbacks.Callback):
    """Ends an evaluation that was asked to stop."""

    def __init__(self, run: ClassifierRun):
        super().__init__()
        self._run = run

    def on_test_batch_end(self, batch, logs=None):
        if self._run.feed.bad.too_many:
            raise TrainingError(str(self._run.feed.bad))
        if self._run.stop_signal is not None:
            self.model.stop_evaluating = True


def _is_finite(value: float) -> bool:
    return value - value == 0
