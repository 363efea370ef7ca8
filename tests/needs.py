"""Skips tests whose tools are missing. Each reason reads "needs TOOL: COMMAND", where the command provides the tool."""

import os
import shutil
from types import ModuleType

import pytest

# Debian packages by program.
_APT = {
    "arm-none-eabi-g++": "gcc-arm-none-eabi libstdc++-arm-none-eabi-newlib",
    "chromium": "chromium",
    "cmake": "cmake",
    "firefox-esr": "firefox-esr",
    "g++": "g++",
    "gcc": "gcc",
}

posix_signals = pytest.mark.skipif(os.name == "nt", reason="needs POSIX signals: run on Linux or macOS")


def program(name: str, *others: str) -> str:
    """Returns the path of a program or an alternative; skips the test if none is installed."""
    for each in (name, *others):
        if path := shutil.which(each):
            return path
    pytest.skip(f"needs {name}: apt-get install {_APT[name]}")


def package(module: str) -> ModuleType:
    """Imports and returns a module; skips the test if its package is not installed."""
    name = module.partition(".")[0].replace("_", "-")
    return pytest.importorskip(module, reason=f"needs {name}: pip install {name}")
