"""The results of a fine-tuning, as the page and the terminal show them."""

import dataclasses
from collections.abc import Sequence

import numpy as np

LINEAR_HEAD = "linear head"  # how the title of the candidate begins that every other one has to beat


@dataclasses.dataclass(frozen=True)
class Measured:
    """Answers for photos that the network was not trained on.

    Attributes:
        paths: Paths of the photos.
        labels: Label of each photo, int64 of shape (photos,).
        probabilities: Probability of each class, float32 of shape (photos, classes).
    """

    paths: Sequence[str]
    labels: np.ndarray
    probabilities: np.ndarray

    @property
    def hits(self) -> int:
        """Number of photos whose class came first."""
        return int((self.probabilities.argmax(-1) == self.labels).sum())

    @property
    def top1(self) -> float:
        """Share of the photos whose class came first, of 1."""
        return self.hits / len(self.labels)

    @property
    def cross_entropy(self) -> float:
        """Mean cross-entropy of the photos."""
        own = self.probabilities[np.arange(len(self.labels)), self.labels]
        return float(-np.log(np.maximum(own, 1e-7)).mean())


@dataclasses.dataclass(frozen=True)
class Candidate:
    """A way of training that was tried.

    Attributes:
        title: What it is, such as "linear head" or "fine-tuned".
        measured: Its answers on the held-out photos.
        chosen: Whether it is the one that was kept.
    """

    title: str
    measured: Measured
    chosen: bool


@dataclasses.dataclass(frozen=True)
class ClassCount:
    """Photos of a class.

    Attributes:
        name: Name of the class.
        train: Number of photos to train on.
        held_out: Number of photos that measure.
    """

    name: str
    train: int
    held_out: int


@dataclasses.dataclass(frozen=True)
class FileFacts:
    """A .tflite file.

    Attributes:
        path: Path of the file.
        recipe: "float32" or "int8".
        size_bytes: Its size.
        ram_bytes: Working memory on a microcontroller, if that was planned.
        agreement: Percent of the held-out photos on which it names the class that the Keras model names.
        ties: Number of held-out photos for which several classes come first.
        milliseconds: Median time of an image on this machine, one thread.
        top1: Share of the held-out photos whose class came first, of 1, if that was measured.
    """

    path: str
    recipe: str
    size_bytes: int
    ram_bytes: int | None
    agreement: float
    ties: int
    milliseconds: float
    top1: float | None = None


@dataclasses.dataclass(frozen=True)
class FinetuneResults:
    """Everything that the page shows.

    Attributes:
        name: Name of the model, which its files share, such as "fd_mobilenet_0.25_224".
        network: Name of the network for people, such as "FD-MobileNet 0.25x".
        image_size: Side of its image in pixels.
        photos: Folder that the photos came from.
        output_dir: Folder of the page and the files.
        counts: Photos by class, in label order.
        notes: What was found in the photos (left out and why, duplicates, rotated, tiny, uneven), a sentence each.
        warnings: What to know before trusting the result, a sentence each; most often none.
        candidates: What was tried; one is chosen.
        how_measured: How the chosen one was measured, such as "on 40 photos that it was not trained on".
        trained_on: What the files were trained on in the end, a sentence.
        keras_file: Path of the .keras file.
        files: The .tflite files.
        macs: Multiply-accumulates of an image.
        parameters: Number of weights.
        settings: How it was trained, in words and values, to be shown as a table.
        command: Command that repeats it.
        next_commands: Pairs (what for, command) to go on with, with real paths.
        versions: Versions of the packages, by name.
    """

    name: str
    network: str
    image_size: int
    photos: str
    output_dir: str
    counts: Sequence[ClassCount]
    notes: Sequence[str]
    warnings: Sequence[str]
    candidates: Sequence[Candidate]
    how_measured: str
    trained_on: str
    keras_file: str
    files: Sequence[FileFacts]
    macs: int
    parameters: int
    settings: dict[str, str]
    command: str
    next_commands: Sequence[tuple[str, str]]
    versions: dict[str, str]

    @property
    def chosen(self) -> Candidate:
        """What was kept."""
        return next(candidate for candidate in self.candidates if candidate.chosen)

    @property
    def linear_head(self) -> Candidate | None:
        """The linear head alone, if it was tried."""
        return next((candidate for candidate in self.candidates if candidate.title.startswith(LINEAR_HEAD)), None)
