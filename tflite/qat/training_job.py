"""The job that the program passes to the training process."""

import dataclasses
import functools
import pickle
from collections.abc import Mapping
from typing import Any

import numpy as np

from fd_keras.io import write_atomically
from fd_keras.tflite.int8.graph import Graph

HELD_OUT = 8  # every eighth image is held out, to choose which weights to keep


@dataclasses.dataclass(frozen=True)
class TrainingSettings:
    """Training settings, which are also recorded in the sidecar.

    Attributes:
        epochs: Passes over the images.
        batch_size: Images per step.
        learning_rate: Initial learning rate of Adam, in quantization steps; decays to zero along a half cosine.
        seed: Seed of the order and the mirroring.
    """

    epochs: int
    batch_size: int
    learning_rate: float
    seed: int


@dataclasses.dataclass(frozen=True)
class TrainingJob:
    """The networks to train, and the training images.

    Attributes:
        teacher: Float network, whose outputs the student should match.
        student: Network to train, equalized and prepared; takes the same images.
        ranges: Ranges of the outputs of the student's nodes, by name.
        images_path: Path of a .npy file with raw uint8 RGB images, shape (count, height, width, 3).
        scale: Factor that is applied to raw pixels before both networks.
        offset: Offset that is then added to the pixels.
        probe: A few images in the input format of both networks.
        expected: Outputs of the student for `probe`, used to check its twin.
        training: Training settings.
    """

    teacher: Graph
    student: Graph
    ranges: Mapping[str, tuple[float, float]]
    images_path: str
    scale: np.ndarray
    offset: np.ndarray
    probe: np.ndarray
    expected: np.ndarray
    training: TrainingSettings

    @functools.cached_property
    def images(self) -> np.ndarray:
        """The images, memory-mapped."""
        return np.load(self.images_path, mmap_mode="r")

    @property
    def held_out(self) -> np.ndarray:
        """Indices of the held-out images."""
        return np.arange(0, len(self.images), HELD_OUT)

    @property
    def trained_on(self) -> np.ndarray:
        """Indices of the training images."""
        return np.setdiff1d(np.arange(len(self.images)), self.held_out)

    @property
    def steps(self) -> int:
        """Number of batches per epoch; the last may be smaller."""
        return -(-len(self.trained_on) // self.training.batch_size)


def save(path: str, content: Any) -> None:
    """Writes a file for the other process, atomically."""
    write_atomically(path, pickle.dumps(content))


def load(path: str) -> Any:
    """Reads a file from the other process. Never use it for untrusted files, since a pickle can run code."""
    with open(path, "rb") as file:
        return pickle.load(file)
