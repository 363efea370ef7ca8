"""Which photos are trained on and which are held out: drawn once, written down, and read by every later step."""

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
    """Photos by the side that they are on.

    Attributes:
        classes: Class names in label order.
        train: Photos to train on, as (path, label).
        held_out: Photos that measured what was trained on the others.
        refit: Whether the network was trained once more in the end, on all photos: they cannot measure it then.
    """

    classes: tuple[str, ...]
    train: tuple[tuple[str, int], ...]
    held_out: tuple[tuple[str, int], ...]
    refit: bool = False

    def write(self, folder: str) -> None:
        """Writes it into a folder."""
        write_json(os.path.join(folder, FILE), dataclasses.asdict(self))


def read(folder: str) -> Split:
    """The split in a folder.

    Raises:
        FileNotFoundError: If there is none.
        ValueError: If it is damaged.
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
    """Draws the held-out photos, a share of every class; duplicates stay on one side.

    The draw is by a hash of the file names, so that photos added later leave nearly all others where they are.

    Args:
        found: The photos.
        groups: Number of the group of duplicates of each, from `duplicate_groups`.
        fraction: Share of every class to hold out, at least one photo and never all.

    Returns:
        Whether each photo is held out; bool of shape (photos,). A class of a single picture has none.
    """
    labels = np.array([photo.label for photo in found])
    counts = collections.Counter(labels.tolist())
    wanted = {label: max(1, round(fraction * count)) for label, count in counts.items()}
    members: dict[int, list[int]] = collections.defaultdict(list)
    for index, group in enumerate(groups.tolist()):
        members[group].append(index)
    held = np.zeros(len(found), bool)
    for group in sorted(members.values(), key=lambda group: _rank(found[group[0]].path)):
        label = int(labels[group[0]])
        # A picture that is in two classes measures nothing, and one that is most of its class has to be trained on.
        if len(group) <= wanted[label] and set(labels[group].tolist()) == {label} and len(group) < counts[label]:
            held[group] = True
            wanted[label] -= len(group)
    return held


def _rank(path: str) -> bytes:
    return hashlib.sha256(os.path.basename(path).encode(errors="surrogateescape")).digest()
