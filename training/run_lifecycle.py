"""Run lifecycle: directory lock, disk space check, and signals that stop a run."""

import contextlib
import math
import shutil
import signal
from collections.abc import Callable, Iterator, Sequence

import keras
import tensorflow as tf

from fd_keras.io import is_local, join, locked, remove_unfinished, write_atomically

_SPARE = 64 << 20  # bytes of disk for logs and plots


@contextlib.contextmanager
def locked_folder(
    run_dir: str, folders: Sequence[str] = (), leads: bool = True, flag: str = "--run_dir"
) -> Iterator[None]:
    """Creates a run's folder, and locks it against other processes.

    Args:
        run_dir: Folder of the run.
        folders: Subfolders to create.
        leads: Whether this process is the one that writes files.
        flag: Flag that names the folder.

    Raises:
        OSError: If the folder cannot be written, or another process has locked it.
    """
    probe = join(run_dir, ".probe")
    with contextlib.ExitStack() as held:
        try:
            for folder in (run_dir, *folders):
                tf.io.gfile.makedirs(folder)
            if leads:
                held.enter_context(locked(run_dir, "training into"))
                for folder in (run_dir, *folders):
                    remove_unfinished(folder)
                write_atomically(probe, b"")
                tf.io.gfile.remove(probe)
        except (OSError, tf.errors.OpError) as error:
            raise OSError(f"{flag}={run_dir}: cannot write there ({error}).") from error
        yield


def check_disk(run_dir: str, variables: Sequence[keras.Variable], keep: int, flag: str = "--run_dir") -> None:
    """Raises OSError if `keep` checkpoints of the variables do not fit on the disk."""
    if not is_local(run_dir):
        return
    size = 4 * sum(math.prod(variable.shape) for variable in variables)
    need, free = (keep + 2) * size + _SPARE, shutil.disk_usage(run_dir).free
    if free < need:
        raise OSError(f"{flag}={run_dir}: {free >> 20} MB free, but the run needs {need >> 20} MB.")


_STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Signals:
    """Calls a function on the first Ctrl-C, SIGTERM or SIGHUP; the second one has its default effect.

    Args:
        call: Called with the number of the signal.
    """

    def __init__(self, call: Callable[[int], None]):
        self._call = call

    def __enter__(self) -> "Signals":
        wanted = [number for number in _STOPPING if signal.getsignal(number) != signal.SIG_IGN]  # under nohup
        self._before = {number: signal.signal(number, self._handle) for number in wanted}
        return self

    def _handle(self, number: int, frame) -> None:
        self._restore()
        self._call(number)

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def __exit__(self, *error) -> None:
        self._restore()
