"""The .json beside every .tflite file: source model, recipe and measured accuracy."""

import dataclasses
import hashlib
import importlib.metadata
import os
from collections.abc import Sequence

from fd_keras import cost, version
from fd_keras.io import printable, sha256_of, write_json
from fd_keras.litert import Runner
from fd_keras.sidecar import read_sidecar, sidecar_path
from fd_keras.tflite.recipes import Calibration, ConversionRecipe

__all__ = ["describe", "read_sidecar", "record", "saved_source", "sidecar_path"]

PACKAGES = ("tensorflow", "keras", "ai-edge-litert", "numpy")  # packages whose versions affect a file's content


def record(tflite_path: str, **facts) -> None:
    """Adds facts to the description beside a .tflite file.

    Raises:
        ValueError: If there is no description, or if it describes another file.
    """
    content = read_sidecar(tflite_path)
    if content is None or content.get("sha256") != sha256_of(tflite_path):
        raise ValueError(f"{sidecar_path(tflite_path)}: does not describe {tflite_path}; convert the model again.")
    write_json(sidecar_path(tflite_path), content | facts)


def saved_source(path: str) -> dict:
    """Identification of a model that was saved as a .keras file."""
    return {"arch": None, "keras_model": path, "weights_sha256": sha256_of(path)}


def describe(
    path: str,
    model,
    source: dict,
    recipe: ConversionRecipe,
    calibration: Calibration | None,
    include_preprocessing: bool,
) -> dict:
    """Describes a .tflite file.

    Args:
        path: Path of the file, which must exist.
        model: Keras model that the file was made from.
        source: Identification of that model: arch, alpha, weights and their hash, ...
        recipe: Recipe of the conversion.
        calibration: Calibration images, if any.
        include_preprocessing: Whether the file takes raw pixels.
    """
    runner, costs = Runner(path), cost.profile(model)
    return {
        "name": os.path.splitext(os.path.basename(path))[0].removesuffix(f"_{recipe.name}"),
        **source,
        "recipe": recipe.name,
        "recipe_steps": dataclasses.asdict(recipe),
        "include_preprocessing": include_preprocessing,
        "input": tensor_facts(runner.input),
        "output": tensor_facts(runner.output),
        "classes": runner.classes,
        "macs": costs.macs,
        "parameters": costs.parameters,
        "calibration": calibration_facts(calibration) if recipe.calibrated and calibration else None,
        "sha256": sha256_of(path),
        "size_bytes": os.path.getsize(path),
        "versions": {"fd_keras": version.__version__, **_versions(PACKAGES)},
    }


def tensor_facts(details: dict) -> dict:
    """Name, shape, type and quantization of an input or output, for use without an interpreter."""
    scale, zero_point = details["quantization"]
    return {
        "name": details["name"],
        "shape": [int(side) for side in details["shape"]],
        "dtype": details["dtype"].__name__,
        "scale": float(scale) or None,
        "zero_point": int(zero_point) if scale else None,
    }


def calibration_facts(calibration: Calibration) -> dict:
    """IDs of the calibration images, and a hash of their preprocessed pixels."""
    return {
        "count": len(calibration.ids),
        "ids": [printable(name) for name in calibration.ids],  # JSON cannot store names that are not valid text
        "sha256": hashlib.sha256(calibration.images.tobytes()).hexdigest(),
    }


def labels_facts(names: Sequence[str]) -> dict:
    """Number of the embedded class names, and a hash of them as lines."""
    text = "".join(f"{name}\n" for name in names)
    return {"count": len(names), "sha256": hashlib.sha256(text.encode()).hexdigest()}


def _versions(packages: Sequence[str]) -> dict[str, str]:
    return {package: importlib.metadata.version(package) for package in packages}
