"""From a folder of photos to those that are trained on and those that are held out, and what to know of them."""

import collections
import dataclasses
import os
from collections.abc import Callable, Sequence

import numpy as np

from fd_keras.io import join, printable
from fd_keras.training.finetune import copies, split
from fd_keras.training.finetune.inspection import InspectedPhoto, duplicate_groups, inspect
from fd_keras.training.finetune.photo_folder import PhotoFolder
from fd_keras.training.finetune.split import Split

COPIES = "photos"  # folder of the copies, in the output folder
_SHOWN = 3  # photos that are named in a note
_UNEVEN = 3.0  # from this ratio of the largest class to the smallest one on, classes count as uneven
_LEAST = 2  # photos a class


@dataclasses.dataclass(frozen=True)
class Prepared:
    """Photos that are ready for training.

    Attributes:
        split: The photos that are read: the files themselves, or their upright copies.
        originals: Path of the file of each photo that is read.
        given: Whether the held-out photos were given, not drawn.
        notes: What was found, a sentence each.
    """

    split: Split
    originals: dict[str, str]
    given: bool
    notes: tuple[str, ...]


def prepare(
    folder: PhotoFolder, image_size: int, fraction: float, output_dir: str, say: Callable[[str], None]
) -> Prepared:
    """Looks at all photos, makes copies of those that need it, and holds out a share of every class.

    Args:
        folder: The photos.
        image_size: Side of the network's image.
        fraction: Share of every class to hold out, unless the folder has held-out photos of its own.
        output_dir: Folder for split.json and the copies.
        say: Prints a line.

    Raises:
        ValueError: If a class has too few photos that can be decoded.
        OSError: If a copy cannot be written.
    """
    listed = [*folder.train, *(folder.held_out or ())]
    say(f"looking at {len(listed)} photos of {len(folder.classes)} classes")
    looked_at = inspect([path for path, _ in listed], [label for _, label in listed])
    is_held = np.arange(len(listed)) >= len(folder.train)
    fine = [index for index, photo in enumerate(looked_at) if not photo.fault]
    found, is_held = [looked_at[index] for index in fine], is_held[fine]
    _check_counts(found, is_held, folder)
    groups = duplicate_groups(found)
    notes = [*folder.notes, *_notes(looked_at, found, groups, folder, image_size)]
    if folder.held_out is None:
        is_held = split.hold_out(found, groups, fraction)
    else:
        is_dropped = ~is_held & np.isin(groups, groups[is_held])
        notes += _leaks([photo for photo, dropped in zip(found, is_dropped, strict=True) if dropped])
        found, is_held = [found[index] for index in np.flatnonzero(~is_dropped)], is_held[~is_dropped]
        _check_counts(found, is_held, folder)
    if not is_held.any():
        raise ValueError(f"{folder.root}: no photo can be held out; every class needs at least two different ones.")
    notes += _unmeasured(found, is_held, folder)
    paths = copies.paths_of(found, folder.classes, image_size, join(os.path.abspath(output_dir), COPIES))
    train, held_out = [
        tuple((path, photo.label) for path, photo, held in zip(paths, found, is_held, strict=True) if held == side)
        for side in (False, True)
    ]
    originals = {path: photo.path for path, photo in zip(paths, found, strict=True)}
    return Prepared(Split(folder.classes, train, held_out), originals, folder.held_out is not None, tuple(notes))


def _check_counts(found: Sequence[InspectedPhoto], is_held: np.ndarray, folder: PhotoFolder) -> None:
    """Raises ValueError for a class that has too few photos to train on."""
    least = _LEAST if folder.held_out is None else 1
    counts = collections.Counter(photo.label for photo, held in zip(found, is_held, strict=True) if not held)
    for label, name in enumerate(folder.classes):
        if counts[label] < least:
            raise ValueError(
                f"{folder.root}: class {printable(name)!r} has {counts[label]} usable photos to train on; it needs at "
                f"least {least}, and about 50 are good."
            )


def _notes(
    looked_at: Sequence[InspectedPhoto],
    found: Sequence[InspectedPhoto],
    groups: np.ndarray,
    folder: PhotoFolder,
    image_size: int,
) -> list[str]:
    """What is unusual about the photos."""
    broken = [photo for photo in looked_at if photo.fault]
    tiny = [photo for photo in found if min(photo.width, photo.height) < image_size / 2]
    rotated = [photo for photo in found if photo.rotated]
    notes = []
    if broken:
        notes.append(f"Skipped {_photos(broken)} that cannot be decoded: {_named(broken)}.")
    if tiny:
        notes.append(f"{_photos(tiny)} smaller than half of the network's {image_size} pixels: {_named(tiny)}.")
    if rotated:
        notes.append(f"{_photos(rotated)} stored rotated or mirrored; upright copies are used.")
    return [*notes, *_duplicates(found, groups), *_imbalance(found, folder)]


def _duplicates(found: Sequence[InspectedPhoto], groups: np.ndarray) -> list[str]:
    members: dict[int, list[InspectedPhoto]] = collections.defaultdict(list)
    for photo, group in zip(found, groups.tolist(), strict=True):
        members[group].append(photo)
    same = [group for group in members.values() if len(group) > 1]
    across = [group for group in same if len({photo.label for photo in group}) > 1]
    notes = []
    if same:
        extra = sum(len(group) - 1 for group in same)
        notes.append(f"Duplicates of other photos: {extra}, such as {_named(same[0])}; they are never on both sides.")
    if across:
        notes.append(f"Pictures in several classes: {len(across)}, such as {_named(across[0])}; remove the wrong ones.")
    return notes


def _imbalance(found: Sequence[InspectedPhoto], folder: PhotoFolder) -> list[str]:
    counts = collections.Counter(photo.label for photo in found)
    (most, many), (least, few) = counts.most_common()[0], counts.most_common()[-1]
    if many < _UNEVEN * few:
        return []
    names = [printable(folder.classes[label]) for label in (most, least)]
    return [
        f"Classes are uneven: {many} photos of {names[0]}, {few} of {names[1]}. More photos of the rare classes help "
        "most; --class_balance=0.5 gives those that there are more weight."
    ]


def _leaks(dropped: Sequence[InspectedPhoto]) -> list[str]:
    if not dropped:
        return []
    return [f"Not trained on, as held-out photos show the same picture: {_photos(dropped)}, {_named(dropped)}."]


def _unmeasured(found: Sequence[InspectedPhoto], is_held: np.ndarray, folder: PhotoFolder) -> list[str]:
    measured = {photo.label for photo, held in zip(found, is_held, strict=True) if held}
    names = [printable(name) for label, name in enumerate(folder.classes) if label not in measured]
    return [f"Without held-out photos, and so not measured: {', '.join(names)}."] if names else []


def _photos(found: Sequence[InspectedPhoto]) -> str:
    return f"{len(found)} photo{'s' * (len(found) != 1)}"


def _named(found: Sequence[InspectedPhoto]) -> str:
    more = ", ..." if len(found) > _SHOWN else ""
    return ", ".join(printable(photo.path) for photo in found[:_SHOWN]) + more
