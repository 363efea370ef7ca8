"""The training loop of detectors: one image a step, checkpoints at any step, a resume that ends at the same bits."""

import dataclasses
import logging
import math
import time

import keras
import numpy as np
import tensorflow as tf

from fd_keras import spec, zoo
from fd_keras.io import join, write_json
from fd_keras.training import checkpoint, run_lifecycle, run_record
from fd_keras.training import reporting as board_lib
from fd_keras.training.optimizer import Schedule, TorchSGD
from fd_keras.training.run_lifecycle import TrainingError
from fd_keras.training.voc import backbone, detection_pipeline, detector_reporting, draw, faster_rcnn
from fd_keras.training.voc import dataset as data_lib
from fd_keras.training.voc.detector import Detector, model_path
from fd_keras.training.voc.detector_recipe import DetectorRecipe
from fd_keras.training.voc.trainable_detector import LOSSES, TrainableDetector

LOOK_EVERY = 10  # steps between two looks at the losses
_DRAWN = 4  # images whose detections TensorBoard shows
_SHOWN = 0.5  # score of the detections that are drawn


@dataclasses.dataclass(frozen=True)
class DetectorRunConfig(run_lifecycle.RunConfig):
    """What a run is. Flags make it; a run's folder keeps it.

    Attributes:
        recipe: how to train.
        backbone: a key of `zoo.ARCHS`.
    """

    FIXED = ("backbone", *run_lifecycle.RunConfig.FIXED)

    recipe: DetectorRecipe
    backbone: str
    checkpoint_every: int = dataclasses.field(default=500, kw_only=True)

    @property
    def name(self) -> str:
        """The detector's, which joins its files."""
        arch = zoo.get_arch(self.backbone, self.groups, self.stem_multiplier)
        return f"faster_rcnn_{spec.model_name(arch, self.alpha, (None, None))}_{self.recipe.short_side}"


class DetectorRun:
    """A run: made new or restored from its folder, then trained to the end.

    Args:
        config: what it is.
        images: to train on.
        classes: names in label order.
        say: prints a line.

    Raises:
        ValueError, OSError: before the first step, for anything that cannot work.
    """

    def __init__(
        self, config: DetectorRunConfig, images: detection_pipeline.Images, classes: tuple[str, ...], say=print
    ):
        self.config, self.recipe, self.images, self.classes, self.say = config, config.recipe, images, classes, say
        self.history: list[dict] = []
        self.stop_signal: int | None = None
        self._lock = run_lifecycle.open_folder(config.run_dir)
        self._described = self._describe()
        run_record.check_same(self._path(run_record.FILE), self._described)
        self._build()
        run_lifecycle.check_disk(config.run_dir, self.trainee.variables, config.keep)
        self._restore()

    def _describe(self) -> dict:
        images = {"fingerprint": self.images.fingerprint, "photos": self.images.count, "name": self.images.name}
        return {
            "name": self.config.name,
            "config": self.config.fixed() | self.recipe.settings() | {"classes": list(self.classes)},
            "class_names": list(self.classes),
            "data": {"train": images},
            **run_record.origin(),
        }

    def _build(self) -> None:
        config, recipe = self.config, self.recipe
        keras.utils.set_random_seed(config.seed)
        under = backbone.choose(
            config.backbone, config.alpha, config.groups, config.stem_multiplier, config.init_weights
        )
        net = faster_rcnn.build_net(under, len(self.classes), recipe)
        if config.init_weights:
            backbone.load_weights(net, config.init_weights, under)
            self.say(f"started from {config.init_weights}")
        else:
            self.say("warning: the backbone is random, and little will be learned; give --init_weights")
        self.rate = Schedule(
            "step", recipe.learning_rate, self.total_steps, drop_every=recipe.drop_every * self.images.count,
            drop_factor=recipe.drop_factor,
        )  # fmt: skip
        optimizer = TorchSGD(self.rate, recipe.momentum, weight_decay=recipe.weight_decay)
        self.detector = faster_rcnn.FasterRCNN(net, recipe)
        self.trainee = TrainableDetector(self.detector, optimizer, config.seed)
        self.shown = Detector(net, config.fixed() | recipe.settings(), self.classes, config.name)

    def _restore(self) -> None:
        meta = checkpoint.restore(
            run_lifecycle.checkpoints(self.config.run_dir), self.trainee.variables, logging.warning
        )
        if meta is not None:
            self.history = meta["history"]
            self.say(f"resumed at step {self.step} of {self.total_steps} ({self.config.run_dir})")
        write_json(self._path(run_record.FILE), self._described)

    # Training.

    @property
    def step(self) -> int:
        """Steps done."""
        return int(self.trainee.steps.numpy())

    @property
    def total_steps(self) -> int:
        """Steps of the whole run."""
        return self.recipe.epochs * self.images.count

    def train(self) -> dict:
        """Trains to the end.

        Returns:
            The closing facts: "last" row of the history, "model" and "plot" (paths).

        Raises:
            Stopped: after a signal; everything is saved.
            TrainingError: if it cannot go on.
        """
        self.board = board_lib.TensorBoard(self._path("tensorboard"))
        self.line = board_lib.StatusLine()
        with run_lifecycle.Signals(self._ask_to_stop):
            while len(self.history) < self.recipe.epochs:
                pace = self._train_epoch(len(self.history))
                self.history.append(self._row(pace))
                self.trainee.sums.assign(np.zeros(len(LOSSES)))
                run_record.save_model(self.detector.net, model_path(self.config.run_dir, "last", self.config.name))
                self.save()
                self._report()
        return self._closing()

    def _train_epoch(self, epoch: int) -> "Pace":
        """Trains to the end of an epoch, from wherever it was left."""
        pace, start, count = Pace(), self.step, self.images.count
        examples = iter(
            detection_pipeline.examples(self.images, self.recipe, self.config.seed, start, self.config.threads)
        )
        for step in range(start + 1, (epoch + 1) * count + 1):
            pace.ask()
            example = self._next(examples, step - 1)
            pace.arrived()
            losses = self.trainee.step(example)
            if step % LOOK_EVERY == 0 or step % count == 0:
                self._look(step, pace, dict(zip(LOSSES, losses.numpy().tolist(), strict=True)))
            if self.stop_signal is not None:
                self._check_finite()
                raise run_lifecycle.stopped_after_saving(step, self.total_steps, self.save(), self.stop_signal)
            if step % self.config.checkpoint_every == 0 and step % count:  # the epoch's end saves anyway
                self._check_finite()
                self.save()
        self._check_finite()
        return pace

    def _next(self, examples, step: int) -> detection_pipeline.Example:
        """The next example; raises TrainingError with the image's name if it cannot be decoded."""
        try:
            return next(examples)
        except tf.errors.OpError as error:
            path = self.images.at(self.config.seed, step).path
            raise TrainingError(
                f"{path}: cannot be decoded ({error.message.splitlines()[0]}). Replace it or take its name off the "
                f"split's list; {data_lib.CHECK} DIR finds all such files."
            ) from error

    def _look(self, step: int, pace: "Pace", losses: dict[str, float]) -> None:
        if not math.isfinite(losses["loss"]):
            self._check_finite()
        done = (step - 1) % self.images.count + 1
        if pace.done:
            scalars = {f"training/{name}": value for name, value in losses.items()}
            scalars |= {"training/learning_rate": self._rate_at(step - 1), "speed/seconds_per_image": pace.seconds}
            self.board.write(step, scalars)
            mean = float(self.trainee.sums.numpy()[LOSSES.index("loss")]) / done
            left = pace.seconds * (self.total_steps - step)
            epoch = f"{len(self.history) + 1}/{self.recipe.epochs}"
            self.line.show(detector_reporting.step_line(epoch, done, self.images.count, pace.seconds, mean, left))

    def _rate_at(self, step: int) -> float:
        return float(self.rate(step))

    def _check_finite(self) -> None:
        bad = int(self.trainee.bad_step.numpy())
        if bad < 0:
            return
        last = (checkpoint.saved(run_lifecycle.checkpoints(self.config.run_dir)) or ["none yet"])[-1]
        image = self.images.at(self.config.seed, bad).path
        raise TrainingError(
            f"the loss was no longer a number at step {bad} (epoch {bad // self.images.count + 1}, {image}). The last "
            f"good checkpoint is {last}. Try, with a new --run_dir, a lower --learning_rate than "
            f"{self.recipe.learning_rate:g}; or look for a wrong box in that image's annotation."
        )

    def _row(self, pace: "Pace") -> dict:
        means = self.trainee.sums.numpy() / self.images.count
        row = {"epoch": len(self.history) + 1, "step": self.step, "lr": self._rate_at(self.step - 1)}
        return row | dict(zip(LOSSES, means.tolist(), strict=True)) | pace.totals()

    def save(self) -> str:
        """Writes a checkpoint of this moment; returns its path."""
        meta = {"history": self.history}
        return run_lifecycle.save(self.config.run_dir, self.step, self.trainee.variables, meta, self.config.keep)

    def _path(self, *parts: str) -> str:
        return join(self.config.run_dir, *parts)

    # Telling people.

    def _report(self) -> None:
        row = self.history[-1]
        self.line.clear()
        self.say(detector_reporting.epoch_line(row, self.recipe.epochs))
        self._write_history()
        self.board.write(row["step"], {f"epoch/{name}": row[name] for name in LOSSES})
        self.board.draw(row["step"], self._pictures())
        self.board.flush()

    def _write_history(self) -> None:
        board_lib.write_history(self._path("history.csv"), self.history, detector_reporting.COLUMNS)

    def _pictures(self) -> dict[str, np.ndarray]:
        """The first images with what is found there now."""
        pictures = {}
        for annotation in self.images.annotations[:_DRAWN]:
            image = data_lib.read_image(annotation.path)
            found = self.shown(image)
            marks = draw.detection_marks(found[found.scores >= _SHOWN], self.classes)
            pictures[f"detections/{annotation.id}"] = np.asarray(draw.draw(image, marks))
        return pictures

    def _closing(self) -> dict:
        """Draws the plot and gathers what to tell."""
        self._write_history()  # again, in case that the run was killed before it could
        title = f"{self.config.name}, {self.images.name}"
        plotted = detector_reporting.plot(self._path("curves.png"), title, self.history)
        facts = {
            "last": self.history[-1],
            "model": model_path(self.config.run_dir, "last", self.config.name),
            "plot": self._path("curves.png") if plotted else None,
        }
        write_json(self._path(run_record.FILE), self._described | {"result": facts})
        return facts

    def _ask_to_stop(self, number: int) -> None:
        self.stop_signal = number
        self.line.clear()
        self.say(run_lifecycle.stopping(number))


class Pace:
    """How fast an epoch goes, or the part of it since it was resumed; the first step, which traces, left out.

    Attributes:
        done: steps that count.
    """

    def __init__(self):
        self.done, self._waited, self._start = -1, 0.0, 0.0

    def ask(self) -> None:
        """Called before an example is taken."""
        self._asked = time.perf_counter()
        self.done += 1
        if self.done == 0:
            return
        if self.done == 1:
            self._start = self._asked

    def arrived(self) -> None:
        """Called when it is there."""
        if self.done > 0:
            self._waited += time.perf_counter() - self._asked

    @property
    def seconds(self) -> float:
        """For an image."""
        return (time.perf_counter() - self._start) / self.done if self.done > 0 else 0.0

    def totals(self) -> dict[str, float]:
        """For the history: seconds an image, the share of them spent waiting for input, seconds in all."""
        whole = self.seconds * max(self.done, 0)
        return {
            "seconds_per_image": self.seconds,
            "input_bound": self._waited / whole if whole else 0.0,
            "seconds": whole,
        }
