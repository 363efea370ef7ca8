"""Hides the log lines that TensorFlow's native code prints on standard error when it is imported.

`TF_CPP_MIN_LOG_LEVEL` has no effect on lines that are logged before TensorFlow reads it. If the user sets that
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

# Notes about the machine, one per line: severity, time and thread, then the source file.
_NOTE = re.compile(
    rb"WARNING: All log messages before absl::InitializeLog\(\) is called are written to STDERR"
    rb"|To enable the following instructions: "
    rb"|I\d{4} .* \w+\.cc:\d+\] "
    rb"|[WE]\d{4} .* (cuda|gpu)\w*\.cc:\d+\] .*(cuInit|dlopen|CUDA|GPU)"
)


def hide_tensorflow_notes() -> None:
    """Hides the notes of the first import of TensorFlow in this process; does nothing if it is already imported."""
    if _LEVEL in os.environ or "tensorflow" in sys.modules:
        return
    os.environ[_LEVEL] = "2"  # log only errors later
    around_import("tensorflow", _without_notes)


@contextlib.contextmanager
def _without_notes(tensorflow: ModuleType) -> Iterator[None]:
    """Also lists the GPUs inside the block, since TensorFlow logs notes about that too."""
    with without_notes():
        yield
        tensorflow.config.list_physical_devices()


@contextlib.contextmanager
def without_notes() -> Iterator[None]:
    """Captures what the block writes to standard error, and passes on all lines except TensorFlow's notes."""
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
