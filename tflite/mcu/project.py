"""Creates a TensorFlow Lite Micro (TFLM) project for a .tflite file from the templates beside this module."""

import importlib.resources
import os
from collections.abc import Sequence

import numpy as np

from fd_keras import imagenet
from fd_keras.io import printable
from fd_keras.litert import LiteRTError, Runner
from fd_keras.source_code import AtTemplate, cpp_numbers, cpp_text, listed
from fd_keras.tflite.format.flatbuffer import TFLiteFile, read
from fd_keras.tflite.format.network import FileNetwork
from fd_keras.tflite.mcu import reference
from fd_keras.tflite.memory import arrangement
from fd_keras.tflite.memory.arena import plan, tflm_bytes
from fd_keras.tflite.memory.byte_sizes import kib
from fd_keras.tflite.memory.c_array import c_array
from fd_keras.tflite.memory.scratch import CORTEX_M, ESP_NN, KernelLibrary

TOLERANCE = 8  # maximum difference of a score from LiteRT's, of 255 levels; vendors' kernels round differently
_RAW_PIXELS = {"uint8": 0, "int8": -128}  # zero points of an input of scale 1, by type
_MODEL = "model"  # name of the array's files and its namespace


class NetworkFile:
    """A .tflite file that takes camera frames.

    Args:
        path: Path of the file.

    Attributes:
        path: Path of the file.
        content: Tensors and operations of the file.
        runner: LiteRT runner of the file.

    Raises:
        LiteRTError: If the file cannot be run, its input or output is not an integer, it does not take raw pixels, or
            it is arranged for phones; the message has the fix.
    """

    def __init__(self, path: str):
        self.path, self.content, self.runner = path, read(path), Runner(path)
        for what, details in (("input", self.runner.input), ("output", self.runner.output)):
            if self._type(details) not in _RAW_PIXELS:
                raise LiteRTError(
                    f"{path}: its {what} is {self._type(details)}, but the project needs uint8 or int8; convert the "
                    "model with --recipes=int8 and --io=uint8."
                )
        if self.runner.input["quantization"] != (1.0, _RAW_PIXELS[self.input_type]):
            raise LiteRTError(f"{path}: does not take raw pixels; convert the model with --include_preprocessing.")
        if self.runner.input_shape[-1] not in (1, 3):
            raise LiteRTError(
                f"{path}: takes {self.runner.input_shape[-1]} channels, but cameras have 3, or 1 for gray."
            )
        if arrangement.is_for_phones(self.content.network):
            raise LiteRTError(f"{path}: {arrangement.ADVICE}.")

    @staticmethod
    def _type(details: dict) -> str:
        return np.dtype(details["dtype"]).name

    @property
    def input_type(self) -> str:
        """Type of the input: uint8 or int8."""
        return self._type(self.runner.input)

    def values(self, image: np.ndarray) -> np.ndarray:
        """Converts a uint8 image to the input type; for int8, 128 is subtracted."""
        return (image.astype("int16") + _RAW_PIXELS[self.input_type]).astype(self.input_type)


def _taps(frame: reference.TestFrame | tuple[int, int], shape: Sequence[int]) -> int:
    """Number of frame pixels, along one side, that the resize combines to one; `frame` may be (width, height)."""
    width, height = frame if isinstance(frame, tuple) else (frame.width, frame.height)
    covered = imagenet.resized_size(height, width, imagenet.resize_target(shape[:2]))
    return max(-(-2 * max(pair) // pair[1]) for pair in zip((height, width), covered, strict=True))


def project(
    file: NetworkFile, labels: Sequence[str], frame: reference.TestFrame, camera: tuple[int, int]
) -> dict[str, bytes]:
    """Creates the project's files.

    Args:
        file: File of the network.
        labels: Class names in label order.
        frame: Frame for the self-test.
        camera: Maximum (width, height) of camera frames.

    Returns:
        Contents of the files, by path in the project.
    """
    gaps = _network_gaps(file, labels) | _camera_gaps(file, frame, camera) | _test_gaps(file, frame)
    found = {name: AtTemplate(text).substitute(gaps) for name, text in sorted(templates().items())}
    found |= zip((f"classifier/{_MODEL}.h", f"classifier/{_MODEL}.cc"), c_array(file.path, _MODEL), strict=True)
    return {name: text.encode() for name, text in found.items()}


def templates() -> dict[str, str]:
    """Texts of the templates, by path in the project."""
    root = importlib.resources.files(__package__ or "") / "templates"
    with importlib.resources.as_file(root) as folder:
        paths = [path for path in folder.rglob("*") if path.is_file()]
        return {path.relative_to(folder).as_posix(): path.read_text("utf-8") for path in paths}


def _network_gaps(file: NetworkFile, labels: Sequence[str]) -> dict:
    height, width, channels = file.runner.input_shape
    scale, zero_point = file.runner.output["quantization"]
    network = file.content.network
    return {
        "file": printable(os.path.basename(file.path)),
        "width": width,
        "height": height,
        "channels": channels,
        "input_type": file.input_type,
        "input_zero_point": _RAW_PIXELS[file.input_type],
        "classes": file.runner.classes,
        "output_type": np.dtype(file.runner.output["dtype"]).name,
        "output_scale": repr(float(scale)),
        "output_zero_point": int(zero_point),
        "labels": listed([cpp_text(name) for name in labels]),
        "flash": kib(file.content.bytes),
        "ram": ram_note(file.content),
        "cmsis_nn_bytes": scratch_bytes(network, *CORTEX_M),
        "esp_nn_bytes": scratch_bytes(network, ESP_NN),
    }


def ram_note(content: TFLiteFile) -> str:
    """Formats the RAM of the arena with TFLM's own kernels and with those of the vendors."""
    network = content.network
    arena = plan(network).arena + tflm_bytes(network)
    arm, esp = (kib(arena + scratch_bytes(network, *kernels)) for kernels in (CORTEX_M, (ESP_NN,)))
    return f"about {kib(arena)} of RAM (up to {arm} with CMSIS-NN, depending on the core; {esp} with ESP-NN)"


def scratch_bytes(network: FileNetwork, *libraries: KernelLibrary) -> int:
    """Additional arena bytes for scratch memory, with the library that needs the most."""
    return max(0, *(plan(network, library).arena - plan(network).arena for library in libraries))


def _camera_gaps(file: NetworkFile, frame: reference.TestFrame, camera: tuple[int, int]) -> dict:
    shape = file.runner.input_shape
    height, width = imagenet.resize_target(shape[:2])
    return {
        "resize_width": width,
        "resize_height": height,
        "camera_width": camera[0],
        "camera_height": camera[1],
        "taps": max(_taps(camera, shape), _taps(frame, shape)),
    }


def _test_gaps(file: NetworkFile, frame: reference.TestFrame) -> dict:
    values = file.values(reference.image_of(frame, file.runner.input_shape))
    scores = reference.scores_of(file.path, values)
    return {
        "frame_width": frame.width,
        "frame_height": frame.height,
        "frame": cpp_numbers(frame.bytes),
        "pixels_hash": reference.fnv1a(values.tobytes()),
        "scores": cpp_numbers(scores.tolist()),
        "tolerance": TOLERANCE,
    }
