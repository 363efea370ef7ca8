"""Describes .tflite files for the camera page, and rejects files that it cannot run."""

import dataclasses
import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from fd_keras import class_names, imagenet, litert
from fd_keras.android_bench.models import ModelFile
from fd_keras.errors import ProgramError
from fd_keras.sidecar import read_sidecar, sidecar_path

_TYPES = ("float32", "uint8")  # tensor types that LiteRT.js supports
_DETECTOR_OUTPUTS = {"boxes", "scores", "labels", "count"}


@dataclasses.dataclass(frozen=True)
class PageModel:
    """A model on the page.

    Attributes:
        source: The .tflite file.
        facts: Facts for the page's script: input, output, class names, and conversion of scores to probabilities.
    """

    source: ModelFile
    facts: dict[str, Any]

    @property
    def address(self) -> str:
        """Address of the file on the page, which includes a hash of the content."""
        return f"models/{self.source.sha256[:16]}.tflite"

    def described(self) -> dict[str, Any]:
        """The model's entry in the page's `models.json`."""
        source = self.source
        return {
            "label": source.label,
            "file": self.address,
            "size_bytes": source.size_bytes,
            "sha256": source.sha256,
            **self.facts,
        }


def describe(source: ModelFile, labels: str | None = None) -> PageModel:
    """Describes a file for the page.

    Args:
        source: The .tflite file.
        labels: File with one class name per line, which replace the model's own names.

    Raises:
        LiteRTError: If the file is damaged.
        ProgramError: If it is neither a classifier nor a detector, or has types that LiteRT.js does not support.
        ValueError: If its class names or the .json beside it are invalid.
    """
    signatures = litert.load(source.path).get_signature_list()
    outputs = {name for signature in signatures.values() for name in signature["outputs"]}
    of_kind = _detector if outputs >= _DETECTOR_OUTPUTS else _classifier
    return PageModel(source, of_kind(str(source.path), labels))


def _classifier(path: str, labels: str | None) -> dict[str, Any]:
    from fd_keras import image_classifier  # loads Keras

    runner, model = litert.Runner(path), image_classifier.open_classifier(path)
    _check_types(path, runner.input["dtype"], runner.output["dtype"])
    return {
        "kind": "classifier",
        "input": _tensor(runner.input),
        "output": _tensor(runner.output),
        "resize": list(imagenet.resize_target(model.size[:2])),
        "rescaling": image_classifier.rescaling_of(runner),
        "head": model.head.name,
        "classes": _names(path, model.classes, labels),
    }


def _names(path: str, classes: int, labels: str | None) -> list[str]:
    names = class_names.names_of(path, classes, labels)
    if names is None and classes == imagenet.CLASSES:
        names = imagenet.class_names()
    return list(names or (f"class {number}" for number in range(classes)))


def _detector(path: str, labels: str | None) -> dict[str, Any]:
    details = litert.load(path).get_input_details()
    if len(details) != 1 or len(details[0]["shape"]) != 4 or details[0]["dtype"] is not np.float32:
        raise ProgramError(f"{path}: not a detector from `fd-keras detect convert`; its inputs differ")
    return {"kind": "detector", "input": _tensor(details[0]), "classes": _detector_names(path, labels)}


def _detector_names(path: str, labels: str | None) -> Sequence[str]:
    names = (read_sidecar(path) or {}).get("classes")
    if labels:
        given = class_names.read_lines(labels, f"--labels={labels}")
        if isinstance(names, list) and len(given) != len(names):
            raise ProgramError(f"--labels={labels}: has {len(given)} names, but {path} has {len(names)} classes")
        return given
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ProgramError(
            f"{path}: no class names found; keep {os.path.basename(sidecar_path(path))} beside it, or pass --labels"
        )
    return names


def _check_types(path: str, input_type: type, output_type: type) -> None:
    for what, dtype in (("input", input_type), ("output", output_type)):
        name = np.dtype(dtype).name
        if name not in _TYPES:
            raise ProgramError(
                f"{path}: its {what} is {name}, which LiteRT.js does not support; convert it with --io=uint8 or "
                "--io=float32"
            )


def _tensor(details: dict) -> dict[str, Any]:
    scale, zero_point = details["quantization"]
    return {
        "shape": [int(side) for side in details["shape"]],
        "dtype": np.dtype(details["dtype"]).name,
        "scale": float(scale),
        "zero_point": int(zero_point),
    }
