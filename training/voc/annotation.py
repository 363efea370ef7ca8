"""Annotated images of any format: objects as boxes and labels, and the pixels."""

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
        path: Path of the image; the file may not exist if images are not needed.
        height: Height of the image in pixels; 0 if unknown.
        width: Width of the image in pixels; 0 if unknown.
        boxes: Boxes inside the image, float32 (n, 4): [x1, y1, x2, y2] in 0-based pixels, both ends included. With
            `Strictness.as_is` they may reach outside the image, and are float64 to keep all digits.
        labels: Indices of the classes, int64 (n,).
        difficult: Whether each object is excluded from training and scores, by the devkit's rules, bool (n,).
        orientation: EXIF orientation to apply to the file's pixels, 1 for none; height, width and boxes refer to the
            result.
    """

    id: str
    path: str
    height: int
    width: int
    boxes: np.ndarray
    labels: np.ndarray
    difficult: np.ndarray
    orientation: int = 1

    def read(self) -> np.ndarray:
        """Reads the pixels that the boxes refer to; see `read_image`."""
        return read_image(self.path, upright=self.orientation != 1)


class DataError(ValueError):
    """Raised for an annotation, image or list that cannot be used; the message starts with its path."""


class Thing(NamedTuple):
    """An object as described in a file.

    Attributes:
        where: File and position in it, for messages.
        name: Name of the class.
        box: [x1, y1, x2, y2] in 0-based pixels, both ends included.
        difficult: Whether the object is excluded from training and scores.
    """

    where: str
    name: str
    box: Sequence[float]
    difficult: bool = False


class Described(NamedTuple):
    """An image as described in a file.

    Attributes:
        id: Name of the image.
        source: Path of the file that describes it.
        path: Path of the image, which may not exist.
        size: (height, width) in pixels according to the file; None if the file does not contain it.
        things: Objects in the image.
        orientation: EXIF orientation to apply to the image, 1 for none.
    """

    id: str
    source: str
    path: str
    size: tuple[float, float] | None
    things: Sequence[Thing]
    orientation: int = 1


class Reader(Protocol):
    """Reader of a data set in one of the formats.

    Attributes:
        classes: Class names in label order.
    """

    classes: tuple[str, ...]

    def splits(self) -> list[str]:
        """Returns the names of the splits."""
        ...

    def names(self, split: str) -> list[str]:
        """Returns the names of a split's images in order. Raises DataError if the split does not exist."""
        ...

    def describe(self, name: str) -> Described:
        """Reads the description of an image. Raises DataError if it cannot be read."""
        ...

    def is_annotated(self, split: str) -> bool:
        """Whether a split has annotations; those of some test sets are not published."""
        ...


@dataclasses.dataclass(frozen=True)
class Strictness:
    """How strictly annotations are read.

    Attributes:
        as_is: Whether to keep boxes unchanged, as evaluators do; otherwise they are repaired.
        images: Whether the image files are needed.
        unknown_class: What to do about an unknown class, for the message.
    """

    as_is: bool = False
    images: bool = True
    unknown_class: str = "pass other classes with --classes"


TO_TRAIN = Strictness()
TO_EVALUATE = Strictness(as_is=True, unknown_class="the detector was trained without it")
TO_SCORE_FILES = Strictness(as_is=True, images=False)


class Repairs:
    """Boxes that were clipped or dropped, by kind of repair.

    Attributes:
        files: Annotation files by kind of repair, one entry per box.
    """

    def __init__(self):
        self.files: dict[str, list[str]] = collections.defaultdict(list)

    def note(self, kind: str, path: str) -> None:
        """Counts a repaired box of an annotation file."""
        self.files[kind].append(path)

    def lines(self) -> list[str]:
        """Formats a line for each kind of repair, with the first files."""
        found = []
        for kind, paths in self.files.items():
            names = list(dict.fromkeys(paths))
            shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more files" if len(names) > 3 else "")
            found.append(f"{len(paths)} {'box' if len(paths) == 1 else 'boxes'} {kind}: {shown}")
        return found


# Kinds of repair.
CLIPPED = "partly outside the image, clipped"
OUTSIDE = "completely outside the image, dropped"
INVERTED = "with xmin > xmax or ymin > ymax, dropped"
EMPTY = "without an area, dropped"


def annotate(image: Described, classes: Sequence[str], reading: Strictness, repairs: Repairs) -> Annotation:
    """Checks the description of an image against the image, and repairs its boxes unless `reading.as_is`.

    Args:
        image: Image as described in a file.
        classes: Class names in label order.
        reading: How strictly to read.
        repairs: Counter of the repaired boxes.

    Raises:
        DataError: If a class is unknown, or a needed image is missing or has another size.
    """
    height, width = (_file_size(image) if reading.images else image.size) or (0, 0)
    kept = []
    for thing in image.things:
        if thing.name not in classes:
            raise DataError(
                f"{thing.where} is {thing.name!r:.60}, not one of the {len(classes)} classes; {reading.unknown_class}."
            )
        box = thing.box if reading.as_is else _repair(list(thing.box), height, width, image.source, repairs)
        if box is not None:
            kept.append((list(classes).index(thing.name), box, thing.difficult))
    return Annotation(
        image.id, image.path, int(height), int(width),
        np.array([box for _, box, _ in kept], "float64" if reading.as_is else "float32").reshape(-1, 4),
        np.array([label for label, _, _ in kept], "int64"),
        np.array([difficult for _, _, difficult in kept], "bool"),
        image.orientation,
    )  # fmt: skip


def _file_size(image: Described) -> tuple[int, int]:
    """Returns (height, width) of the image file; raises DataError if it differs from the description."""
    size = image_size(image.path, upright=image.orientation != 1)
    if image.size in (None, (0, 0), size):  # some programs write 0 for "unknown"
        return size
    raise DataError(
        f"{image.source}: the size of {image.id} is {image.size[1]:g}x{image.size[0]:g}, but {image.path} has "
        f"{size[1]}x{size[0]} pixels: resized or rotated after annotation? Correct the size if the boxes fit."
    )


def _repair(box: list[float], height: float, width: float, path: str, repairs: Repairs) -> list[float] | None:
    """Clips a box to its image; None if it is unusable."""
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
    """Reads a file of at most `most` bytes.

    Raises:
        FileNotFoundError: If the file does not exist.
        DataError: If it is larger, or cannot be read.
    """
    try:
        with open(path, "rb") as file:
            data = file.read(most + 1)
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as error:  # no permission, or an invalid file name
        raise DataError(f"{path}: cannot be read ({error}).") from error
    if len(data) > most:
        raise DataError(f"{path}: larger than {most >> 20} MB.")
    return data


def distinct(names: Sequence[str], where: str, what: str, error: Callable[[str], ValueError] = DataError) -> list[str]:
    """Returns the nonempty names; raises the error if there are none, or one occurs twice."""
    names = list(filter(None, names))
    if not names:
        raise error(f"{where}: no {what} listed.")
    twice = [name for name, count in collections.Counter(names).items() if count > 1]
    if twice:
        raise error(f"{where}: {printable(twice[0])} is listed more than once.")
    return names


def number(value: object, where: str) -> float:
    """Returns a value as a finite float; raises DataError for anything else."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        with contextlib.suppress(OverflowError):  # integers of hundreds of digits
            if math.isfinite(float(value)):
                return float(value)
    raise DataError(f"{where} is {'missing' if value is None else f'{value!r:.60}, not a number'}.")


def image_size(path: str, upright: bool = False) -> tuple[int, int]:
    """Returns (height, width) of an image file in pixels.

    Args:
        path: Path of a file that PIL can read.
        upright: Whether to apply the EXIF orientation; the devkit ignores it.

    Raises:
        DataError: If the image cannot be read.
    """
    with _opened(path) as image:
        if upright and photos.orientation(image) >= 5:  # width and height are exchanged
            return image.width, image.height
        return image.height, image.width


def orientation(path: str) -> int:
    """Returns the EXIF orientation of an image file, from 1 (upright) to 8; raises DataError if it cannot be read."""
    with _opened(path) as image:
        return photos.orientation(image)


def read_image(path: str, upright: bool = False) -> np.ndarray:
    """Reads the pixels of an image file.

    Args:
        path: Path of a file that PIL can read.
        upright: Whether to apply the EXIF orientation; annotations of VOC and COCO refer to the image without it.

    Returns:
        uint8 RGB of shape (height, width, 3).

    Raises:
        DataError: If the image cannot be decoded.
    """
    with _opened(path) as image:
        return np.asarray(photos.rgb(ImageOps.exif_transpose(image) if upright else image))


@contextlib.contextmanager
def _opened(path: str) -> Iterator[Image.Image]:
    try:
        with photos.opened(path) as image:
            if photos.is_halved(image):  # boxes are in pixels of the full image
                raise ValueError(f"more than {photos.MAX_PIXELS:,} pixels")
            yield image
    except ValueError as error:
        raise DataError(f"{path}: {error}.") from error
    except FileNotFoundError:
        raise DataError(f"{path}: no such image.") from None
    except OSError as error:
        raise DataError(f"{path}: not a readable image ({error.strerror}).") from error
