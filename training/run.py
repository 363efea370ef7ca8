"""Base class of training runs: folder, checkpoints, graceful shutdown, NaN check and results."""

import abc
import contextlib
import dataclasses
import logging
import math
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Protocol

import keras
import numpy as np
import tensorflow as tf

from fd_keras.io import check_figure, join, write_json
from fd_keras.program import ProgramError, Stopped
from fd_keras.progress import StatusLine
from fd_keras.training import checkpoint, reporting, run_lifecycle, run_record
from fd_keras.training.devices import Devices
from fd_keras.training.epoch import EpochTimer

LOOK_EVERY = 10  # steps between two reads of the losses; each read makes an accelerator wait for the host


class TrainingError(ProgramError):
    """Raised when a run cannot continue; the message has the reason and a remedy."""


class LostProcessError(TrainingError):
    """Raised when another process of the same run was lost."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunConfig(abc.ABC):
    """Configuration that classifier and detector runs share.

    Attributes:
        FIXED: Names of the fields that affect the result. The others may change when a run is resumed.
        alpha: Width multiplier of the network.
        run_dir: Folder of the run.
        dir_flag: Flag that names the folder, for messages.
        groups: Number of groups of a ShuffleNet.
        stem_multiplier: Stem width of a ShuffleNet.
        seed: Seed of all random numbers.
        init_weights: "imagenet", "imagenet_authors", a path, or None for random weights.
        checkpoint_every: Number of steps between two checkpoints.
        keep: Number of checkpoints to keep.
        threads: Number of threads for TensorFlow and the input pipeline; None for all cores.
    """

    FIXED: ClassVar[tuple[str, ...]] = ("alpha", "groups", "stem_multiplier", "seed", "init_weights")

    alpha: float
    run_dir: str
    dir_flag: str = "--run_dir"
    groups: int | None = None
    stem_multiplier: float | None = None
    seed: int = 0
    init_weights: str | None = None
    checkpoint_every: int = 1000
    keep: int = 3
    threads: int | None = None

    @property
    @abc.abstractmethod
    def name(self) -> str:
        """Name of the model, used in the names of its files."""

    def fixed(self) -> dict:
        """Returns the fields that affect the result, for the run's record; paths in the run's folder are relative."""
        inside = join(self.run_dir, "")
        values = {name: getattr(self, name) for name in self.FIXED}
        return {name: value.removeprefix(inside) if isinstance(value, str) else value for name, value in values.items()}


class Trainee(Protocol):
    """A model in training.

    Attributes:
        steps: Number of steps done.
        bad_step: First step whose loss was not finite, else -1.
    """

    steps: keras.Variable
    bad_step: keras.Variable


class TrainingRun(abc.ABC):
    """A training run: started or restored from its folder, then trained to the end.

    Subclasses set `recipe`, `trainee` and `model`, and implement an epoch, its evaluation and its report.

    Args:
        config: Configuration of the run.
        description: Description for run.json; a folder with a run of another description is rejected.
        steps_per_epoch: Number of steps in an epoch.
        devices: Devices to train on.
        say: Prints a line.

    Attributes:
        recipe: Training recipe, with `epochs` and `learning_rate`.
        trainee: Model in training.
        model: Network that is saved.
        history: One row per finished epoch.
        stop_signal: Number of the signal that asked the run to stop, or None.

    Raises:
        ValueError: If the folder contains another run, or the configuration is invalid.
        OSError: If the folder cannot be written, is locked, or has too little space.
        CheckpointError: If the checkpoint belongs to another network.
    """

    COLUMNS: ClassVar[Sequence[str]]  # of history.csv

    recipe: Any
    trainee: Trainee
    model: keras.Model

    def __init__(
        self,
        config: RunConfig,
        description: dict,
        steps_per_epoch: int,
        devices: Devices,
        say: Callable[[str], None],
    ):
        self.config, self.steps_per_epoch, self.devices, self.say = config, steps_per_epoch, devices, say
        self.history: list[dict] = []
        self.stop_signal: int | None = None
        self.line = StatusLine()
        self._description = description
        self._checkpoints = self._path("checkpoints")
        with contextlib.ExitStack() as held:
            held.enter_context(
                run_lifecycle.locked_folder(config.run_dir, [self._checkpoints], devices.leads, config.dir_flag)
            )
            run_record.check_same(self._path(run_record.FILE), description, config.dir_flag)
            self._build()
            run_lifecycle.check_disk(config.run_dir, self.variables, config.keep, config.dir_flag)
            self._restore()
            self._held = held.pop_all()

    def close(self) -> None:
        """Unlocks the folder for other processes."""
        self._held.close()

    # Implemented by subclasses.

    @abc.abstractmethod
    def _build(self) -> None:
        """Builds the trainee, with the weights that the configuration names."""

    @property
    @abc.abstractmethod
    def variables(self) -> list[keras.Variable]:
        """All variables of a checkpoint, without duplicates, always in the same order."""

    @abc.abstractmethod
    def learning_rate_at(self, step: int) -> float:
        """Returns the learning rate of a step, counted from 0."""

    @abc.abstractmethod
    def _train_epoch(self, epoch: int) -> dict[str, float]:
        """Trains to the end of an epoch, from the current step; returns the training part of its row."""

    def _evaluate(self) -> dict[str, float]:
        """Evaluates the weights that are saved; returns the validation part of the row."""
        return {}

    @abc.abstractmethod
    def _show(self, step: int, losses: Mapping[str, float]) -> None:
        """Shows the progress within an epoch."""

    @abc.abstractmethod
    def _epoch_line(self, row: dict) -> str:
        """Formats the end-of-epoch line."""

    @abc.abstractmethod
    def _log_epoch(self, row: dict) -> None:
        """Writes the row of a finished epoch to TensorBoard."""

    @abc.abstractmethod
    def _plot(self, path: str) -> None:
        """Plots the history."""

    @abc.abstractmethod
    def _remedies(self, bad_step: int) -> str:
        """Returns further remedies for a loss that became NaN at a step, as the end of a sentence."""

    def _kinds(self) -> list[str]:
        """Returns the kinds of model ("last", "best") that the finished epoch is saved as."""
        return ["last"]

    @abc.abstractmethod
    def _facts(self) -> dict:
        """Returns the results of the run, for run.json and the closing lines."""

    # Shared by all runs.

    def train(self) -> dict:
        """Trains to the end.

        Returns:
            The results: "last" (row of the history), "plot" (path or None), and those of the subclass.

        Raises:
            Stopped: After a signal, when the state is saved.
            TrainingError: If the run cannot continue.
        """
        self.board = reporting.TensorBoard(self._path("tensorboard"), write=self.devices.leads)
        with run_lifecycle.Signals(self._ask_to_stop), self._peers_needed():
            if len(self.history) > self._reported:  # killed after the checkpoint, before the models
                self._leave_epoch(self.history[-1])
            while not self._is_over():
                epoch = len(self.history)
                self.timer = EpochTimer()
                row = {"epoch": epoch + 1, **self._train_epoch(epoch), **self._evaluate()}
                self.history.append(row)
                self.save()  # before the models: a full disk may lose these, but not the epoch
                self._leave_epoch(row)
            return self._finish()

    def _is_over(self) -> bool:
        """Whether the last epoch is done."""
        return len(self.history) >= self.recipe.epochs

    @property
    def step(self) -> int:
        """Number of steps done."""
        return int(self.trainee.steps.numpy())

    @property
    def total_steps(self) -> int:
        """Number of steps of the whole run."""
        return self.recipe.epochs * self.steps_per_epoch

    def _restore(self) -> None:
        """Restores the newest checkpoint, if there is one, and writes run.json."""
        meta = checkpoint.restore(self._checkpoints, self.variables, logging.warning)
        if meta is not None:
            self.history = meta["history"]
            self.say(f"resumed at step {self.step} of {self.total_steps} ({self.config.run_dir})")
        self._reported = reporting.count_rows(self._path("history.csv"))
        if self.devices.leads:
            write_json(self._path(run_record.FILE), self._description)

    def save(self) -> str | None:
        """Writes a checkpoint; returns its path, or None on processes that do not write files."""
        if not self.devices.leads:
            return None
        meta = {"history": self.history}
        with self._room_needed():
            return checkpoint.save(self._checkpoints, self.step, self.variables, meta, self.config.keep)

    def _update_model(self) -> None:  # noqa: B027  (most models share the trainee's weights)
        """Copies the weights to evaluate and save into `model`, if it does not share them."""

    def _leave_epoch(self, row: dict) -> None:
        """Writes the models of the finished epoch, then its row, which marks them as complete."""
        self._update_model()
        with self._room_needed():
            for kind in self._kinds():  # in all processes: on JAX, Keras synchronizes them whenever it reads an array
                run_record.save_model(self.model, self.model_path(kind), write=self.devices.leads)
            self._report_epoch(row)

    def model_path(self, kind: str) -> str:
        """Returns the path of a saved model, where kind is "last" or "best"."""
        return run_record.model_path(self.config.run_dir, kind, self.config.name)

    def _path(self, *parts: str) -> str:
        return join(self.config.run_dir, *parts)

    # Within an epoch.

    def _after_step(self, step: int, losses: Callable[[], Mapping[str, float]]) -> bool:
        """Shows the progress and saves a checkpoint at regular intervals; returns whether to continue.

        Args:
            step: Number of steps done.
            losses: Returns the losses; waits for the accelerator.
        """
        at_end = step % self.steps_per_epoch == 0
        if step % LOOK_EVERY == 0 or at_end:
            self._look(step, losses())
        if (step % LOOK_EVERY == 0 or at_end or self.devices.alone) and self._stop_agreed():
            return False
        if step % self.config.checkpoint_every == 0 and not at_end:  # the end of an epoch saves anyway
            self._check_finite()
            self.save()
        return True

    def _look(self, step: int, losses: Mapping[str, float]) -> None:
        if not all(map(math.isfinite, losses.values())):
            self._check_finite()
        self._show(step, losses)

    def _check_finite(self) -> None:
        """Raises TrainingError if a loss was NaN or infinite."""
        self.devices.sync(self.trainee)
        bad = int(self.trainee.bad_step.numpy())
        if bad < 0:
            return
        last = (checkpoint.saved(self._checkpoints) or ["none yet"])[-1]
        raise TrainingError(
            f"loss became NaN or infinite at step {bad} (epoch {bad // self.steps_per_epoch + 1}); last good "
            f"checkpoint: {last}. With a new {self.config.dir_flag}, try a lower --learning_rate than "
            f"{self.recipe.learning_rate:g}{self._remedies(bad)}."
        )

    def _ask_to_stop(self, number: int) -> None:
        self.stop_signal = number
        with contextlib.suppress(OSError):  # the terminal may be gone
            self.line.clear()
            self.say(f"{signal.Signals(number).name}: saving and stopping; repeat to stop at once")

    def _stop_agreed(self) -> bool:
        """Whether any process of the run was asked to stop; all processes must call it at the same step."""
        self.stop_signal = self.devices.largest(self.stop_signal or 0) or None
        return self.stop_signal is not None

    def _stop_if_asked(self) -> None:
        """Saves the run and raises Stopped, if a signal asked the run to stop."""
        if self._stop_agreed() and self.stop_signal is not None:
            path = self.save()
            saved = f"saved step {self.step} of {self.total_steps} to {path}; the same command resumes from there."
            raise Stopped(saved if path else f"stopped at step {self.step}, which process 0 saves.", self.stop_signal)

    @contextlib.contextmanager
    def _room_needed(self) -> Iterator[None]:
        """Turns errors of a full or read-only disk into a TrainingError that names the run's folder."""
        try:
            yield
        except (OSError, tf.errors.OpError) as error:
            raise TrainingError(
                f"step {self.step}: cannot write {self.config.run_dir} ({error}). Free disk space, and run the same "
                "command again; it resumes from the last checkpoint."
            ) from error

    @contextlib.contextmanager
    def _peers_needed(self) -> Iterator[None]:
        """Turns JAX's error about a lost process of the run into a LostProcessError."""
        try:
            yield
        except RuntimeError as error:
            if self.devices.alone or "jax" not in type(error).__module__:
                raise
            self.devices.abandon_peers()
            reason = str(error).splitlines()[0].rpartition("Error dispatching computation: ")[2]
            raise LostProcessError(
                f"another process of this run was lost ({reason[:200]}). Run the same commands again; the run resumes "
                "from the last checkpoint."
            ) from error

    # After an epoch, and at the end.

    def _report_epoch(self, row: dict) -> None:
        if self.devices.leads:
            self.line.clear()
            self.say(self._epoch_line(row))
            self._write_history()
            self._log_epoch(row)
            self.board.flush()

    def _write_history(self) -> None:
        reporting.write_history(self._path("history.csv"), self.history, self.COLUMNS)

    def _finish(self) -> dict:
        """Collects the results and writes them to run.json."""
        facts = {"last": self.history[-1], **self._facts(), "plot": None}
        if self.devices.leads:
            facts["plot"] = self._curves()
            write_json(self._path(run_record.FILE), self._description | {"result": facts})
        return facts

    def _curves(self) -> str | None:
        """Plots the curves; returns their path, or prints why they cannot be plotted and returns None."""
        path = self._path("curves.png")
        try:
            check_figure(path)
        except ValueError as error:
            self.say(f"no curves: {error}")
            return None
        self._plot(path)
        return path


def state_of(variables: Sequence[keras.Variable]) -> list[tuple[keras.Variable, np.ndarray]]:
    """Returns the variables with copies of their values, to restore them later."""
    return [(variable, variable.numpy()) for variable in variables]
