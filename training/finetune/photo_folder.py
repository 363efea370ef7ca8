"""A folder of the user's photos: classes, training and held-out photos, and notes about files that were left out."""

import dataclasses
import os
from collections.abc import Sequence

import numpy as np

from fd_keras import photos
from fd_keras.io import join, list_entries, printable, shortened

TRAIN = ("train", "training")
HELD_OUT = ("val", "valid", "validation", "test")  # the first that exists is used
_BESIDE = "folders beside the training photos"

Labeled = tuple[str, int]  # path and label of a photo


@dataclasses.dataclass(frozen=True)
class PhotoFolder:
    """Photos in a folder.

    Attributes:
        root: Path of the folder.
        classes: Class names in label order.
        train: Training photos; all photos if the folder is not split.
        held_out: Held-out photos; None if the folder is not split.
        notes: Sentences about files that were left out.
        roots: Folders that contain the class folders.
    """

    root: str
    classes: tuple[str, ...]
    train: tuple[Labeled, ...]
    held_out: tuple[Labeled, ...] | None
    notes: tuple[str, ...]
    roots: tuple[str, ...]


def open_folder(root: str) -> PhotoFolder:
    """Lists the photos of a folder with one subfolder per class, or with train/ and val/ that contain such subfolders.

    Raises:
        FileNotFoundError: If the folder does not exist.
        ValueError: If fewer than two classes have photos, a name is not printable, or val/ has a class that train/
            lacks.
    """
    root = os.path.abspath(os.path.expanduser(root))
    if not os.path.isdir(root):
        fault = "not a folder" if os.path.exists(root) else "no such folder"
        raise FileNotFoundError(f"{root}: {fault}. Pass a folder with one subfolder of photos per class.")
    left_out = photos.LeftOut()
    train, sides = side_folders(root)
    if train is None:
        listing, held_out, notes = photos.list_classes(root, left_out), None, []
    else:
        listing, held_out, notes = _sides(root, train, sides, left_out)
    classes = tuple(listing)
    if len(classes) < 2:
        raise ValueError(f"{root}: need at least 2 class folders, found 1 ({shortened(classes)}).")
    for name in classes:
        if not name.isprintable():  # names are written to files with one per line
            raise ValueError(f"{root}: the class folder '{printable(name)}' is not printable text; rename it.")
    if str(left_out):
        notes.append(f"Skipped {left_out}.")
    at = root if train is None else join(root, train)
    roots = (at, join(root, sides[0])) if sides else (at,)
    return PhotoFolder(root, classes, _labeled(at, listing, classes), held_out, tuple(notes), roots)


def side_folders(root: str) -> tuple[str | None, list[str]]:
    """Returns the names of the training folder and of the held-out folders in a folder; (None, []) without them.

    Raises:
        ValueError: If there are held-out folders, but no training folder.
    """
    folders = {name.lower(): name for name in list_entries(root)[0] if photos.holds_classes(join(root, name))}
    train = next((folders[name] for name in TRAIN if name in folders), None)
    held_out = [folders[name] for name in HELD_OUT if name in folders]
    if held_out and train is None:
        raise ValueError(
            f"{root}: found {held_out[0]}/ but no train/; sort the other photos into train/CLASS/, or pass "
            f"{join(root, held_out[0])}."
        )
    return train, held_out


def _sides(root: str, train: str, sides: Sequence[str], left_out: photos.LeftOut):
    """Returns the listing of train/, the photos of the first held-out folder, and notes about the others."""
    listing = photos.list_classes(join(root, train), left_out)
    note_unused(root, (train, *sides), left_out)
    if not sides:
        return listing, None, []
    held_out = photos.list_classes(join(root, sides[0]), left_out)
    strange = sorted(set(held_out) - set(listing))
    if strange:
        raise ValueError(
            f"{join(root, sides[0])}: class '{printable(strange[0])}' is not in {join(root, train)}; rename or add it."
        )
    notes = [f"The photos in {name}/ were not used; {sides[0]}/ is held out." for name in sides[1:]]
    return listing, _labeled(join(root, sides[0]), held_out, tuple(listing)), notes


def note_unused(root: str, used: Sequence[str], left_out: photos.LeftOut) -> None:
    """Notes what is in a folder beside train/ and the held-out folders."""
    folders, files, others = list_entries(root)
    for name in folders:
        if name not in used and not photos.is_hidden(name):
            left_out.note(_BESIDE, f"{name}/")
    for name in (*files, *others):
        if not photos.is_hidden(name):
            left_out.note(photos.why_not(name) or (photos.OUTSIDE if name in files else photos.NOT_FILES), name)


def labels_of(photos: Sequence[Labeled]) -> np.ndarray:
    """Returns the labels of photos, int64 of shape (photos,)."""
    return np.array([label for _, label in photos], "int64")


def _labeled(root: str, listing: dict[str, list[str]], classes: Sequence[str]) -> tuple[Labeled, ...]:
    numbers = {name: label for label, name in enumerate(classes)}
    return tuple((join(root, photo), numbers[name]) for name, found in listing.items() for photo in found)
