"""Running commands on a device, the base of adb, ssh and this machine.

This is the only module that starts processes on a device. After each command, a marker line with its exit status is
printed, so that "the command failed" and "the connection broke" cannot be confused, whatever status the client returns
(adb before Android 7 always returns 0, ssh returns 255 for both).
"""

import contextlib
import os
import platform
import re
import shutil
import signal
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from .errors import BenchError

_MARK = "android_bench exit status "
_ENDING = re.compile(rf"\n?{_MARK}(\d+)\r?\n?\Z")
QUICK_SECS = 30.0  # enough for a command that reads a few files, on a slow phone over Wi-Fi
PUSH_SECS = 300.0


class CommandResult(NamedTuple):
    """Exit status of a command, and its combined standard output and error."""

    status: int
    output: str


class ConnectionLostError(BenchError):
    """The connection to a device broke; `Shell.reconnect` may restore it."""


def call(argv: Sequence[str], timeout: float, stdin: Path | None = None) -> CommandResult:
    """Runs a program on this machine.

    The program gets its own process group, so that Ctrl-C in the terminal does not kill it: this process stops after
    the current launch.

    Args:
        argv: The program and its arguments.
        timeout: Seconds after which it is killed.
        stdin: File for its standard input; empty by default.

    Raises:
        FileNotFoundError: If the program does not exist.
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
    return CommandResult(process.returncode, output.decode("utf-8", "replace").replace("\r\n", "\n"))


def _kill(process: subprocess.Popen) -> None:
    """Kills a program and its children."""
    if not hasattr(os, "killpg"):  # Windows
        process.kill()
        return
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


class Shell:
    """A POSIX shell on this machine; base class of the shells on devices.

    Attributes:
        target: See `rows.Origin.target`.
        serial: Identifier of the device.
        folder: Folder on the device for our files; None if they need not be copied.
    """

    target = "host"
    folder: str | None = None

    def __init__(self, serial: str = "") -> None:
        self.serial = serial or platform.node() or "this machine"

    def run(self, command: str, timeout: float = QUICK_SECS) -> CommandResult:
        """Runs a shell command on the device; the caller must check the exit status.

        Raises:
            ConnectionLostError: If the connection broke before the command ended.
            TimeoutError: If the command did not end in time.
            BenchError: If the device refuses the connection.
        """
        # Suppress the outer shell's own messages, such as "Killed", which would follow the mark.
        wrapped = f"exec 2>/dev/null; ({command}\n) 2>&1; s=$?; echo; echo {_MARK}$s"
        result = self._call([*self._argv, wrapped], timeout)
        ending = _ENDING.search(result.output)
        if ending is None:
            raise self._connection_error(result)
        return CommandResult(int(ending[1]), result.output[: ending.start()])

    def start(self, command: str) -> subprocess.Popen:
        """Starts a shell command on the device that ends when its standard input, a pipe from this process, closes.

        Raises:
            BenchError: If the client program (adb or ssh) is not installed.
        """
        pipe, argv = subprocess.PIPE, [*self._argv, command]
        try:
            return subprocess.Popen(argv, stdin=pipe, stdout=pipe, stderr=subprocess.STDOUT, start_new_session=True)
        except FileNotFoundError as error:
            raise BenchError(f"{error.filename}: no such program on this machine") from error

    def check(self, command: str, timeout: float = QUICK_SECS) -> str:
        """Runs a shell command that must succeed; returns its output.

        Raises:
            BenchError: If its exit status is not 0.
        """
        status, output = self.run(command, timeout)
        if status:
            raise BenchError(f"{self.serial}: `{command}` failed with status {status}: {one_line(output)}")
        return output

    def push(self, local: Path, remote: str) -> None:
        """Copies a file to the device.

        Raises:
            ConnectionLostError: If the connection broke.
            BenchError: If the file could not be written.
        """
        try:
            shutil.copyfile(local, remote)
        except OSError as error:
            raise BenchError(f"{local} could not be copied to {remote}: {error}") from error

    def reconnect(self, stop: Callable[[], bool], patience: float) -> None:
        """Waits until the device responds again.

        Args:
            stop: Ends the wait early.
            patience: Maximum seconds to wait.

        Raises:
            BenchError: If the device did not come back.
        """

    @property
    def _argv(self) -> list[str]:
        """The client program and its arguments that precede a command for the device."""
        return ["/bin/sh", "-c"]

    def _call(self, argv: Sequence[str], timeout: float, stdin: Path | None = None) -> CommandResult:
        try:
            return call(argv, timeout, stdin)
        except FileNotFoundError as error:
            raise BenchError(f"{argv[0]}: no such program on this machine") from error
        except TimeoutError as error:
            raise TimeoutError(f"{self.serial}: {error}") from error

    def _connection_error(self, result: CommandResult) -> BenchError:
        """Returns the error for a broken connection with this result."""
        return ConnectionLostError(f"{self.serial}: the connection broke: {one_line(result.output) or 'no answer'}")


def one_line(text: str, most: int = 300) -> str:
    """Returns the end of an output, on one line."""
    words = " ".join(text.split())
    return words if len(words) <= most else f"...{words[-most:]}"
