"""Loads models from .keras files."""

import os
import zipfile
from typing import cast

import keras

import fd_keras.layers  # noqa: F401  (registers the layers that the networks have)


def load_model(path: str | os.PathLike) -> keras.Model:
    """Loads a .keras file for inference, without running any code from it.

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: If it is not a .keras file, is damaged, or needs layers that are not registered; names the file.
    """
    path = os.fspath(path)
    if not os.path.isfile(path):
        raise FileNotFoundError(f"{path}: no such file; pass a saved .keras model.")
    with open(path, "rb") as file:
        if file.read(8)[4:] == b"TFL3":  # may also be a zip, if it has class names
            raise ValueError(f"{path}: a .tflite file; pass the .keras file that it was converted from.")
    if not zipfile.is_zipfile(path):  # Keras's own message is about older file formats
        raise ValueError(
            f"{path}: not a .keras file, or truncated; save the model again with model.save(), or copy it again."
        )
    try:
        return cast(keras.Model, keras.saving.load_model(path, compile=False))
    except Exception as error:  # a damaged file can fail anywhere: in zipfile, json, h5py or Keras
        raise ValueError(f"{path}: cannot be loaded as a .keras model ({error}).") from error


def load_float32(path: str | os.PathLike) -> keras.Model:
    """Loads a .keras file like `load_model`; models saved with mixed precision compute in float32, as TFLite does."""
    model = load_model(path)
    for layer in model._flatten_layers():
        if layer.compute_dtype in ("float16", "bfloat16") and not layer.dtype_policy.quantization_mode:
            layer.dtype_policy = "float32"
    return model
