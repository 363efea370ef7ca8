"""A progress line on the terminal: bar, rate and time left."""

import sys
import time
from collections.abc import Iterable, Iterator, Sized


def progress(items: Iterable, total: int | None = None, *, unit: str = "images", delay: float = 1.0) -> Iterator:
    """Yields the items, and shows on standard error how far it is once that takes longer than `delay` seconds.

    Nothing is shown when standard error is not a terminal.

    Args:
        items: what to go through.
        total: how many there are; taken from `items` where it has a length.
        unit: what they are.
        delay: seconds before the line appears, and then between two updates at least a tenth of that.
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
                sys.stderr.write("\r\x1b[K" + progress_line(done, total, now - start, unit))
                sys.stderr.flush()
    finally:
        if shown > start:
            sys.stderr.write("\r\x1b[K" + progress_line(done, total, time.monotonic() - start, unit) + "\n")


def progress_line(done: int, total: int | None, seconds: float, unit: str) -> str:
    """For example "[######------]  120/240 images  35.1/s  3 s left"."""
    rate = done / seconds if seconds else 0.0
    if not total:
        return f"{done} {unit}  {rate:.1f}/s"
    filled = round(24 * done / total)
    left = f"{(total - done) / rate:.0f} s left" if rate else "?"
    return f"[{'#' * filled}{'-' * (24 - filled)}] {done:>{len(str(total))}}/{total} {unit}  {rate:.1f}/s  {left}"
