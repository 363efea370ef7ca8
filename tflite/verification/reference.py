"""The model that a .tflite file is compared with."""

import dataclasses
import os

import keras
import numpy as np

from fd_keras import weights
from fd_keras.applications import build_by_name
from fd_keras.io import sha256_of
from fd_keras.saved import load_model
from fd_keras.tflite.format.sidecar import calibration_facts, read_sidecar, sidecar_path
from fd_keras.tflite.recipes import Calibration, Int8Settings, load_calibration
from fd_keras.tflite.verification.compare import Classifier, keras_classifier, tflite_classifier
from fd_keras.tflite.verification.head import Head, keras_head, tflite_head


@dataclasses.dataclass(frozen=True)
class Reference:
    """What files are compared with.

    Attributes:
        classify: The reference as a function of raw images.
        head: What its outputs are.
    """

    classify: Classifier
    head: Head

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Outputs for raw images."""
        return self.classify(images)


def reference_classifier(path: str | None, tflite_path: str, threads: int) -> Reference:
    """The reference that files are compared with.

    Args:
        path: Path of a .tflite file, or of the .keras file that takes images as `tflite_path` does; None: the Keras
            model that `tflite_path` was made from.
        tflite_path: Path of the first file to be checked.
        threads: Number of threads of the interpreter.

    Raises:
        ValueError: If the model cannot be built or loaded; the message has the way out.
        OSError: If a file is not there.
    """
    if path is not None and path.endswith(".tflite"):
        return Reference(tflite_classifier(path, threads), tflite_head(path))
    include = (read_sidecar(tflite_path) or {}).get("include_preprocessing", True)
    model = load_model(path) if path else reference_of(tflite_path)
    return Reference(keras_classifier(model, include), keras_head(model))


def reference_of(tflite_path: str) -> keras.Model:
    """Builds again the Keras model that a .tflite file was made from, by its .json.

    Raises:
        ValueError: If the .json is missing or the weights are not what they were; the message has the way out.
    """
    facts, instead = read_sidecar(tflite_path) or {}, "pass the model it was made from as --reference"
    if not _names_origin(facts):
        raise ValueError(f"{tflite_path}: {sidecar_path(tflite_path)} does not name its origin; {instead}.")
    if facts["weights_sha256"] is None:
        raise ValueError(f"{tflite_path}: made from random weights, which cannot be built again; {instead}.")
    if facts["arch"] is None:
        _check_hash(facts["keras_model"], facts["weights_sha256"], instead)
        return load_model(facts["keras_model"])
    arguments = {key: facts[key] for key in ("alpha", "weights", "include_preprocessing")}
    arguments |= {key: facts[key] for key in ("groups", "stem_multiplier") if key in facts}
    if facts["weights"] not in weights.COLLECTIONS:
        _check_hash(facts["weights"], facts["weights_sha256"], instead)
    return build_by_name(facts["arch"], input_shape=(*facts["size"], 3), **arguments)


def calibration_of(tflite_path: str, folder: str) -> tuple[Calibration, Int8Settings]:
    """The images that a file was calibrated on, and the steps of its recipe, by its .json.

    Raises:
        ValueError: If the file was made without such steps, or the images are not what they were.
        OSError: If an image is not there.
    """
    facts = read_sidecar(tflite_path) or {}
    settings = (facts.get("recipe_steps") or {}).get("settings")
    if not settings or not facts.get("calibration"):
        raise ValueError(f"{tflite_path}: its .json names no steps of the int8 recipe; convert with --recipes=int8.")
    ids, size = facts["calibration"]["ids"], facts["input"]["shape"][1:3]
    calibration = load_calibration(folder, tuple(size), len(ids), ids)
    if calibration_facts(calibration) != facts["calibration"]:
        raise ValueError(f"{folder}: its images are not those that {tflite_path} was calibrated on.")
    return calibration, Int8Settings(**settings)


def _names_origin(facts: dict) -> bool:
    if not facts.keys() >= {"arch", "weights_sha256"}:
        return False
    others = {"keras_model"} if facts["arch"] is None else {"alpha", "size", "weights", "include_preprocessing"}
    return facts.keys() >= others


def _check_hash(path: str, sha256: str, instead: str) -> None:
    path = os.path.expanduser(path)
    if not os.path.exists(path):
        raise ValueError(f"{path}: the weights that the file was made from are not there; {instead}.")
    if sha256_of(path) != sha256:
        raise ValueError(f"{path}: these are no longer the weights that the file was made from; {instead}.")
