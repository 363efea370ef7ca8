"""Stopping a run early without losing its results."""

import contextlib
import os
import signal
from types import FrameType
from typing import Self

_SIGNALS = (signal.SIGINT, signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else ()))


class StopSignal:
    """Records the first Ctrl-C, SIGTERM or SIGHUP (closed terminal) for a loop to check; a second one ends the process.

    Raising an exception instead could interrupt the writing of a row. Signals that were ignored when the process
    started, as in a shell's background jobs, stay ignored.

    Attributes:
        signal: The received signal, or None.
    """

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        self._before = {}

    def __enter__(self) -> Self:
        for number in _SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def __call__(self) -> bool:
        """Returns whether a signal was received."""
        return self.signal is not None

    def _note(self, number: int, _: FrameType | None) -> None:
        self.signal = signal.Signals(number)
        self.__exit__()
        with contextlib.suppress(OSError):  # not print, since the signal may have interrupted a print
            os.write(2, b"note: stopping after this launch; repeat to stop at once\n")
