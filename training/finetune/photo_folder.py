"""A folder of photos of one's own: its classes, the photos on each side of a given split, and what was left out."""

import dataclasses
import os
from collections.abc import Sequence

import numpy as np

from fd_keras import photos
from fd_keras.io import join, list_entries, printable

TRAIN = ("train", "training")
HELD_OUT = ("val", "valid", "validation", "test")  # the first that is there is taken

Labeled = tuple[str, int]  # path and label of a photo


@dataclasses.dataclass(frozen=True)
class PhotoFolder:
    """Photos of classes.

    Attributes:
        root: The folder.
        classes: Class names in label order.
        train: Photos to train on, or all photos if the folder has no sides.
        held_out: Photos that only measure, None if the folder has no sides.
        notes: What was left out and why, a sentence each.
    """

    root: str
    classes: tuple[str, ...]
    train: tuple[Labeled, ...]
    held_out: tuple[Labeled, ...] | None
    notes: tuple[str, ...]


def open_folder(root: str) -> PhotoFolder:
    """Lists the photos of a folder that has a folder for each class, or train/ and val/ with such folders.

    Raises:
        FileNotFoundError: If there is no such folder.
        ValueError: If it has not at least two classes with photos, or val/ has a class that train/ has not.
    """
    root = os.path.abspath(os.path.expanduser(root))
    if not os.path.isdir(root):
        raise FileNotFoundError(f"{root}: no such folder. Pass a folder that has one folder of photos for each class.")
    left_out = photos.LeftOut()
    train, sides = side_folders(root)
    if train is None:
        listing, held_out, notes = photos.list_classes(root, left_out), None, []
    else:
        listing, held_out, notes = _sides(root, train, sides, left_out)
    classes = tuple(listing)
    if len(classes) < 2:
        raise ValueError(f"{root}: need at least 2 class folders, found {printable(', '.join(classes))}.")
    for name in classes:
        if not name.isprintable():  # it goes into lists of one name a line
            raise ValueError(f"{root}: the class folder '{printable(name)}' is not printable text; rename it.")
    if str(left_out):
        notes.append(f"Skipped {left_out}.")
    at = root if train is None else join(root, train)
    return PhotoFolder(root, classes, _labeled(at, listing, classes), held_out, tuple(notes))


def side_folders(root: str) -> tuple[str | None, list[str]]:
    """Names of the folder to train on and of those to measure on, if a folder has such; None and [] otherwise."""
    folders = {name.lower(): name for name in list_entries(root)[0] if photos.holds_classes(join(root, name))}
    train = next((folders[name] for name in TRAIN if name in folders), None)
    return train, [folders[name] for name in HELD_OUT if name in folders] if train else []


def _sides(root: str, train: str, sides: Sequence[str], left_out: photos.LeftOut):
    """The listing of train/, the photos of the first of the other sides, and notes about the rest."""
    listing = photos.list_classes(join(root, train), left_out)
    if not sides:
        return listing, None, []
    held_out = photos.list_classes(join(root, sides[0]), left_out)
    strange = sorted(set(held_out) - set(listing))
    if strange:
        raise ValueError(
            f"{join(root, sides[0])}: class '{printable(strange[0])}' is not among those of {join(root, train)}."
        )
    notes = [f"The photos in {name}/ were not used: {sides[0]}/ measures." for name in sides[1:]]
    return listing, _labeled(join(root, sides[0]), held_out, tuple(listing)), notes


def labels_of(photos: Sequence[Labeled]) -> np.ndarray:
    """The labels of photos, int64 of shape (photos,)."""
    return np.array([label for _, label in photos], "int64")


def _labeled(root: str, listing: dict[str, list[str]], classes: Sequence[str]) -> tuple[Labeled, ...]:
    numbers = {name: label for label, name in enumerate(classes)}
    return tuple((join(root, photo), numbers[name]) for name, found in listing.items() for photo in found)
