"""Runs a training program that gets a signal after a step: signalled.py MODULE STEP SIGNAL FLAG FLAGS...

Only a process that has FLAG among its flags gets it.
"""

import importlib
import os
import sys

from fd_keras.training import run


def signal_after(step: int, number: int) -> None:
    """Sends this process a signal when a run has done a step."""
    after_step = run.TrainingRun._after_step

    def signalling(self, done, losses):
        if done == step:
            os.kill(os.getpid(), number)
        return after_step(self, done, losses)

    run.TrainingRun._after_step = signalling


if __name__ == "__main__":
    module, step, number, flag = (sys.argv.pop(1) for _ in range(4))
    program = importlib.import_module(module).PROGRAM
    if flag in sys.argv:
        signal_after(int(step), int(number))
    program.run()
