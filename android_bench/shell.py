"""Running commands on a device: what adb, ssh and this machine have in common.

The only module that starts processes. A command ends with a line of our own that carries its exit status, so
that "the command failed" and "the connection broke" cannot be confused, whatever the client's own status is
(adb before Android 7 always gives 0, ssh gives 255 for both).
"""

import os
import platform
import re
import shutil
import signal
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from .plan import BenchError

_MARK = "android_bench exit status "
_ENDING = re.compile(rf"\n?{_MARK}(\d+)\r?\n?\Z")
QUICK_SECS = 30.0  # enough for a command that reads a few files, on a slow phone over Wi-Fi
PUSH_SECS = 300.0


class Done(NamedTuple):
    """A command that has ended: its exit status, and standard output and error together."""

    status: int
    output: str


class Gone(BenchError):
    """The connection to a device broke; a `Shell.reconnect` may mend it."""


def call(argv: Sequence[str], timeout: float, stdin: Path | None = None) -> Done:
    """Runs a program of this machine.

    It gets a process group of its own: a Ctrl-C in the terminal is for us, who end after the launch under way.

    Args:
        argv: The program and its arguments.
        timeout: Seconds after which it is killed.
        stdin: File to feed it with; nothing unless given.

    Raises:
        FileNotFoundError: If there is no such program.
        TimeoutError: If it did not end in time.
    """
    with open(stdin or os.devnull, "rb") as feed:
        process = subprocess.Popen(
            argv, stdin=feed, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
        )
        with process:
            try:
                output, _ = process.communicate(timeout=timeout)
            except BaseException as error:
                _kill(process)
                if isinstance(error, subprocess.TimeoutExpired):
                    raise TimeoutError(f"no answer within {timeout:g} s") from error
                raise
    return Done(process.returncode, output.decode("utf-8", "replace").replace("\r\n", "\n"))


def _kill(process: subprocess.Popen) -> None:
    """Kills a program and what it started."""
    if not hasattr(os, "killpg"):  # Windows
        process.kill()
        return
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


class Shell:
    """A POSIX shell on this machine; the base of those on devices.

    Attributes:
        target: Goes into the rows: `host`, `adb` or `ssh`.
        serial: What tells this device from others.
        folder: Where files for the device go; None where they can stay where they are.
    """

    target = "host"
    folder: str | None = None

    def __init__(self, serial: str = "") -> None:
        self.serial = serial or platform.node() or "this machine"

    def run(self, command: str, timeout: float = QUICK_SECS) -> Done:
        """Runs a shell command on the device; a status other than 0 is the caller's to judge.

        Raises:
            Gone: If the connection broke before the command ended.
            TimeoutError: If the command did not end in time.
            BenchError: If the device refuses us.
        """
        # The outer shell's own words, such as "Killed", would come after the mark.
        wrapped = f"exec 2>/dev/null; ({command}\n) 2>&1; s=$?; echo; echo {_MARK}$s"
        done = self._call([*self._argv, wrapped], timeout)
        ending = _ENDING.search(done.output)
        if ending is None:
            raise self._lost(done)
        return Done(int(ending[1]), done.output[: ending.start()])

    def check(self, command: str, timeout: float = QUICK_SECS) -> str:
        """Like `run`, for a command that must succeed; returns its output.

        Raises:
            BenchError: If its status is not 0.
        """
        done = self.run(command, timeout)
        if done.status:
            raise BenchError(f"{self.serial}: `{command}` failed with status {done.status}: {one_line(done.output)}")
        return done.output

    def push(self, local: Path, remote: str) -> None:
        """Copies a file to the device.

        Raises:
            Gone: If the connection broke.
            BenchError: If it could not be written there.
        """
        try:
            shutil.copyfile(local, remote)
        except OSError as error:
            raise BenchError(f"{local} could not be copied to {remote}: {error}") from error

    def reconnect(self, stop: Callable[[], bool], patience: float) -> None:
        """Waits until the device answers again.

        Args:
            stop: Ends the wait early.
            patience: Seconds to wait at most.

        Raises:
            BenchError: If it did not come back.
        """

    @property
    def _argv(self) -> list[str]:
        """What to put before a command to have the device run it."""
        return ["/bin/sh", "-c"]

    def _call(self, argv: Sequence[str], timeout: float, stdin: Path | None = None) -> Done:
        try:
            return call(argv, timeout, stdin)
        except FileNotFoundError as error:
            raise BenchError(f"{argv[0]}: no such program on this machine") from error
        except TimeoutError as error:
            raise TimeoutError(f"{self.serial}: {error}") from error

    def _lost(self, done: Done) -> BenchError:
        return Gone(f"{self.serial}: the connection broke: {one_line(done.output) or 'no answer'}")


def one_line(text: str, most: int = 300) -> str:
    """Returns the last words of an output, on one line."""
    words = " ".join(text.split())
    return words if len(words) <= most else f"...{words[-most:]}"
