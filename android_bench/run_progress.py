"""The progress line of a run, with the estimated time left."""

import contextlib
import shutil
import sys
import threading
import time
from typing import Self, TextIO

from .count_summary import millions
from .rows import Row

_LOG_SECS = 5.0  # interval between lines where the stream is not a terminal


class RunProgress:
    """Shows the progress of a run: a line that is rewritten in a terminal, or a line every few seconds in a log.

    Args:
        total: Number of planned launches, on all devices.
        stream: Where to write; standard error by default.
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
            with contextlib.suppress(OSError):
                self._rewrite("")

    def skip(self, launches: int) -> None:
        """Counts launches that an earlier run of the plan already made."""
        self._done += launches
        self._skipped += launches

    def add(self, row: Row) -> None:
        """Counts a row; a repetition takes time but does not count as progress."""
        with self._lock, contextlib.suppress(OSError):  # a closed terminal must not end the measurement
            self._done += row.attempt == 1
            now = time.monotonic()
            if self._terminal:
                self._rewrite(self._line(row, now))
            elif now - self._logged >= _LOG_SECS:
                self._logged = now
                print(self._line(row, now), file=self._stream, flush=True)

    def _line(self, row: Row, now: float) -> str:
        left = (now - self._start) / max(1, self._done - self._skipped) * (self._total - self._done)
        doubt = f" (unreliable: {row.flags[0]})" if row.flags else ""
        return (
            f"{self._done} of {self._total}, {_duration(left)} left: {row.origin.device}: "
            f"{row.label} {_measured(row)}{doubt}"
        )

    def _rewrite(self, line: str) -> None:
        width = shutil.get_terminal_size().columns - 1
        self._stream.write(f"\r{line[:width].ljust(width)}\r")
        self._stream.flush()


def _measured(row: Row) -> str:
    if row.details.counts:
        return f"{millions(row.details.counts['instructions'])} M instructions"
    return f"{row.latency.headline_ns / 1e6:.3f} ms"


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"
