"""The model that a .tflite file is compared with."""

import dataclasses
import os
from typing import Any

import keras
import numpy as np

from fd_keras import weights
from fd_keras.applications import build_by_name
from fd_keras.head import Head, keras_head, tflite_head
from fd_keras.image_classifier import check_form, takes_raw_images
from fd_keras.io import printable, sha256_of
from fd_keras.litert import Runner
from fd_keras.saved import load_float32
from fd_keras.sidecar import check_field
from fd_keras.tflite.format.sidecar import calibration_facts, read_sidecar, sidecar_path
from fd_keras.tflite.recipes import Calibration, Int8Settings, load_calibration
from fd_keras.tflite.verification.compare import Classifier, keras_classifier, tflite_classifier


@dataclasses.dataclass(frozen=True)
class Reference:
    """The model that files are compared with.

    Attributes:
        classify: The reference as a function of raw images.
        head: Kind of its outputs.
    """

    classify: Classifier
    head: Head

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Outputs for raw images."""
        return self.classify(images)


def reference_classifier(path: str | None, tflite_path: str, threads: int) -> Reference:
    """Loads the reference that files are compared with.

    Args:
        path: Path of a .tflite file, or of a .keras file with the same preprocessing as `tflite_path`; None for the
            Keras model that `tflite_path` was made from.
        tflite_path: Path of the first file to check.
        threads: Number of interpreter threads.

    Raises:
        ValueError: If the model cannot be built or loaded.
        OSError: If a file does not exist.
    """
    if path is not None and path.endswith(".tflite"):
        return Reference(tflite_classifier(path, threads), tflite_head(path))
    model = load_float32(path) if path else reference_of(tflite_path)
    check_form(model, path or tflite_path)
    shape = Runner(tflite_path).input_shape
    if any(side not in (None, ours) for side, ours in zip(model.input_shape[1:], shape, strict=True)):
        raise ValueError(
            f"{path or tflite_path}: takes images of {model.input_shape[1:]}, but {tflite_path} of {shape}; pass the "
            "model it was made from as --reference."
        )
    return Reference(keras_classifier(model, takes_raw_images(tflite_path)), keras_head(model))


def reference_of(tflite_path: str) -> keras.Model:
    """Rebuilds the Keras model that a .tflite file was made from, according to its .json.

    Raises:
        ValueError: If the .json is missing or the weights have changed.
    """
    facts, instead = read_sidecar(tflite_path) or {}, "pass the model it was made from as --reference"
    if not _names_origin(facts):
        raise ValueError(f"{tflite_path}: {sidecar_path(tflite_path)} does not name its source model; {instead}.")
    if facts["weights_sha256"] is None:
        raise ValueError(f"{tflite_path}: made from random weights, which cannot be restored; {instead}.")
    if facts["arch"] is None:
        _check_hash(facts["keras_model"], facts["weights_sha256"], instead)
        return load_float32(facts["keras_model"])
    arguments = {key: facts[key] for key in ("alpha", "weights", "include_preprocessing")}
    arguments |= {key: facts[key] for key in ("groups", "stem_multiplier") if key in facts}
    if facts["weights"] not in weights.COLLECTIONS:
        _check_hash(facts["weights"], facts["weights_sha256"], instead)
    return build_by_name(facts["arch"], input_shape=(*facts["size"], 3), **arguments)


def calibration_of(tflite_path: str, folder: str) -> tuple[Calibration, Int8Settings]:
    """The calibration images of a file, and the settings of its recipe, according to its .json.

    Raises:
        ValueError: If the file was made without the int8 recipe, or the images have changed.
        OSError: If an image does not exist.
    """
    facts, path = read_sidecar(tflite_path) or {}, sidecar_path(tflite_path)
    steps, images = (facts.get("recipe_steps") or {}).get("settings"), facts.get("calibration")
    if not steps or not images:
        raise ValueError(f"{tflite_path}: its .json has no settings of the int8 recipe; convert with --recipes=int8.")
    settings = _settings(path, steps)
    ids, shape = images.get("ids"), (facts.get("input") or {}).get("shape")
    if not isinstance(ids, list) or not all(isinstance(id, str) for id in ids):
        raise ValueError(f"{path}: 'calibration' has no list of 'ids'; convert the model again.")
    if not isinstance(shape, list) or len(shape) != 4 or not all(type(side) is int and side > 0 for side in shape):
        raise ValueError(f"{path}: 'input' has no 'shape' of four integers; convert the model again.")
    calibration = load_calibration(folder, shape[1:], len(ids), ids)
    if calibration_facts(calibration) != images:
        raise ValueError(f"{folder}: these are not the images that {tflite_path} was calibrated on.")
    return calibration, settings


def _settings(path: str, steps: Any) -> Int8Settings:
    """Parses the recipe settings in a .json; raises ValueError for unknown settings and values of the wrong type."""
    defaults = dataclasses.asdict(Int8Settings())
    if not isinstance(steps, dict) or not steps.keys() <= defaults.keys():
        raise ValueError(f"{path}: 'recipe_steps' has no 'settings' of the int8 recipe; convert the model again.")
    for name, value in steps.items():
        kinds = (bool,) if isinstance(defaults[name], bool) else (int, float)
        check_field(path, name, value, kinds)
    return Int8Settings(**steps)


def _names_origin(facts: dict) -> bool:
    if not facts.keys() >= {"arch", "weights_sha256"}:
        return False
    if facts["arch"] is None:
        return facts.get("keras_model") is not None
    known = {key for key in ("alpha", "size", "weights", "include_preprocessing") if facts.get(key) is not None}
    return len(known) == 4 or (facts["weights_sha256"] is None and "weights" in facts)


def _check_hash(path: str, sha256: str, instead: str) -> None:
    path = os.path.expanduser(path)
    if not os.path.isfile(path):
        raise ValueError(f"{printable(path)}: the weights that the file was made from are missing; {instead}.")
    if sha256_of(path) != sha256:
        raise ValueError(f"{printable(path)}: the weights have changed since the file was made; {instead}.")
