"""FD-MobileNet (arXiv 1802.03750) and its peers as Keras applications.

Importing this package loads neither Keras nor TensorFlow: each public name is imported on first use, so that programs
that need neither, such as `fd-keras bench`, start at once.
"""

import contextlib
import importlib
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import TYPE_CHECKING

from fd_keras.import_hooks import around_import
from fd_keras.version import __version__

if TYPE_CHECKING:
    from fd_keras.applications import FDMobileNet, FDShuffleNet, MobileNet, ShuffleNet, feature_layers
    from fd_keras.cost import profile
    from fd_keras.imagenet import decode_predictions, preprocess_input
    from fd_keras.layers import ChannelShuffle

__all__ = [
    "ChannelShuffle",
    "FDMobileNet",
    "FDShuffleNet",
    "MobileNet",
    "ShuffleNet",
    "__version__",
    "decode_predictions",
    "feature_layers",
    "preprocess_input",
    "profile",
]

_HOME = {
    "ChannelShuffle": "layers",
    "FDMobileNet": "applications",
    "FDShuffleNet": "applications",
    "MobileNet": "applications",
    "ShuffleNet": "applications",
    "decode_predictions": "imagenet",
    "feature_layers": "applications",
    "preprocess_input": "imagenet",
    "profile": "cost",
}


def __getattr__(name: str):
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"fd_keras.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


@contextlib.contextmanager
def _registering_layers(keras: ModuleType) -> Iterator[None]:
    """Registers this package's layers, so that `keras.saving.load_model` finds them after `import fd_keras`."""
    yield
    importlib.import_module("fd_keras.layers")


if "keras" in sys.modules:
    importlib.import_module("fd_keras.layers")
else:
    around_import("keras", _registering_layers)
