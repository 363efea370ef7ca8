"""Reads and validates the .json beside a .tflite file, which users and other programs may also write."""

import json
import os
from typing import Any

MAX_BYTES = 2**24  # room for the names of 100,000 calibration images

_NUMBER = (int, float)
_TYPES: dict[str, tuple[type, ...]] = {  # types of the fields that programs use; null means unknown
    "alpha": _NUMBER,
    "arch": (str,),
    "calibration": (dict,),
    "groups": (int,),
    "include_preprocessing": (bool,),
    "input": (dict,),
    "keras_model": (str,),
    "recipe_steps": (dict,),
    "sha256": (str,),
    "size": (list,),
    "stem_multiplier": _NUMBER,
    "weights": (str,),
    "weights_sha256": (str,),
}
_WORDS = {
    bool: "true or false",
    dict: "an object",
    float: "a number",
    int: "an integer",
    list: "a list of integers",
    str: "a string",
}


def sidecar_path(tflite_path: str) -> str:
    """Path of the description of a .tflite or .keras file: in the same folder, with the same name."""
    return os.path.splitext(tflite_path)[0] + ".json"


def read_sidecar(tflite_path: str) -> dict | None:
    """Reads the description beside a .tflite file; None if there is none.

    Raises:
        ValueError: If it is not a JSON object with fields of the right types; the message has the file and field.
        OSError: If it cannot be read.
    """
    path = sidecar_path(tflite_path)
    if not os.path.exists(path):
        return None
    content = _json(path)
    if not isinstance(content, dict):
        raise ValueError(f"{path}: not a JSON object; convert the model again, or delete this file.")
    for key, types in _TYPES.items():
        if key in content:
            check_field(path, key, content[key], types)
    names = content.get("class_names")
    if names is not None and not (isinstance(names, list) and all(isinstance(name, str) for name in names)):
        raise ValueError(
            f"{path}: 'class_names' is not a list of strings; convert the model again, or delete this file."
        )
    return content


def check_field(path: str, name: str, value: Any, types: tuple[type, ...]) -> None:
    """Raises ValueError with the file and the field, unless the value has one of the types.

    Null is allowed for all types except bool, since programs could not distinguish it from false.
    """
    fits = isinstance(value, types) if bool in types else value is None or type(value) in types
    if isinstance(value, list):
        fits = fits and all(type(item) is int for item in value)
    if not fits:
        raise ValueError(f"{path}: {name!r} is not {_WORDS[types[-1]]}; convert the model again, or delete this file.")


def _json(path: str) -> Any:
    if os.path.getsize(path) > MAX_BYTES:
        raise ValueError(f"{path}: larger than {MAX_BYTES >> 20} MiB, so not a model description; delete this file.")
    try:
        with open(path, encoding="utf-8") as file:
            return json.load(file)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not valid JSON ({error}); convert the model again, or delete this file.") from error
