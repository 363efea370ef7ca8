"""Speed of an epoch, and callbacks that connect Keras's loops with a run."""

import dataclasses
import time
from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np

from fd_keras.training.input_pipeline import Arrivals


@dataclasses.dataclass(frozen=True)
class Timing:
    """Duration of some steps.

    Attributes:
        steps: Number of steps.
        seconds: Total time in seconds.
        waited: Seconds spent waiting for input.
    """

    steps: int = 0
    seconds: float = 0.0
    waited: float = 0.0

    def __sub__(self, other: "Timing") -> "Timing":
        return Timing(self.steps - other.steps, self.seconds - other.seconds, self.waited - other.waited)

    @property
    def seconds_per_step(self) -> float:
        """Mean duration of a step in seconds; 0 without steps."""
        return self.seconds / self.steps if self.steps else 0.0

    @property
    def steps_per_second(self) -> float:
        """Mean number of steps per second; 0 without steps."""
        return self.steps / self.seconds if self.seconds else 0.0

    @property
    def input_bound(self) -> float:
        """Share of the time spent waiting for input, from 0 to 1."""
        return min(1.0, self.waited / self.seconds) if self.seconds else 0.0


class EpochTimer:
    """Measures an epoch, or the rest of an epoch after resuming, without its first step.

    The first step traces the graph and fills the pipeline.

    Attributes:
        total: Duration of the steps so far.
    """

    def __init__(self):
        self.total = Timing()
        self._start: float | None = None

    def step_done(self, waited: float) -> None:
        """Counts a step that waited `waited` seconds for its input."""
        now = time.perf_counter()
        if self._start is None:
            self._start = now
        else:
            self.total = Timing(self.total.steps + 1, now - self._start, self.total.waited + waited)


class EpochCallback(keras.callbacks.Callback):
    """Counts, times and reports the steps of an epoch in `fit`.

    Args:
        step: Number of steps done in the whole run.
        timer: Timer of the steps.
        arrivals: Times at which batches left the pipeline.
        after_step: Called after every step with the number of steps done and the running means, which may be tensors;
            returns whether to continue.
        state: Variables and the values to restore at the start, since `fit` resets the metrics.

    Attributes:
        step: Number of steps done in the whole run.
    """

    def __init__(
        self,
        step: int,
        timer: EpochTimer,
        arrivals: Arrivals,
        after_step: Callable[[int, Mapping[str, Any]], bool],
        state: list[tuple[keras.Variable, np.ndarray]],
    ):
        super().__init__()
        self.step, self._timer, self._arrivals = step, timer, arrivals
        self._after_step, self._state = after_step, state

    def on_epoch_begin(self, epoch, logs=None):
        """Restores the metrics."""
        for variable, value in self._state:
            variable.assign(value)

    def on_train_batch_begin(self, batch, logs=None):
        """Records when the batch was requested."""
        self._asked = time.perf_counter()

    def on_train_batch_end(self, batch, logs=None):
        """Counts the step, and stops training if asked to."""
        self.step += 1
        self._timer.step_done(self._arrivals.waited_since(self._asked))
        if not self._after_step(self.step, logs or {}):
            self._of_model().stop_training = True

    def _of_model(self) -> keras.Model:
        assert self.model is not None  # Keras sets it before the first call
        return self.model


class EpochCallbacks(keras.callbacks.CallbackList):
    """The callbacks of an epoch, for `fit`; they get the running means as tensors.

    Keras's own list converts them to numbers first, and so waits for the device after every step.
    """

    def on_train_batch_end(self, batch, logs=None):
        """Calls the callbacks."""
        for callback in self.callbacks:
            callback.on_train_batch_end(batch, logs=logs)


class EvaluationCallback(keras.callbacks.Callback):
    """Stops `evaluate` when asked to.

    Args:
        asked: Returns whether to stop; called after every batch.
    """

    def __init__(self, asked: Callable[[], bool]):
        super().__init__()
        self._asked = asked

    def on_test_batch_end(self, batch, logs=None):
        """Stops if asked to."""
        if self._asked() and self.model is not None:
            self.model.stop_evaluating = True
