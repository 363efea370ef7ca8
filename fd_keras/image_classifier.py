"""Classifiers from .keras and .tflite files: raw images in, probabilities out, whatever the file's types and head."""

import dataclasses
import os
from collections.abc import Callable

import keras
import numpy as np

from fd_keras import imagenet
from fd_keras.head import Head, keras_head, tflite_head
from fd_keras.litert import Runner
from fd_keras.saved import load_model
from fd_keras.sidecar import read_sidecar

Classifier = Callable[[np.ndarray], np.ndarray]  # raw images (batch, height, width, channels) -> (batch, outputs)

_ROUNDING = 1e-3  # a probability may be this far below 0 or above 1


@dataclasses.dataclass(frozen=True)
class ImageClassifier:
    """A classifier.

    Attributes:
        name: Path of the file, or name of the network, for messages.
        size: (height, width, channels) of the image; 1 channel is gray, 3 are RGB.
        outputs: Number of outputs; a single output is the probability of class 1 of two.
        head: Kind of the outputs.
        scores: Function from raw images to outputs.
    """

    name: str
    size: tuple[int, ...]
    outputs: int
    head: Head
    scores: Classifier

    def __post_init__(self):
        if self.outputs == 1 and self.head.name != "scores":
            raise ValueError(f"{self.name}: not a classifier; its only output is not a probability (no sigmoid).")
        if self.size[2] not in (1, 3):
            raise ValueError(
                f"{self.name}: takes images with {self.size[2]} channels, but photos are read as gray (1) or RGB (3)."
            )

    @property
    def classes(self) -> int:
        """Number of classes."""
        return max(self.outputs, 2)

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Probabilities, float32 of shape (batch, classes), for raw images (batch, height, width, channels)."""
        return probabilities(self.scores(images), self.head)


def probabilities(scores: np.ndarray, head: Head) -> np.ndarray:
    """Converts the outputs of a network to probabilities of shape (batch, classes).

    A single output is the probability of the second of two classes. Logits, and rows with values outside 0..1, go
    through a softmax, which also converts log probabilities to probabilities.
    """
    if scores.shape[1] == 1:
        return np.concatenate([1 - scores, scores], axis=1)
    beyond = (scores.min(axis=1) < -_ROUNDING) | (scores.max(axis=1) > 1 + _ROUNDING) | (head.name == "logits")
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    return np.where(beyond[:, None], powers / powers.sum(axis=1, keepdims=True), scores)


def open_classifier(path: str, threads: int = 1, few: bool = False) -> ImageClassifier:
    """Loads a classifier.

    Args:
        path: Path of a .keras or .tflite file. The .json beside it records whether the model normalizes images
            by itself; without a .json, see `rescaling_of` for .tflite files; .keras files do.
        threads: Number of threads of LiteRT.
        few: Whether only a few images will be classified, see `of_model`.

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: If it is damaged or not a classifier of one image.
        ImportError: If it is a .tflite file and `ai-edge-litert` is not installed.
    """
    if not os.path.isfile(path):
        raise FileNotFoundError(f"{path}: no such file.")
    if path.endswith(".tflite"):
        runner = Runner(path, threads)
        return ImageClassifier(path, runner.input_shape, runner.classes, tflite_head(path), tflite_classifier(runner))
    return of_model(load_model(path), path, takes_raw_images(path), few)


def of_model(model: keras.Model, name: str, include_preprocessing: bool = True, few: bool = False) -> ImageClassifier:
    """Makes a classifier of a Keras model.

    Args:
        model: The model. If it takes images of any size, it gets 224 pixels, as ImageNet's networks do.
        name: Name of the model in messages.
        include_preprocessing: Whether the model normalizes images by itself.
        few: Whether only a few images will be classified; tracing a graph would take longer than running them.

    Raises:
        ValueError: If the model is not a classifier of one image.
    """
    check_form(model, name)
    height, width, channels = (side or imagenet.SIZE for side in model.input_shape[1:])
    run = (lambda images: np.asarray(model(images, training=False))) if few else keras_classifier(model)

    def scores(images: np.ndarray) -> np.ndarray:
        return run(np.asarray(imagenet.preprocess_input(images.astype("float32"), include_preprocessing)))

    return ImageClassifier(name, (height, width, channels), model.output_shape[1], keras_head(model), scores)


def check_form(model: keras.Model, name: str) -> None:
    """Raises ValueError, with the model's name, unless it maps one image to one vector."""
    inputs, outputs = ([tuple(tensor.shape) for tensor in tensors] for tensors in (model.inputs, model.outputs))
    if [len(shape) for shape in inputs] != [4] or [len(shape) for shape in outputs] != [2] or outputs[0][1] is None:
        raise ValueError(
            f"{name}: not a classifier of one image; its inputs have shape {_shown(inputs)}, its outputs "
            f"{_shown(outputs)}."
        )


def _shown(shapes: list[tuple]) -> str:
    return ", ".join(map(str, shapes))


def takes_raw_images(path: str) -> bool:
    """Whether a model normalizes images by itself, according to the .json beside it; without one, it does."""
    return (read_sidecar(path) or {}).get("include_preprocessing", True)


def keras_classifier(model: keras.Model) -> Classifier:
    """Makes a classifier of a Keras model that takes raw images."""
    return lambda images: np.asarray(model.predict_on_batch(images.astype("float32")))


def rescaling_of(runner: Runner) -> dict[str, list[float]] | None:
    """Returns the scale and offset per channel from raw pixels to a .tflite file's input; None if it takes raw pixels.

    The .json beside the file records whether it normalizes images. Without one, an 8-bit input that stands for a small
    range such as 0..1 or -1..1 takes the pixels' bytes, as usual for files of TensorFlow's converter.
    """
    channels = runner.input_shape[-1]
    if read_sidecar(runner.path):
        return None if takes_raw_images(runner.path) else imagenet.rescaling(channels)
    dtype, (step, zero_point) = runner.input["dtype"], runner.input["quantization"]
    if dtype not in (np.uint8, np.int8) or not 0 < 255 * step < 128:
        return None
    return {"scale": [step] * channels, "offset": [(int(np.iinfo(dtype).min) - zero_point) * step] * channels}


def tflite_classifier(runner: Runner) -> Classifier:
    """Makes a classifier of a .tflite file that takes raw images."""
    rescaling = rescaling_of(runner)
    if rescaling is None:
        return lambda images: runner(images.astype("float32"))
    scale, offset = (np.asarray(values, "float32") for values in rescaling.values())
    return lambda images: runner(images.astype("float32") * scale + offset)
