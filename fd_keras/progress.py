"""Progress on the terminal: bar, rate and time left."""

import sys
import time
from collections.abc import Iterable, Iterator, Sized
from typing import TypeVar

_WIDTH = 20  # characters in a bar
_Item = TypeVar("_Item")


def progress(
    items: Iterable[_Item], total: int | None = None, *, unit: str = "images", delay: float = 1.0
) -> Iterator[_Item]:
    """Yields the items, and shows a progress bar on standard error if that takes longer than `delay` seconds.

    Shows nothing if standard error is not a terminal.

    Args:
        items: Items to yield.
        total: Number of items; by default their length, if they have one.
        unit: Plural noun for the items.
        delay: Seconds before the bar appears; it is updated every tenth of that.
    """
    if total is None and isinstance(items, Sized):
        total = len(items)
    if not sys.stderr.isatty():
        yield from items
        return
    start = shown = time.monotonic()
    done = 0
    try:
        for item in items:
            yield item
            done += 1
            now = time.monotonic()
            if now - start > delay and now - shown > delay / 10:
                shown = now
                _rewrite(progress_line(done, total, now - start, unit))
    finally:
        if shown > start:
            _rewrite(progress_line(done, total, time.monotonic() - start, unit) + "\n")


class StatusLine:
    """A status line that is rewritten in place on a terminal, and printed at intervals in a log file.

    Args:
        interval: Seconds between updates on a terminal.
        patience: Seconds between lines in a log file.
    """

    def __init__(self, interval: float = 0.2, patience: float = 300.0):
        self._terminal = sys.stderr.isatty()
        self._interval = interval if self._terminal else patience
        self._last = time.monotonic()

    def show(self, text: str) -> None:
        """Shows the text, unless the last update is too recent."""
        now = time.monotonic()
        if now - self._last < self._interval:
            return
        self._last = now
        _rewrite(text) if self._terminal else print(text, file=sys.stderr, flush=True)

    def clear(self) -> None:
        """Erases the line to make room for other output."""
        if self._terminal:
            _rewrite("")


def _rewrite(text: str) -> None:
    sys.stderr.write(f"\r\x1b[K{text}")
    sys.stderr.flush()


def progress_line(done: int, total: int | None, seconds: float, unit: str) -> str:
    """For example "[##########----------] 120/240 images  35.1/s  2:10 min left"."""
    rate = done / seconds if seconds else 0.0
    if not total:
        return f"{done} {unit}  {rate:.1f}/s"
    left = f"{duration((total - done) / rate)} left" if rate else "?"
    return f"{bar(done, total)} {unit}  {rate:.1f}/s  {left}"


def bar(done: int, total: int) -> str:
    """For example "[##------------------]  120/1204"."""
    filled = round(_WIDTH * done / total)
    return f"[{'#' * filled}{'-' * (_WIDTH - filled)}] {done:>{len(str(total))}}/{total}"


def duration(seconds: float) -> str:
    """For example "3 h 05 min", "2:10 min" or "12 s"."""
    seconds = round(seconds)
    if seconds >= 3600:
        return f"{seconds // 3600} h {seconds % 3600 // 60:02} min"
    return f"{seconds // 60}:{seconds % 60:02} min" if seconds >= 60 else f"{seconds} s"
