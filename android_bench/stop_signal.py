"""Ending a run early without losing what it measured."""

import contextlib
import os
import signal
from types import FrameType
from typing import Self

_SIGNALS = (signal.SIGINT, signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else ()))


class StopSignal:
    """Notes the first Ctrl-C, SIGTERM or SIGHUP (a closed terminal) for a loop to check; a second one ends the process.

    An exception raised by a signal could interrupt the writing of a row. A signal that the process was started to
    ignore, as a shell does for its background jobs, stays ignored.

    Attributes:
        signal: The signal that came, or None.
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
        """Returns whether a signal has come."""
        return self.signal is not None

    def _note(self, number: int, _: FrameType | None) -> None:
        self.signal = signal.Signals(number)
        self.__exit__()
        with contextlib.suppress(OSError):  # not print, which a signal may have interrupted
            os.write(2, b"note: stopping after this launch; once more: at once\n")
