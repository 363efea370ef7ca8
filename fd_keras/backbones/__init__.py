"""The networks as backbones for the detectors, segmenters and classifiers of keras-cv and keras-hub.

Each library is imported only by its own module, when a name of that module is first used.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fd_keras.backbones.keras_cv_backbone import KerasCVBackbone
    from fd_keras.backbones.keras_hub_backbone import (
        KerasHubBackbone,
        KerasHubImageClassifier,
        KerasHubImageClassifierPreprocessor,
        KerasHubImageConverter,
    )

__all__ = [
    "KerasCVBackbone",
    "KerasHubBackbone",
    "KerasHubImageClassifier",
    "KerasHubImageClassifierPreprocessor",
    "KerasHubImageConverter",
]

_EXTRAS = {"keras_cv": "keras-cv", "keras_hub": "keras-hub"}


def __getattr__(name: str):
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    library = "keras_cv" if name.startswith("KerasCV") else "keras_hub"
    try:
        module = importlib.import_module(f"{__name__}.{library}_backbone")
    except ModuleNotFoundError as error:
        raise ImportError(f'{error.name} is not installed: pip install "fd-keras[{_EXTRAS[library]}]"') from error
    globals()[name] = getattr(module, name)
    return globals()[name]


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
