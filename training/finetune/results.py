"""Results of a fine-tuning, for the report and the terminal."""

import dataclasses
from collections.abc import Sequence

import numpy as np

# Titles of candidates; those of baselines start with the first.
LINEAR_HEAD = "linear head"
ON_PIXELS = f"{LINEAR_HEAD} on the pixels"
FINE_TUNED = "fine-tuned"
FROM_SCRATCH = "trained from scratch"

EXPLANATIONS = {
    LINEAR_HEAD: "the pretrained network as it is, with a new last layer",
    ON_PIXELS: "no network, only a linear classifier of small images",
    FINE_TUNED: "all layers are trained on your photos, starting from the linear head",
    FROM_SCRATCH: "all layers are trained on your photos, starting from random weights",
}


@dataclasses.dataclass(frozen=True)
class Measured:
    """Predictions for photos that the network was not trained on.

    Attributes:
        paths: Paths of the photos.
        labels: Label of each photo, int64 of shape (photos,).
        probabilities: Predicted probabilities, float32 of shape (photos, classes).
    """

    paths: Sequence[str]
    labels: np.ndarray
    probabilities: np.ndarray

    @property
    def hits(self) -> int:
        """Number of photos whose class has the highest probability."""
        return int((self.probabilities.argmax(-1) == self.labels).sum())

    @property
    def top1(self) -> float:
        """Top-1 from 0 to 1."""
        return self.hits / len(self.labels)

    @property
    def cross_entropy(self) -> float:
        """Mean cross-entropy over the photos."""
        own = self.probabilities[np.arange(len(self.labels)), self.labels]
        return float(-np.log(np.maximum(own, 1e-7)).mean())


@dataclasses.dataclass(frozen=True)
class Candidate:
    """A trained candidate.

    Attributes:
        title: Title, such as "linear head" or "fine-tuned".
        measured: Predictions on the held-out photos.
        chosen: Whether this candidate was chosen.
        compared: The held-out photos it was compared with the others on, if `measured` has more (cross-validation).
    """

    title: str
    measured: Measured
    chosen: bool
    compared: Measured | None = None

    @property
    def on_held_out(self) -> Measured:
        """Predictions that are comparable with those of the other candidates."""
        return self.compared or self.measured


@dataclasses.dataclass(frozen=True)
class ClassCount:
    """Numbers of photos of a class.

    Attributes:
        name: Name of the class.
        train: Number of training photos.
        held_out: Number of held-out photos.
    """

    name: str
    train: int
    held_out: int


@dataclasses.dataclass(frozen=True)
class FileFacts:
    """Facts about a .tflite file.

    Attributes:
        path: Path of the file.
        recipe: Name of the recipe, such as "float32" or "int8".
        size_bytes: Size of the file in bytes.
        ram_bytes: Working memory on a microcontroller in bytes; None if it was not planned.
        agreement: Percentage of the held-out photos with the same class as from the Keras model.
        ties: Number of held-out photos with a tie for the first class.
        milliseconds: Median time per image on this machine with one thread.
        top1: Top-1 on the held-out photos from 0 to 1; None if it was not measured.
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
    """Results of a fine-tuning, as shown in the report.

    Attributes:
        name: Name of the model, used in the names of its files, such as "fd_mobilenet_0.25_224".
        network: Title of the network, such as "FD-MobileNet 0.25x".
        image_size: Side of the input image in pixels.
        photos: Folder of the photos.
        output_dir: Folder of the report and the files.
        counts: Numbers of photos by class, in label order.
        notes: Sentences about the photos (left out, duplicate, rotated, tiny, uneven).
        warnings: Sentences about limits of the result; usually none.
        candidates: Trained candidates; one is chosen.
        how_measured: How the chosen one was measured, such as "on 40 held-out photos".
        trained_on: Sentence about the photos that the files were trained on.
        keras_file: Path of the .keras file.
        files: Facts about the .tflite files.
        macs: Number of multiply-accumulates per image.
        parameters: Number of weights.
        settings: Training settings by name.
        command: Command that repeats the fine-tuning.
        next_commands: Pairs (purpose, command) of next steps, with real paths.
        versions: Package versions by name.
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
        """Chosen candidate."""
        return next(candidate for candidate in self.candidates if candidate.chosen)

    @property
    def linear_head(self) -> Candidate | None:
        """Linear head, or None if there is none."""
        return next((candidate for candidate in self.candidates if candidate.title.startswith(LINEAR_HEAD)), None)
