"""How an epoch is followed: its speed, and the callbacks that lead Keras's loops through it."""

import dataclasses
import time
from collections.abc import Callable, Mapping

import keras
import numpy as np

from fd_keras.training.input_pipeline import Arrivals


@dataclasses.dataclass(frozen=True)
class Timing:
    """How long some steps took.

    Attributes:
        steps: Number of steps.
        seconds: Seconds that they took.
        waited: Seconds of these that they waited for input.
    """

    steps: int = 0
    seconds: float = 0.0
    waited: float = 0.0

    def __sub__(self, other: "Timing") -> "Timing":
        return Timing(self.steps - other.steps, self.seconds - other.seconds, self.waited - other.waited)

    @property
    def seconds_per_step(self) -> float:
        """Mean duration of a step; 0 if there is none."""
        return self.seconds / self.steps if self.steps else 0.0

    @property
    def steps_per_second(self) -> float:
        """The inverse; 0 if there is no step."""
        return self.steps / self.seconds if self.seconds else 0.0

    @property
    def input_bound(self) -> float:
        """Share of the time that was spent waiting for input."""
        return min(1.0, self.waited / self.seconds) if self.seconds else 0.0


class EpochTimer:
    """Measures an epoch, or the part of it since the run was resumed, without its first step.

    That one traces the graph and fills the pipeline.

    Attributes:
        total: The steps measured so far.
    """

    def __init__(self):
        self.total = Timing()
        self._start: float | None = None

    def step_done(self, waited: float) -> None:
        """Counts a step that waited so many seconds for its input."""
        now = time.perf_counter()
        if self._start is None:
            self._start = now
        else:
            self.total = Timing(self.total.steps + 1, now - self._start, self.total.waited + waited)


class EpochCallback(keras.callbacks.Callback):
    """Follows `fit` through an epoch, from wherever it was left.

    Args:
        step: Number of steps done in the whole run.
        timer: Counts the steps.
        arrivals: When the batches left the pipeline.
        after_step: Called after every step with the number of steps done and the running means; returns whether to
            go on.
        state: Values that variables get back at the start, since `fit` resets the metrics.

    Attributes:
        step: Number of steps done.
    """

    def __init__(
        self,
        step: int,
        timer: EpochTimer,
        arrivals: Arrivals,
        after_step: Callable[[int, Mapping[str, float]], bool],
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
        """Notes when the batch was asked for."""
        self._asked = time.perf_counter()

    def on_train_batch_end(self, batch, logs=None):
        """Counts the step."""
        self.step += 1
        self._timer.step_done(self._arrivals.waited_since(self._asked))
        if not self._after_step(self.step, logs or {}):
            self._of_model().stop_training = True

    def _of_model(self) -> keras.Model:
        assert self.model is not None  # Keras sets it before the first call
        return self.model


class EvaluationCallback(keras.callbacks.Callback):
    """Ends `evaluate` when asked to.

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
