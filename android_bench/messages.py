"""Messages on standard error."""

import contextlib
import sys

from .escaping import printable


def log(kind: str, *messages: object) -> None:
    """Writes messages to standard error, one per line, each prefixed with its kind.

    Args:
        kind: `error`, `warning`, `note` or `waiting`.
        messages: The messages; there may be none.
    """
    clear = "\r\033[K" if sys.stderr.isatty() else ""  # the progress line
    for message in messages:
        with contextlib.suppress(OSError):  # a closed terminal must not end the measurement
            print(f"{clear}{kind}: {printable(str(message))}", file=sys.stderr, flush=True)
