"""Raspberry Pis and other ARM Linux boards, over ssh."""

import shlex
import time
from collections.abc import Callable
from pathlib import Path

from .errors import BenchError
from .messages import log
from .shell import PUSH_SECS, CommandResult, ConnectionLostError, Shell, one_line

FOLDER = "/tmp/android_bench"
# Never prompt, and notice within seconds when the board is gone.
_OPTIONS = ("-oBatchMode=yes", "-oConnectTimeout=10", "-oServerAliveInterval=5", "-oServerAliveCountMax=3")
# Errors that reconnecting cannot fix.
_REFUSED = ("Permission denied", "Host key verification failed", "Could not resolve hostname")


class SshShell(Shell):
    """A shell on a board, over ssh; the board must accept a key, since ssh cannot prompt for a password.

    Args:
        serial: `user@host`, or a host in ~/.ssh/config.
        program: The ssh client with options, such as `ssh -p 2222`.
    """

    target = "ssh"
    folder = FOLDER

    def __init__(self, serial: str, program: str = "ssh") -> None:
        if serial.startswith("-"):
            raise BenchError(f"--serial={serial}: not a host; expected something like pi@raspberrypi")
        super().__init__(serial)
        self._program = shlex.split(program)

    def push(self, local: Path, remote: str) -> None:
        """See `Shell.push`. Copies through `cat`, so that the board does not need sftp."""
        mark = "written"
        result = self._call([*self._argv, f"cat > {shlex.quote(remote)} && echo {mark}"], PUSH_SECS, local)
        if result.output.strip() != mark:
            lost = self._connection_error(result)
            raise lost if result.status == 255 else BenchError(f"{lost}: {local} could not be copied to {remote}")

    def reconnect(self, stop: Callable[[], bool], patience: float) -> None:
        """See `Shell.reconnect`."""
        deadline = time.monotonic() + patience
        log("waiting", f"{self.serial} does not respond; check its power and network")
        while not stop():
            try:
                self.run("true")
                return
            except (ConnectionLostError, TimeoutError) as error:
                if time.monotonic() > deadline:
                    raise BenchError(f"{self.serial}: did not come back within {patience:.0f} s: {error}") from error
            time.sleep(1)

    @property
    def _argv(self) -> list[str]:
        return [*self._program, *_OPTIONS, self.serial]

    def _connection_error(self, result: CommandResult) -> BenchError:
        words = one_line(result.output) or "no answer"
        if any(refusal in words for refusal in _REFUSED):
            return BenchError(f"{self.serial}: {words}; make `ssh {self.serial} true` work without a password first")
        return ConnectionLostError(f"{self.serial}: the connection broke: {words}")
