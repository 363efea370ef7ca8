"""Annotated images, whatever file they are read from: objects as boxes and labels, and the pixels."""

import collections
import contextlib
import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, Protocol

import numpy as np
from PIL import Image, ImageOps

from fd_keras import photos
from fd_keras.io import printable


@dataclasses.dataclass(frozen=True, eq=False)
class Annotation:
    """The objects of one image.

    Attributes:
        id: Name of the image in the split's list.
        path: Path of the image; where images are not needed there may be no such file.
        height: Height of the image file, in pixels; 0 if neither file nor annotation says it.
        width: Width of the image file, in pixels, or 0 likewise.
        boxes: Boxes inside the image, float32 (n, 4): [x1, y1, x2, y2] in 0-based pixels, both ends included; read "as
            they are" they may reach outside it and are float64, every digit of which counts.
        labels: Positions in the list of classes, int64 (n,).
        difficult: Whether each is neither trained on nor counted, by the devkit's rules, bool (n,).
    """

    id: str
    path: str
    height: int
    width: int
    boxes: np.ndarray
    labels: np.ndarray
    difficult: np.ndarray


class DataError(ValueError):
    """An annotation, image or list that cannot be used; the message begins with its path."""


class Thing(NamedTuple):
    """An object as a file describes it.

    Attributes:
        where: File and place in it, for messages.
        name: Name of its class.
        box: [x1, y1, x2, y2] in 0-based pixels, both ends included.
        difficult: Whether it is not counted.
    """

    where: str
    name: str
    box: Sequence[float]
    difficult: bool = False


class Described(NamedTuple):
    """An image as a file describes it.

    Attributes:
        id: Name of the image.
        source: File that describes it.
        path: Path of the image, which may be missing.
        size: (height, width) by the file; None if it does not say.
        things: Its objects.
    """

    id: str
    source: str
    path: str
    size: tuple[float, float] | None
    things: Sequence[Thing]


class Reader(Protocol):
    """One data set in one format.

    Attributes:
        classes: Class names in label order.
    """

    classes: tuple[str, ...]

    def splits(self) -> list[str]:
        """Names of the splits."""
        ...

    def names(self, split: str) -> list[str]:
        """Names of a split's images, in order. Raises DataError if there is no such split."""
        ...

    def describe(self, name: str) -> Described:
        """Describes one image. Raises DataError if that cannot be read."""
        ...

    def is_annotated(self, split: str) -> bool:
        """Whether a split has annotations; those of some test sets are kept secret."""
        ...


@dataclasses.dataclass(frozen=True)
class Strictness:
    """What annotations are read for.

    Attributes:
        as_is: Whether boxes stay as the file has them, as evaluators take them; otherwise they are repaired.
        images: Whether the image files are needed.
    """

    as_is: bool = False
    images: bool = True


TO_TRAIN, TO_EVALUATE, TO_SCORE_FILES = Strictness(), Strictness(as_is=True), Strictness(as_is=True, images=False)


class Repairs:
    """The boxes that were clipped or dropped, by what was wrong with them.

    Attributes:
        files: Annotation files by kind of repair, an entry per box.
    """

    def __init__(self):
        self.files: dict[str, list[str]] = collections.defaultdict(list)

    def note(self, kind: str, path: str) -> None:
        """Counts a box of an annotation file."""
        self.files[kind].append(path)

    def lines(self) -> list[str]:
        """A sentence for each kind, with the first files."""
        found = []
        for kind, paths in self.files.items():
            names = list(dict.fromkeys(paths))
            shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more files" if len(names) > 3 else "")
            found.append(f"{len(paths)} {'box' if len(paths) == 1 else 'boxes'} {kind}: {shown}")
        return found


# What can be wrong with a box, and what is done about it.
CLIPPED = "reached outside the image, clipped"
OUTSIDE = "wholly outside the image, dropped"
INVERTED = "with xmin > xmax or ymin > ymax, dropped"
EMPTY = "without an area, dropped"


def annotate(image: Described, classes: Sequence[str], reading: Strictness, repairs: Repairs) -> Annotation:
    """Checks what a file says of an image against the image, and repairs its boxes unless they are to stay as they are.

    Raises:
        DataError: If the image is needed and missing or of another size, or a class is unknown.
    """
    height, width = (_file_size(image) if reading.images else image.size) or (0, 0)
    kept = []
    for thing in image.things:
        if thing.name not in classes:
            raise DataError(
                f"{thing.where} is {thing.name!r:.60}, not one of the {len(classes)} classes; name others with "
                "--classes."
            )
        box = thing.box if reading.as_is else _repair(list(thing.box), height, width, image.source, repairs)
        if box is not None:
            kept.append((list(classes).index(thing.name), box, thing.difficult))
    return Annotation(
        image.id, image.path, int(height), int(width),
        np.array([box for _, box, _ in kept], "float64" if reading.as_is else "float32").reshape(-1, 4),
        np.array([label for label, _, _ in kept], "int64"),
        np.array([difficult for _, _, difficult in kept], "bool"),
    )  # fmt: skip


def _file_size(image: Described) -> tuple[int, int]:
    """Boxes are pixels of the image they were drawn on; an image of another size is another image."""
    size = image_size(image.path)
    if image.size in (None, (0, 0), size):  # some programs write 0 for "unknown"
        return size
    raise DataError(
        f"{image.source}: the size of {image.id} is {image.size[1]:g}x{image.size[0]:g}, but {image.path} has "
        f"{size[1]}x{size[0]} pixels: resized or turned after its boxes were drawn? Correct the size if they fit."
    )


def _repair(box: list[float], height: float, width: float, path: str, repairs: Repairs) -> list[float] | None:
    """The box inside its image, or None if nothing usable is left."""
    x1, y1, x2, y2 = box
    if x1 > x2 or y1 > y2:
        return repairs.note(INVERTED, path)
    if x2 < 0 or y2 < 0 or x1 > width - 1 or y1 > height - 1:
        return repairs.note(OUTSIDE, path)
    clipped = [max(x1, 0.0), max(y1, 0.0), min(x2, width - 1.0), min(y2, height - 1.0)]
    if clipped[0] == clipped[2] or clipped[1] == clipped[3]:
        return repairs.note(EMPTY, path)
    if clipped != box:
        repairs.note(CLIPPED, path)
    return clipped


def read_limited(path: str, most: int) -> bytes:
    """The content of a file that exists; raises DataError if it is larger than `most` bytes, or cannot be read."""
    try:
        with open(path, "rb") as file:
            data = file.read(most + 1)
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as error:  # no right to read it, or a name that no file can have
        raise DataError(f"{path}: cannot be read ({error}).") from error
    if len(data) > most:
        raise DataError(f"{path}: has more than {most >> 20} MB.")
    return data


def distinct(names: Sequence[str], where: str, what: str, error: Callable[[str], ValueError] = DataError) -> list[str]:
    """The names without empty ones; raises the error if none is left, or one is there twice."""
    names = list(filter(None, names))
    if not names:
        raise error(f"{where}: names no {what}.")
    twice = [name for name, count in collections.Counter(names).items() if count > 1]
    if twice:
        raise error(f"{where}: names {printable(twice[0])} more than once.")
    return names


def number(value: object, where: str) -> float:
    """A finite number; raises DataError for anything else."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        with contextlib.suppress(OverflowError):  # integers of hundreds of digits
            if math.isfinite(float(value)):
                return float(value)
    raise DataError(f"{where} is {'missing' if value is None else f'{value!r:.60}, not a number'}.")


def image_size(path: str) -> tuple[int, int]:
    """(height, width) in pixels, as stored: EXIF's orientation is ignored, as in the devkit.

    Raises:
        DataError: If it cannot be read.
    """
    with _opened(path) as image:
        return image.height, image.width


def read_image(path: str, upright: bool = False) -> np.ndarray:
    """The pixels of an image file.

    Args:
        path: File that PIL reads.
        upright: Whether to turn a photo as its EXIF orientation says; annotations are of the photo as stored.

    Returns:
        uint8 RGB (height, width, 3).

    Raises:
        DataError: If it cannot be decoded.
    """
    with _opened(path) as image:
        return np.asarray(photos.rgb(ImageOps.exif_transpose(image) if upright else image))


@contextlib.contextmanager
def _opened(path: str) -> Iterator[Image.Image]:
    try:
        with photos.opened(path) as image:
            if photos.is_halved(image):  # its boxes are pixels of the whole
                raise ValueError(f"more than {photos.MAX_PIXELS:,} pixels")
            yield image
    except ValueError as error:
        raise DataError(f"{path}: {error}.") from error
    except FileNotFoundError:
        raise DataError(f"{path}: no such image.") from None
    except OSError as error:
        raise DataError(f"{path}: not a readable image ({error.strerror}).") from error
