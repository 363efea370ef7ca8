"""The job that the program hands to the process that trains."""

import dataclasses
import functools
import pickle
from collections.abc import Mapping
from typing import Any

import numpy as np

from fd_keras.io import write_atomically
from fd_keras.tflite.int8.graph import Graph

HELD_OUT = 8  # every eighth image is not trained on, but decides which weights are kept


@dataclasses.dataclass(frozen=True)
class TrainingSettings:
    """How to train; the sidecar repeats it.

    Attributes:
        epochs: Passes over the images.
        batch_size: Images in a step.
        learning_rate: Learning rate of Adam at the start, in steps of the integer network; falls to zero along a half
            cosine.
        seed: Seed of the order and the mirroring.
    """

    epochs: int
    batch_size: int
    learning_rate: float
    seed: int


@dataclasses.dataclass(frozen=True)
class TrainingJob:
    """What to train and on what.

    Attributes:
        teacher: Float network, whose outputs are to be kept.
        student: Network to train, equalized and prepared; takes the same images.
        ranges: Ranges of the outputs of the student's nodes, by name.
        images_path: A .npy file of raw uint8 RGB, (count, height, width, 3).
        scale: Factor of raw pixels before both networks.
        offset: Offset that is added to them then.
        probe: A few images as both networks take them.
        expected: Outputs of the student for these, to check its twin by.
        training: How to train.
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
        """The file, left on disk."""
        return np.load(self.images_path, mmap_mode="r")

    @property
    def held_out(self) -> np.ndarray:
        """Indices of the images that are not trained on."""
        return np.arange(0, len(self.images), HELD_OUT)

    @property
    def trained_on(self) -> np.ndarray:
        """Indices of the others."""
        return np.setdiff1d(np.arange(len(self.images)), self.held_out)

    @property
    def steps(self) -> int:
        """Batches an epoch, the last one perhaps smaller."""
        return -(-len(self.trained_on) // self.training.batch_size)


def save(path: str, content: Any) -> None:
    """Writes for the other process, atomically."""
    write_atomically(path, pickle.dumps(content))


def load(path: str) -> Any:
    """Reads what the other process wrote. Never for files from elsewhere: a pickle can run code."""
    with open(path, "rb") as file:
        return pickle.load(file)
