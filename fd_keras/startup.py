"""Imports TensorFlow without the notes that its native code prints on standard error.

`TF_CPP_MIN_LOG_LEVEL` does not reach lines that are logged before TensorFlow has read it. Where the user sets that
variable, nothing is hidden.
"""

import contextlib
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from types import ModuleType

from fd_keras.import_hooks import around_import

_LEVEL = "TF_CPP_MIN_LOG_LEVEL"

# Notes about the machine, each a line: the severity, then time and thread, then the file that logs it.
_NOTE = re.compile(
    rb"WARNING: All log messages before absl::InitializeLog\(\) is called are written to STDERR"
    rb"|To enable the following instructions: "
    rb"|I\d{4} .* \w+\.cc:\d+\] "
    rb"|[WE]\d{4} .* (cuda|gpu)\w*\.cc:\d+\] .*(cuInit|dlopen|CUDA|GPU)"
)


def hide_tensorflow_notes() -> None:
    """Makes the first import of TensorFlow in this process a quiet one; does nothing if it was imported already."""
    if _LEVEL in os.environ or "tensorflow" in sys.modules:
        return
    os.environ[_LEVEL] = "2"  # of what is logged later, only errors
    around_import("tensorflow", _without_notes)


@contextlib.contextmanager
def _without_notes(tensorflow: ModuleType) -> Iterator[None]:
    """Also looks for a GPU inside, which is noted too."""
    with without_notes():
        yield
        tensorflow.config.list_physical_devices()


@contextlib.contextmanager
def without_notes() -> Iterator[None]:
    """Holds back what the block writes to standard error, and passes on all lines but TensorFlow's notes."""
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(kept, 2)
            os.close(kept)
            held.seek(0)
            os.write(2, b"".join(line for line in held if not _NOTE.match(line)))
