"""What every run shares, whatever it trains: its folder, its checkpoints, how it stops and what it leaves."""

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

LOOK_EVERY = 10  # steps between two looks at the losses; each makes an accelerator wait for the host


class TrainingError(ProgramError):
    """A run that cannot go on; the message says why and what to do."""


class LostProcessError(TrainingError):
    """A run of several processes that has lost one."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunConfig(abc.ABC):
    """Configuration that all runs have, whatever they train.

    Attributes:
        FIXED: Names of the fields that decide the result. The others may change when a run is resumed.
        alpha: Width multiplier of the network.
        run_dir: Folder of the run.
        groups: Groups of a ShuffleNet.
        stem_multiplier: Stem width of a ShuffleNet.
        seed: Seed of everything random.
        init_weights: "imagenet", "imagenet_authors", a path, or None for random weights.
        checkpoint_every: Steps between two checkpoints.
        keep: Number of checkpoints to keep.
        threads: Number of threads of TensorFlow and of the input; None for all cores.
    """

    FIXED: ClassVar[tuple[str, ...]] = ("alpha", "groups", "stem_multiplier", "seed", "init_weights")

    alpha: float
    run_dir: str
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
        """Name of the model, which its files share."""

    def fixed(self) -> dict:
        """The fields that decide the result, for the run's record."""
        return {name: getattr(self, name) for name in self.FIXED}


class Trainee(Protocol):
    """What is trained.

    Attributes:
        steps: Number of steps done.
        bad_step: First step whose loss was not finite, else -1.
    """

    steps: keras.Variable
    bad_step: keras.Variable


class TrainingRun(abc.ABC):
    """A run: made new or restored from its folder, then trained to the end.

    Subclasses set `recipe`, `trainee` and `model`, and do what differs: an epoch, its evaluation, its report.

    Args:
        config: Configuration of the run.
        description: What makes the run this one, for run.json; another run in the same folder is refused.
        steps_per_epoch: Number of steps in an epoch.
        devices: What it runs on.
        say: Prints a line.

    Attributes:
        recipe: How to train; has `epochs` and `learning_rate`.
        trainee: What is trained.
        model: The network that is saved.
        history: One row per epoch that is over.
        stop_signal: Number of the signal that asked the run to stop, if one did.

    Raises:
        ValueError, OSError: Before the first step, for anything that cannot work.
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
            held.enter_context(run_lifecycle.locked_folder(config.run_dir, [self._checkpoints], devices.leads))
            run_record.check_same(self._path(run_record.FILE), description)
            self._build()
            run_lifecycle.check_disk(config.run_dir, self.variables, config.keep)
            self._restore()
            self._held = held.pop_all()

    def close(self) -> None:
        """Lets other processes train into the folder."""
        self._held.close()

    # What differs.

    @abc.abstractmethod
    def _build(self) -> None:
        """Makes the trainee, from the weights that the configuration names."""

    @property
    @abc.abstractmethod
    def variables(self) -> list[keras.Variable]:
        """All variables that a checkpoint holds, once each, in an order that does not change."""

    @abc.abstractmethod
    def learning_rate_at(self, step: int) -> float:
        """The learning rate of a step, counted from 0."""

    @abc.abstractmethod
    def _train_epoch(self, epoch: int) -> dict[str, float]:
        """Trains to the end of an epoch, from wherever it was left; returns the training half of its row."""

    def _evaluate(self) -> dict[str, float]:
        """Evaluates what would be saved; returns the validation half of the row."""
        return {}

    @abc.abstractmethod
    def _show(self, step: int, losses: Mapping[str, float]) -> None:
        """Shows the progress within an epoch."""

    @abc.abstractmethod
    def _epoch_line(self, row: dict) -> str:
        """The line about an epoch that is over."""

    @abc.abstractmethod
    def _log_epoch(self, row: dict) -> None:
        """Writes an epoch that is over to TensorBoard."""

    @abc.abstractmethod
    def _plot(self, path: str) -> None:
        """Draws the history."""

    @abc.abstractmethod
    def _remedies(self, bad_step: int) -> str:
        """What else may help against a loss that became NaN at a step, as the end of a sentence."""

    def _kinds(self) -> list[str]:
        """The models that the epoch just done is saved as."""
        return ["last"]

    @abc.abstractmethod
    def _facts(self) -> dict:
        """What the run ended with, for run.json and the closing lines."""

    # What all runs do.

    def train(self) -> dict:
        """Trains to the end.

        Returns:
            The closing facts: "last" row of the history, "plot" (path or None), and those of the subclass.

        Raises:
            Stopped: After a signal; everything is saved.
            TrainingError: If the run cannot go on.
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
                self.save()  # first: a full disk may cost the models, but not the epoch
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
        """Takes up the newest checkpoint, if there is one, and writes run.json."""
        meta = checkpoint.restore(self._checkpoints, self.variables, logging.warning)
        if meta is not None:
            self.history = meta["history"]
            self.say(f"resumed at step {self.step} of {self.total_steps} ({self.config.run_dir})")
        self._reported = reporting.count_rows(self._path("history.csv"))
        if self.devices.leads:
            write_json(self._path(run_record.FILE), self._description)

    def save(self) -> str | None:
        """Writes a checkpoint of this moment; returns its path, or None on a process that does not lead."""
        if not self.devices.leads:
            return None
        meta = {"history": self.history}
        with self._room_needed():
            return checkpoint.save(self._checkpoints, self.step, self.variables, meta, self.config.keep)

    def _update_model(self) -> None:  # noqa: B027  (most models need nothing)
        """Gives `model` the weights to evaluate and to save, where those are not its own already."""

    def _leave_epoch(self, row: dict) -> None:
        """Writes the models of the epoch that is over, then its row, which marks that they are there."""
        self._update_model()
        with self._room_needed():
            for kind in self._kinds():  # by all processes: Keras on JAX has them agree on every array that it reads
                run_record.save_model(self.model, self.model_path(kind), write=self.devices.leads)
            self._report_epoch(row)

    def model_path(self, kind: str) -> str:
        """Path of a saved model: of the "last" epoch, or of the "best" one."""
        return run_record.model_path(self.config.run_dir, kind, self.config.name)

    def _path(self, *parts: str) -> str:
        return join(self.config.run_dir, *parts)

    # Within an epoch.

    def _after_step(self, step: int, losses: Callable[[], Mapping[str, float]]) -> bool:
        """Shows the progress and saves a checkpoint, when it is time; returns whether to go on.

        Args:
            step: Number of steps done.
            losses: Fetches the losses, for which an accelerator has to finish first.
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
            f"loss became NaN or infinite at step {bad} (epoch {bad // self.steps_per_epoch + 1}). The last good "
            f"checkpoint is {last}. With a new --run_dir, try a lower --learning_rate than "
            f"{self.recipe.learning_rate:g}{self._remedies(bad)}."
        )

    def _ask_to_stop(self, number: int) -> None:
        self.stop_signal = number
        with contextlib.suppress(OSError):  # the terminal may be gone
            self.line.clear()
            self.say(f"{signal.Signals(number).name}: saving and stopping; once more to stop at once")

    def _stop_agreed(self) -> bool:
        """Whether this process or any other of the run was asked to stop; all of them have to ask at the same step."""
        self.stop_signal = self.devices.largest(self.stop_signal or 0) or None
        return self.stop_signal is not None

    def _stop_if_asked(self) -> None:
        """Saves the run and raises Stopped, if a signal asked for it."""
        if self._stop_agreed() and self.stop_signal is not None:
            path = self.save()
            saved = f"saved step {self.step} of {self.total_steps} to {path}; the same command resumes from there."
            raise Stopped(saved if path else f"stopped at step {self.step}, which process 0 saves.", self.stop_signal)

    @contextlib.contextmanager
    def _room_needed(self) -> Iterator[None]:
        """Reports a full or read-only disk as a TrainingError that names the run's folder."""
        try:
            yield
        except (OSError, tf.errors.OpError) as error:
            raise TrainingError(
                f"step {self.step}: {self.config.run_dir} could not be written ({error}). Make room there and start "
                "the same command again; it goes on from the last checkpoint."
            ) from error

    @contextlib.contextmanager
    def _peers_needed(self) -> Iterator[None]:
        """Reports a lost process of the run, which JAX notices in its next operation, as a LostProcessError."""
        try:
            yield
        except RuntimeError as error:
            if self.devices.alone or "jax" not in type(error).__module__:
                raise
            self.devices.abandon_peers()
            reason = str(error).splitlines()[0].rpartition("Error dispatching computation: ")[2]
            raise LostProcessError(
                f"another process of this run was lost ({reason[:200]}). Start the same commands again; the run goes "
                "on from the last checkpoint."
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
        """Gathers the closing facts and writes them into run.json."""
        facts = {"last": self.history[-1], **self._facts(), "plot": None}
        if self.devices.leads:
            facts["plot"] = self._curves()
            write_json(self._path(run_record.FILE), self._description | {"result": facts})
        return facts

    def _curves(self) -> str | None:
        """Draws the curves; returns their path, or None, with a line about it, where they cannot be drawn."""
        path = self._path("curves.png")
        try:
            check_figure(path)
        except ValueError as error:
            self.say(f"no curves: {error}")
            return None
        self._plot(path)
        return path


def state_of(variables: Sequence[keras.Variable]) -> list[tuple[keras.Variable, np.ndarray]]:
    """The variables with copies of their values, to be restored later."""
    return [(variable, variable.numpy()) for variable in variables]
