"""Errors that users can act on. Programs print them on one line and exit with a status."""

import _thread
import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from typing import NoReturn


class ProgramError(RuntimeError):
    """A failure that is not a bug; the message has the problem, where it is, and a remedy."""


class UsageError(ValueError):
    """Flags or arguments that are missing or contradict each other; the message names them."""


class UntrustedFileError(ValueError):
    """A file that would make its reader open other files or exhaust memory; the message does not name the file."""


class Stopped(Exception):  # noqa: N818  (not an error)
    """Raised when a signal stopped the work, after saving its state.

    Attributes:
        signal: Number of the signal.
    """

    def __init__(self, message: str, number: int = signal.SIGINT):
        super().__init__(message)
        self.signal = number


def run_and_exit(work: Callable[[], int | None], name: str) -> NoReturn:
    """Runs `work` and exits with status 0 (done), 1 (failed), 2 (wrong usage) or 128 + n (stopped by signal n).

    Other exceptions are bugs and print a traceback, except those raised for damaged files and by TensorFlow's
    operations.

    Args:
        work: Function that returns the exit status; None means 0.
        name: Name of the program as the user typed it.
    """
    try:
        with _lasting_interrupts():
            sys.exit(work())
    except UsageError as error:
        fail(f"{error} (see {name} --help)", 2)
    except Stopped as stopped:
        _end(str(stopped), 128 + stopped.signal)
    except KeyboardInterrupt:
        _end("stopped", 128 + signal.SIGINT)
    except BrokenPipeError:  # the reader, such as head or less, has exited
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(128 + signal.SIGPIPE)
    except (ProgramError, ValueError, OSError, ImportError) as error:
        fail(str(error), 1)
    except Exception as error:
        if not (reason := _expected(error)):
            raise
        fail(reason, 1)


@contextlib.contextmanager
def _lasting_interrupts() -> Iterator[None]:
    """Repeats Ctrl-C where Python drops its exception: in finalizers and in callbacks of the garbage collector."""

    def repeat(dropped) -> None:
        if not issubclass(dropped.exc_type, KeyboardInterrupt):
            before(dropped)
            return
        # Later, since an exception raised here would be dropped as well.
        timer = threading.Timer(0.01, _thread.interrupt_main)
        timer.daemon = True
        timer.start()

    before, sys.unraisablehook = sys.unraisablehook, repeat
    try:
        yield
    finally:
        sys.unraisablehook = before


# Exceptions that are not bugs, by module; a module that was never imported cannot have raised one.
_EXPECTED = {
    "struct": "error",
    "tarfile": "TarError",
    "tensorflow.python.framework.errors_impl": "OpError",
    "zipfile": "BadZipFile",
    "zlib": "error",
}


def _expected(error: Exception) -> str:
    """Returns the message for an exception that is not a bug; "" for all others."""
    for module, name in _EXPECTED.items():
        kind = getattr(sys.modules.get(module), name, None)
        if kind and isinstance(error, kind):
            text = str(getattr(error, "message", error)).strip() or name
            return text.splitlines()[0] if name == "OpError" else f"a file is damaged or truncated ({text})"
    return ""


def fail(message: str, status: int) -> NoReturn:
    """Exits with an error message."""
    _end(f"error: {message}", status)


def _end(message: str, status: int) -> NoReturn:
    with contextlib.suppress(OSError):  # the terminal may be gone
        print(message, file=sys.stderr, flush=True)
    sys.exit(status)
