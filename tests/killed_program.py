"""Kills a program before its Nth operation on files in DIR: killed_program.py MODULE N DIR FLAGS"""

import importlib
import os
import signal
import sys

EVENTS = ("open", "os.chmod", "os.rename", "os.remove")


def kill_at(count: int, folder: str) -> None:
    """Sends this process SIGKILL before its Nth open, chmod, rename or removal of a file in a folder."""
    left = [count]

    def watch(event, arguments):
        if event in EVENTS and str(arguments[0]).startswith(folder):
            left[0] -= 1
            if not left[0]:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)


if __name__ == "__main__":
    module, count, folder = (sys.argv.pop(1) for _ in range(3))
    program = importlib.import_module(module).PROGRAM
    kill_at(int(count), folder)
    program.run()
