"""Splits photos into training and held-out ones; the split is drawn once and saved for all later steps."""

import collections
import dataclasses
import hashlib
import json
import os
from collections.abc import Sequence

import numpy as np

from fd_keras.io import read_bytes, write_json
from fd_keras.training.finetune.inspection import InspectedPhoto

FILE = "split.json"


@dataclasses.dataclass(frozen=True)
class Split:
    """Training and held-out photos.

    Attributes:
        classes: Class names in label order.
        train: Training photos as (path, label).
        held_out: Held-out photos as (path, label).
        refit: Whether the final network was trained on all photos, so that the held-out ones cannot measure it.
    """

    classes: tuple[str, ...]
    train: tuple[tuple[str, int], ...]
    held_out: tuple[tuple[str, int], ...]
    refit: bool = False

    def write(self, folder: str) -> None:
        """Writes the split to a folder."""
        write_json(os.path.join(folder, FILE), dataclasses.asdict(self))


def read(folder: str) -> Split:
    """Reads the split in a folder.

    Raises:
        FileNotFoundError: If the folder has no split.
        ValueError: If the split is damaged.
    """
    path = os.path.join(folder, FILE)
    try:
        content = json.loads(read_bytes(path))
        classes = tuple(map(str, content["classes"]))
        sides = [tuple((str(photo), int(label)) for photo, label in content[side]) for side in ("train", "held_out")]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: damaged ({error!r}); delete it to draw the held-out photos again.") from error
    if any(not 0 <= label < len(classes) for side in sides for _, label in side):
        raise ValueError(f"{path}: damaged (a label out of range); delete it to draw the held-out photos again.")
    return Split(classes, *sides, refit=content.get("refit") is True)


def hold_out(found: Sequence[InspectedPhoto], groups: np.ndarray, fraction: float) -> np.ndarray:
    """Draws the held-out photos, a share of each class; duplicates stay on one side.

    The draw is by a hash of the file names, so that adding photos moves almost none to the other side.

    Args:
        found: Photos to split.
        groups: Group of duplicates of each photo, from `duplicate_groups`.
        fraction: Share of each class to hold out; at least one photo, and never all.

    Returns:
        Whether each photo is held out, bool of shape (photos,). None of a class whose photos are all duplicates.
    """
    labels = np.array([photo.label for photo in found])
    counts = collections.Counter(labels.tolist())
    wanted = {label: min(count - 1, max(1, round(fraction * count))) for label, count in counts.items()}
    members: dict[int, list[int]] = collections.defaultdict(list)
    for index, group in enumerate(groups.tolist()):
        members[group].append(index)
    held = np.zeros(len(found), bool)
    for group in sorted(members.values(), key=lambda group: _rank(found[group[0]].path)):
        label = int(labels[group[0]])
        # Duplicates in two classes cannot be measured, and those that are most of their class are needed in training.
        if len(group) <= wanted[label] and set(labels[group].tolist()) == {label} and len(group) < counts[label]:
            held[group] = True
            wanted[label] -= len(group)
    return held


def _rank(path: str) -> bytes:
    return hashlib.sha256(os.path.basename(path).encode(errors="surrogateescape")).digest()
