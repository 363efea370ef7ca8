"""Runs .tflite files on this machine; needs `ai-edge-litert`, which is imported when used."""

import contextlib
import os
from collections.abc import Iterator

import numpy as np

from fd_keras.tflite_file import LiteRTError, interpreter_class, read_model

__all__ = ["LiteRTError", "Runner", "dequantize", "load", "quantize", "quiet", "read_weights"]


class Runner:
    """Runs a .tflite classifier: raw images in, float scores out, whatever the file's types.

    Args:
        path: Path of the file.
        threads: Number of threads.

    Attributes:
        input_shape: Shape of an image: (height, width, channels).
        input: The interpreter's details of the input: dtype, (scale, zero point), name.
        output: The interpreter's details of the output.

    Raises:
        LiteRTError: If the file is missing, damaged, or does not map one image to one vector.
        ImportError: If `ai-edge-litert` is not installed.
    """

    def __init__(self, path: str | os.PathLike, threads: int = 1):
        self.path = os.fspath(path)
        self._interpreter = load(self.path, threads)
        inputs, outputs = self._interpreter.get_input_details(), self._interpreter.get_output_details()
        if len(inputs) != 1 or len(outputs) != 1 or len(inputs[0]["shape"]) != 4 or len(outputs[0]["shape"]) != 2:
            raise LiteRTError(f"{self.path}: not a classifier; it must have one image input and one vector output.")
        if inputs[0]["shape"][0] != 1 or outputs[0]["shape"][0] != 1:
            raise LiteRTError(
                f"{self.path}: takes batches of {inputs[0]['shape'][0]} images; convert it for a batch size of 1."
            )
        self.input, self.output = inputs[0], outputs[0]
        self.input_shape = tuple(int(side) for side in self.input["shape"][1:])

    @property
    def classes(self) -> int:
        """Number of scores per image."""
        return int(self.output["shape"][1])

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Scores of shape (batch, classes), float32, for images of shape (batch, height, width, channels)."""
        return np.stack([self._one(image) for image in images])

    def _one(self, image: np.ndarray) -> np.ndarray:
        self._interpreter.set_tensor(self.input["index"], quantize(image[None], self.input))
        try:
            self._interpreter.invoke()
        except RuntimeError as error:
            raise LiteRTError(f"{self.path}: LiteRT cannot run it ({' '.join(str(error).split())}).") from error
        return dequantize(self._interpreter.get_tensor(self.output["index"])[0], self.output)


def load(path: str | os.PathLike, threads: int = 1, **options):
    """Creates an interpreter of a .tflite file, with tensors allocated.

    Args:
        path: Path of the file.
        threads: Number of threads.
        options: Further arguments of the interpreter's constructor.

    Raises:
        LiteRTError: If the file is missing or damaged.
        ImportError: If `ai-edge-litert` is not installed.
    """
    path = os.fspath(path)
    content, _ = read_model(path)
    try:
        with quiet():  # LiteRT logs the delegate that it creates
            interpreter = interpreter_class()(model_content=content, num_threads=threads, **options)
            interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise LiteRTError(f"{path}: LiteRT cannot load it ({reason}); convert it again.") from error
    return interpreter


def quantize(values: np.ndarray, details: dict) -> np.ndarray:
    """Converts real numbers to the type of a tensor with these details."""
    dtype, (scale, zero_point) = details["dtype"], details["quantization"]
    if not np.issubdtype(dtype, np.integer) or not scale:
        return values.astype(dtype)
    limits = np.iinfo(dtype)
    return np.clip(np.round(values / scale) + zero_point, limits.min, limits.max).astype(dtype)


def dequantize(values: np.ndarray, details: dict) -> np.ndarray:
    """Converts the values of a tensor with these details to real numbers, as float32."""
    scale, zero_point = details["quantization"]
    values = values.astype("float32")
    return (values - zero_point) * np.float32(scale) if scale else values


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Discards what native code prints on standard error (delegate notes, conversion logs) during the block."""
    saved = os.dup(2)
    with open(os.devnull, "wb") as sink:
        os.dup2(sink.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)


def read_weights(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """The tensors of a .tflite file whose names end in "weights" or "bias", by name.

    Raises:
        LiteRTError: If the file is missing or damaged.
        ImportError: If `ai-edge-litert` is not installed.
    """
    interpreter_class()  # raises ImportError with instructions if LiteRT is missing
    from ai_edge_litert.interpreter import OpResolverType

    # A delegate would move the weights out of reach.
    plain = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    interpreter = load(path, experimental_op_resolver_type=plain)
    found = interpreter.get_tensor_details()
    return {t["name"]: interpreter.get_tensor(t["index"]) for t in found if t["name"].endswith(("weights", "bias"))}
