"""How programs end: the errors that a user can act on, and one line for each."""

import contextlib
import os
import signal
import sys
from collections.abc import Callable
from typing import NoReturn


class ProgramError(RuntimeError):
    """A failure that its message explains to the user, with the way out."""


class UsageError(ValueError):
    """Flags or arguments that contradict each other; the message names them."""


class UntrustedFileError(ValueError):
    """A file that would make us read other files, or fill the memory; the message does not name it."""


class Stopped(Exception):  # noqa: N818  (nothing went wrong)
    """Work that a signal has stopped, after it saved what there was.

    Attributes:
        signal: Number of the signal.
    """

    def __init__(self, message: str, number: int = signal.SIGINT):
        super().__init__(message)
        self.signal = number


def run_and_exit(work: Callable[[], int | None], name: str) -> NoReturn:
    """Does the work and exits: 0 done, 1 failed, 2 wrong usage, 128 + n stopped by signal n.

    Other exceptions are faults of ours and keep their traceback, except those in which damaged files and TensorFlow's
    operations end.

    Args:
        work: Returns the exit status; None is 0.
        name: What the user called the program.
    """
    try:
        sys.exit(work())
    except UsageError as error:
        fail(f"{error} (see {name} --help)", 2)
    except Stopped as stopped:
        _end(str(stopped), 128 + stopped.signal)
    except KeyboardInterrupt:
        _end("stopped", 128 + signal.SIGINT)
    except BrokenPipeError:  # the reader, such as head or less, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(128 + signal.SIGPIPE)
    except (ProgramError, ValueError, OSError, ImportError) as error:
        fail(str(error), 1)
    except Exception as error:
        if not (reason := _expected(error)):
            raise
        fail(reason, 1)


# Where they come from; a module that nobody has imported has raised nothing.
_EXPECTED = {
    "struct": "error",
    "tarfile": "TarError",
    "tensorflow.python.framework.errors_impl": "OpError",
    "zipfile": "BadZipFile",
    "zlib": "error",
}


def _expected(error: Exception) -> str:
    """The message for an exception that is not a bug of ours; "" for all others."""
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
