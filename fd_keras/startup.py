"""Imports TensorFlow without the notes that its native code prints on standard error.

`TF_CPP_MIN_LOG_LEVEL` does not reach lines that are logged before TensorFlow has read it. Where the user sets that
variable, nothing is hidden.
"""

import contextlib
import importlib.abc
import importlib.util
import os
import re
import sys
import tempfile
from collections.abc import Iterator

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
    sys.meta_path.insert(0, _Finder())


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


class _Finder(importlib.abc.MetaPathFinder):
    """Finds TensorFlow as Python does, once, and has it loaded by `_Loader`."""

    def find_spec(self, fullname, path=None, target=None):
        if fullname != "tensorflow":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(fullname)
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader)
        return spec


class _Loader(importlib.abc.Loader):
    """Loads a module by another loader, `without_notes`."""

    def __init__(self, loader):
        self._loader = loader

    def __getattr__(self, name):  # what else a loader may be asked, such as for resources
        return getattr(self._loader, name)

    def create_module(self, spec):
        return self._loader.create_module(spec)

    def exec_module(self, module):
        with without_notes():
            self._loader.exec_module(module)
            module.config.list_physical_devices()  # looks for a GPU, which is noted too
