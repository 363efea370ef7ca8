"""Prepares photos for training: inspects them, copies rotated and very large ones, and holds out a share."""

import collections
import dataclasses
import os
from collections.abc import Callable, Sequence

import numpy as np

from fd_keras.io import join, printable, shortened
from fd_keras.photos import UNDECODABLE, counted
from fd_keras.training.finetune import copies, plan, split
from fd_keras.training.finetune.inspection import InspectedPhoto, duplicate_groups, inspect
from fd_keras.training.finetune.photo_folder import PhotoFolder
from fd_keras.training.finetune.split import Split

COPIES = "photos"  # folder of the copies in the output folder
_UNEVEN = 3.0  # ratio of the largest to the smallest class from which on classes count as uneven
_LEAST = 2  # minimum number of photos per class


@dataclasses.dataclass(frozen=True)
class Prepared:
    """Photos that are ready for training.

    Attributes:
        split: Photos to read: the files themselves, or their upright copies.
        originals: Path of the user's file by path to read.
        given: Whether the user chose the held-out photos, so that they were not drawn.
        notes: Sentences about the photos.
    """

    split: Split
    originals: dict[str, str]
    given: bool
    notes: tuple[str, ...]


def prepare(
    folder: PhotoFolder, image_size: int, fraction: float | None, output_dir: str, say: Callable[[str], None]
) -> Prepared:
    """Inspects all photos, copies rotated and very large ones, and holds out a share of each class.

    Args:
        folder: Photos to prepare.
        image_size: Side of the network's input in pixels.
        fraction: Share of each class to hold out, unless the folder is already split; None for the plan's share.
        output_dir: Folder for the copies.
        say: Prints a line.

    Raises:
        ValueError: If a class has too few photos that can be decoded.
        OSError: If a copy cannot be written.
    """
    listed = [*folder.train, *(folder.held_out or ())]
    say(f"inspecting {len(listed)} photos of {len(folder.classes)} classes")
    inspected = inspect([path for path, _ in listed], [label for _, label in listed])
    fine = np.array([not photo.fault for photo in inspected])
    found = [photo for photo in inspected if not photo.fault]
    _check_decoded(inspected, folder.root, folder)
    groups = duplicate_groups(found)
    notes = [*folder.notes, *_notes(inspected, found, groups, folder, image_size)]
    if folder.held_out is None:
        is_held = _drawn(found, groups, folder, fraction)
    else:
        _check_decoded(inspected[len(folder.train) :], folder.roots[-1], folder)
        is_held = (np.arange(len(listed)) >= len(folder.train))[fine]
        leaked = ~is_held & np.isin(groups, groups[is_held])
        _check_leaks(_where(found, ~is_held), _where(found, leaked), folder)
        notes += _leaks(_names(_where(found, leaked), folder))
        found, is_held = _where(found, ~leaked), is_held[~leaked]
        _check_counts(_where(found, ~is_held), folder, 1)
    notes += _unmeasured(_where(found, is_held), folder)
    paths = copies.paths_of(found, folder.classes, image_size, join(os.path.abspath(output_dir), COPIES))
    return _prepared(folder, found, paths, is_held, notes)


def _check_decoded(inspected: Sequence[InspectedPhoto], root: str, folder: PhotoFolder) -> None:
    """Raises ValueError if none of the photos can be decoded; `root` is the folder that contains them."""
    if all(photo.fault for photo in inspected):
        names = shortened(_names(inspected, folder))
        raise ValueError(f"{root}: no photo can be decoded; replace them, such as {names}.")


def _drawn(
    found: Sequence[InspectedPhoto], groups: np.ndarray, folder: PhotoFolder, fraction: float | None
) -> np.ndarray:
    """Draws the held-out photos, see `split.hold_out`; raises ValueError if there are too few photos."""
    _check_counts(found, folder, _LEAST)
    is_held = split.hold_out(found, groups, fraction or plan.held_out_share(len(found)))
    if not is_held.any():
        raise ValueError(f"{folder.root}: no photo can be held out; each class needs at least two different photos.")
    return is_held


def _where(found: Sequence[InspectedPhoto], chosen: np.ndarray) -> list[InspectedPhoto]:
    return [photo for photo, is_chosen in zip(found, chosen, strict=True) if is_chosen]


def _prepared(
    folder: PhotoFolder,
    found: Sequence[InspectedPhoto],
    paths: Sequence[str],
    is_held: np.ndarray,
    notes: Sequence[str],
) -> Prepared:
    labeled = [(path, photo.label) for path, photo in zip(paths, found, strict=True)]
    train, held_out = (
        tuple(photo for photo, held in zip(labeled, is_held, strict=True) if held == side) for side in (False, True)
    )
    originals = {path: photo.path for path, photo in zip(paths, found, strict=True)}
    return Prepared(Split(folder.classes, train, held_out), originals, folder.held_out is not None, tuple(notes))


def _check_counts(found: Sequence[InspectedPhoto], folder: PhotoFolder, least: int) -> None:
    """Raises ValueError if a class has fewer photos than `least`."""
    counts = collections.Counter(photo.label for photo in found)
    for label, name in enumerate(folder.classes):
        if counts[label] < least:
            raise ValueError(
                f"{folder.root}: class {printable(name)!r} has {counts[label]} usable training photos; add photos (at "
                f"least {least}, about 50 are recommended)."
            )


def _check_leaks(train: Sequence[InspectedPhoto], leaked: Sequence[InspectedPhoto], folder: PhotoFolder) -> None:
    """Raises ValueError if all training photos of a class duplicate held-out ones."""
    counts, lost = (collections.Counter(photo.label for photo in side) for side in (train, leaked))
    for label, name in enumerate(folder.classes):
        if 0 < counts[label] == lost[label]:
            side = os.path.basename(folder.roots[-1])
            raise ValueError(
                f"{folder.root}: all {lost[label]} training photos of {printable(name)!r} are also in {side}/; remove "
                "them from one of the two folders, or add other training photos."
            )


def _notes(
    looked_at: Sequence[InspectedPhoto],
    found: Sequence[InspectedPhoto],
    groups: np.ndarray,
    folder: PhotoFolder,
    image_size: int,
) -> list[str]:
    """Returns sentences about unusual photos and classes."""
    broken = [photo for photo in looked_at if photo.fault]
    tiny = [photo for photo in found if min(photo.width, photo.height) < image_size / 2]
    rotated = [photo for photo in found if photo.rotated]
    notes = []
    if broken:
        notes.append(f"Skipped {counted(UNDECODABLE, _names(broken, folder))}.")
    if tiny:
        text = f"Photos smaller than half of the network's {image_size} pixels"
        notes.append(f"{counted(text, _names(tiny, folder))}; they are used, but larger ones would help more.")
    if rotated:
        text = counted("Photos stored rotated or mirrored", _names(rotated, folder))
        notes.append(f"{text}; upright copies are used.")
    return [*notes, *_duplicates(found, groups, folder), *_imbalance(found, folder)]


def _duplicates(found: Sequence[InspectedPhoto], groups: np.ndarray, folder: PhotoFolder) -> list[str]:
    members: dict[int, list[InspectedPhoto]] = collections.defaultdict(list)
    for photo, group in zip(found, groups.tolist(), strict=True):
        members[group].append(photo)
    same = [group for group in members.values() if len(group) > 1]
    across = [group for group in same if len({photo.label for photo in group}) > 1]
    notes = []
    if same:
        extra, names = sum(len(group) - 1 for group in same), _names(same[0], folder)
        notes.append(
            f"Duplicates of other photos: {extra}, such as {names[1]} of {names[0]}; they stay on the same side of the "
            "split."
        )
    if across:
        names = shortened(_names(across[0], folder))
        notes.append(f"Duplicates in several classes: {len(across)}, such as {names}; remove wrong ones.")
    return notes


def _imbalance(found: Sequence[InspectedPhoto], folder: PhotoFolder) -> list[str]:
    counts = collections.Counter(photo.label for photo in found)
    (most, many), (least, few) = counts.most_common()[0], counts.most_common()[-1]
    if many < _UNEVEN * few:
        return []
    names = [printable(folder.classes[label]) for label in (most, least)]
    return [
        f"Classes are uneven: {many} photos of {names[0]}, {few} of {names[1]}. Add photos of the rare classes; "
        "--class_balance=0.5 gives them more weight."
    ]


def _leaks(dropped: Sequence[str]) -> list[str]:
    return [f"Skipped {counted('training photos that duplicate held-out ones', dropped)}."] if dropped else []


def _unmeasured(held_out: Sequence[InspectedPhoto], folder: PhotoFolder) -> list[str]:
    measured = {photo.label for photo in held_out}
    names = [printable(name) for label, name in enumerate(folder.classes) if label not in measured]
    return [f"Classes without held-out photos, which are not measured: {', '.join(names)}."] if names else []


def _names(found: Sequence[InspectedPhoto], folder: PhotoFolder) -> list[str]:
    """Paths of photos relative to the folder, as for the other skipped files."""
    return [os.path.relpath(photo.path, folder.root) for photo in found]
