"""Runs a program that a signal interrupts at a checkpoint: interrupted.py MODULE COUNT SIGNAL FLAGS..."""

import importlib
import os
import signal
import sys

from fd_keras.training import checkpoint


def interrupt(count: int, number: int) -> None:
    """Sends this process a signal at the `count`-th write of a checkpoint.

    SIGKILL comes in the midst of it, with half of the bytes on the disk, any other signal when it is over.
    """
    write, left = checkpoint.write_atomically, [count]

    def counting(path, data):
        left[0] -= "/step_" in path
        if left[0] == 0 and number == signal.SIGKILL:
            os.fsync = lambda descriptor: (
                os.ftruncate(descriptor, os.fstat(descriptor).st_size // 2),
                os.kill(os.getpid(), signal.SIGKILL),
            )
        write(path, data)
        if left[0] == 0:
            os.kill(os.getpid(), number)
            left[0] = -1

    checkpoint.write_atomically = counting


if __name__ == "__main__":
    module, count, number = (sys.argv.pop(1) for _ in range(3))
    program = importlib.import_module(module).PROGRAM
    interrupt(int(count), int(number))
    program.run()
