"""Loading models that were saved as .keras files."""

import os
import zipfile
from typing import cast

import keras

import fd_keras.layers  # noqa: F401  (registers the layers that the networks have)


def load_model(path: str | os.PathLike) -> keras.Model:
    """Loads a .keras file for inference, without running code that it may hold.

    Raises:
        FileNotFoundError: if it is not there.
        ValueError: if it is not a .keras file, is damaged, or needs layers that are not registered; names it.
    """
    path = os.fspath(path)
    if not os.path.isfile(path):
        raise FileNotFoundError(f"{path}: no such file; a saved .keras model is needed.")
    if not zipfile.is_zipfile(path):  # Keras would explain all the formats that there have been
        raise ValueError(
            f"{path}: not a .keras file, or cut off; save the model again with model.save(), or copy it again."
        )
    try:
        return cast(keras.Model, keras.saving.load_model(path, compile=False))
    except Exception as error:  # a damaged file fails anywhere: in zipfile, json, h5py or Keras
        raise ValueError(f"{path}: not a .keras model that can be loaded ({error}).") from error
