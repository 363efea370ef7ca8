"""What every long run does: it keeps its folder to itself, saves when asked to stop, and says how to go on."""

import dataclasses
import fcntl
import os
import shutil
import signal
from collections.abc import Callable, Sequence
from typing import ClassVar

import keras
import tensorflow as tf

from fd_keras.io import is_local, join, remove_unfinished, write_atomically
from fd_keras.program import ProgramError, Stopped
from fd_keras.training import checkpoint

_SPARE = 64 << 20  # bytes of disk for logs and plots


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunConfig:
    """What every run is, whatever it trains.

    Attributes:
        FIXED: names of what decides the result. The rest may change when a run is resumed.
        alpha: width of the network.
        run_dir: where the run is kept.
        groups: of a ShuffleNet.
        stem_multiplier: of a ShuffleNet.
        seed: of everything random.
        init_weights: "imagenet", "imagenet_authors", a path, or None for random weights.
        checkpoint_every: steps.
        keep: how many checkpoints.
        threads: of TensorFlow and of the input.
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

    def fixed(self) -> dict:
        """What decides the result, for the run's record."""
        return {name: getattr(self, name) for name in self.FIXED}


class TrainingError(ProgramError):
    """A run that cannot go on; the message says why and what to do."""


def stopped_after_saving(step: int, steps: int, path: str | None, number: int) -> Stopped:
    """The exception of a run that has just saved `step` of `steps`."""
    return Stopped(f"saved step {step} of {steps} to {path}; the same command resumes from there.", number)


class Signals:
    """Calls a function on the first SIGTERM or Ctrl-C; the second one acts as usual."""

    def __init__(self, call: Callable[[int], None]):
        self._call = call

    def __enter__(self):
        self._before = {number: signal.signal(number, self._handle) for number in (signal.SIGINT, signal.SIGTERM)}

    def _handle(self, number, frame):
        self._restore()
        self._call(number)

    def _restore(self):
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def __exit__(self, *error):
        self._restore()


def stopping(number: int) -> str:
    """What is said when a signal arrives."""
    return f"{signal.Signals(number).name}: saving and stopping; once more to stop at once"


def checkpoints(run_dir: str) -> str:
    """Where a run keeps its checkpoints."""
    return join(run_dir, "checkpoints")


def open_folder(run_dir: str, leads: bool = True):
    """Makes a run's folder, keeps others out of it, and tries to write.

    Args:
        run_dir: the folder.
        leads: whether this process is the one that writes.

    Returns:
        What holds the folder for this process as long as it lives.

    Raises:
        OSError: if it cannot be written, or another process has it.
    """
    lock, probe = None, join(run_dir, ".probe")
    try:
        tf.io.gfile.makedirs(checkpoints(run_dir))
        if leads:
            lock = _locked(run_dir)
            for folder in (run_dir, checkpoints(run_dir)):
                remove_unfinished(folder)
            write_atomically(probe, b"")
            tf.io.gfile.remove(probe)
    except (OSError, tf.errors.OpError) as error:
        raise OSError(f"--run_dir={run_dir}: cannot write there ({error}).") from error
    return lock


def _locked(run_dir: str):
    """Holds the folder for this process; raises OSError if another has it."""
    if not is_local(run_dir):
        return None
    handle = open(os.path.join(run_dir, ".lock"), "w")
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        handle.close()
        raise OSError("another process is training into it") from error
    return handle


def check_disk(run_dir: str, variables: Sequence[keras.Variable], keep: int) -> None:
    """Raises OSError if `keep` checkpoints of the variables will not fit."""
    if not is_local(run_dir):
        return
    size = sum(keras.ops.size(variable) * 4 for variable in variables)
    need, free = (keep + 2) * int(size) + _SPARE, shutil.disk_usage(run_dir).free
    if free < need:
        raise OSError(f"--run_dir={run_dir}: {free >> 20} MB free, the run needs {need >> 20} MB.")


def save(run_dir: str, step: int, variables: Sequence[keras.Variable], meta: dict, keep: int) -> str:
    """Writes a checkpoint and returns its path; raises TrainingError if it cannot be written."""
    try:
        return checkpoint.save(checkpoints(run_dir), step, variables, meta, keep)
    except OSError as error:
        raise TrainingError(
            f"step {step}: the checkpoint could not be written ({error}). Make room in {run_dir} and start the same "
            "command again; it goes on from the checkpoint before."
        ) from error
