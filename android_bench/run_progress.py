"""How far a run is, and ending it early without losing what it measured."""

import shutil
import signal
import sys
import threading
import time
from collections.abc import Iterable
from types import FrameType
from typing import Self, TextIO

from .rows import Row

_LOG_SECS = 5.0  # a log that is no terminal gets a line this often


def tell(kind: str, messages: Iterable[object]) -> None:
    """Writes messages to standard error, one per line, each after its kind."""
    clear = "\r\033[K" if sys.stderr.isatty() else ""  # the line of progress
    for message in messages:
        print(f"{clear}{kind}: {message}", file=sys.stderr, flush=True)


class Progress:
    """Tells on a stream how far a plan is: one line rewritten in a terminal, now and then a line in a log.

    Args:
        total: Number of launches that are planned, on all devices.
        stream: Where to write; standard error unless given.
    """

    def __init__(self, total: int, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._total, self._done, self._skipped = total, 0, 0
        self._lock = threading.Lock()  # several devices report at once
        self._start = self._logged = time.monotonic()
        self._terminal = self._stream.isatty()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._terminal:
            self._rewrite("")

    def skip(self, launches: int) -> None:
        """Counts launches that were made by an earlier call."""
        self._done += launches
        self._skipped += launches

    def __call__(self, row: Row) -> None:
        """Counts a row; a repetition takes time, but brings the end no nearer."""
        with self._lock:
            self._done += row.attempt == 1
            now = time.monotonic()
            if self._terminal:
                self._rewrite(self._line(row, now))
            elif now - self._logged >= _LOG_SECS:
                self._logged = now
                print(self._line(row, now), file=self._stream, flush=True)

    def _line(self, row: Row, now: float) -> str:
        left = (now - self._start) / max(1, self._done - self._skipped) * (self._total - self._done)
        doubt = f" (doubtful: {row.flags[0]})" if row.flags else ""
        return (
            f"{self._done} of {self._total}, {_duration(left)} left: {row.device}: "
            f"{row.label} {row.headline_ns / 1e6:.3f} ms{doubt}"
        )

    def _rewrite(self, line: str) -> None:
        width = shutil.get_terminal_size().columns - 1
        self._stream.write(f"\r{line[:width].ljust(width)}\r")
        self._stream.flush()


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"


class Stop:
    """Turns the first Ctrl-C or SIGTERM into a wish that a loop can ask for; a second one ends at once.

    An exception out of a signal could fall into the writing of a row. A signal that the process was started
    to ignore, as a shell does for its background jobs, stays ignored.

    Attributes:
        signal: The signal that came, None so far.
    """

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        self._before = {}

    def __enter__(self) -> Self:
        for number in (signal.SIGINT, signal.SIGTERM):
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
