"""Kills `prepare` as it opens, renames or deletes a file in a folder the n-th time: killed_prepare.py N DIR FLAGS"""

import os
import signal
import sys

from fd_keras.training import prepare

EVENTS = ("open", "os.chmod", "os.rename", "os.remove")


def kill_at(count: int, folder: str) -> None:
    """Sends this process SIGKILL before that operation."""
    left = [count]

    def watch(event, arguments):
        if event in EVENTS and str(arguments[0]).startswith(folder):
            left[0] -= 1
            if not left[0]:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)


if __name__ == "__main__":
    kill_at(int(sys.argv.pop(1)), sys.argv.pop(1))
    prepare.PROGRAM.run()
