"""Runs code around the first import of another package, without importing the package."""

import importlib.abc
import importlib.util
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from types import ModuleType

Around = Callable[[ModuleType], AbstractContextManager]


def around_import(name: str, around: Around) -> None:
    """Loads a top-level package inside a context manager when it is first imported.

    Args:
        name: Name of the package, which must not be imported yet.
        around: Function that makes the context manager from the module that is being loaded.
    """
    sys.meta_path.insert(0, _Finder(name, around))


class _Finder(importlib.abc.MetaPathFinder):
    """Finds one package like Python does, once, and loads it with `_Loader`."""

    def __init__(self, name: str, around: Around):
        self._name, self._around = name, around

    def find_spec(self, fullname, path=None, target=None):
        if fullname != self._name:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(fullname)
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader, self._around)
        return spec


class _Loader(importlib.abc.Loader):
    """Loads a module with its original loader, inside the context manager."""

    def __init__(self, loader, around: Around):
        self._loader, self._around = loader, around

    def __getattr__(self, name):  # other features of the loader, such as resources
        return getattr(self._loader, name)

    def create_module(self, spec):
        return self._loader.create_module(spec)

    def exec_module(self, module):
        with self._around(module):
            self._loader.exec_module(module)
