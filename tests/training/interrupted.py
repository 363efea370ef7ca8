"""A program that kills itself halfway through writing a checkpoint: interrupted.py MODULE COUNT FLAGS..."""

import importlib
import os
import signal
import sys

from absl import app

from fd_keras.training import checkpoint


def kill_in_write(count: int) -> None:
    """Arranges for SIGKILL in the `count`-th write of a checkpoint, with half of the bytes on the disk."""
    write, left = checkpoint.write_atomically, [count]

    def counting(path, data):
        left[0] -= "/step_" in path
        if left[0] == 0:
            os.fsync = lambda descriptor: (
                os.ftruncate(descriptor, os.fstat(descriptor).st_size // 2),
                os.kill(os.getpid(), signal.SIGKILL),
            )
        write(path, data)

    checkpoint.write_atomically = counting


if __name__ == "__main__":
    program = importlib.import_module(sys.argv.pop(1))
    kill_in_write(int(sys.argv.pop(1)))
    app.run(program.main)
