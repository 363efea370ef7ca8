"""PASCAL VOC annotations: the devkit's folders as they come, and one's own data in the same layout."""

import collections
import contextlib
import dataclasses
import logging
import math
import os
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Sequence

import numpy as np
from PIL import Image, ImageOps

from fd_keras import photos
from fd_keras.progress import progress

# The devkit's order, which is the labels'.
CLASSES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog",
    "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip

ANNOTATIONS, IMAGES, LISTS = "Annotations", "JPEGImages", os.path.join("ImageSets", "Main")
_EXTENSIONS = tuple(  # the devkit has .jpg alone
    form(suffix)
    for suffix in sorted(photos.SUFFIXES, key=lambda s: (s != ".jpg", s))
    for form in (str, str.upper, str.title)
)
_LARGEST = 16 << 20  # bytes of an annotation; those with thousands of objects have less
CHECK = "fd-keras detect check"  # what finds everything that is wrong at once


@dataclasses.dataclass(frozen=True, eq=False)
class Annotation:
    """The objects of one image.

    Attributes:
        id: Name of the image in the split's list.
        path: Path of the image.
        height: Height of the image file, in pixels.
        width: Width of the image file, in pixels.
        boxes: Boxes inside the image, float32 (n, 4): [x1, y1, x2, y2] in 0-based pixels, both ends included.
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


def open_split(voc_dirs: str | Sequence[str], split: str, classes: Sequence[str] = CLASSES) -> list[Annotation]:
    """Reads the annotations of a split, in the order of ImageSets/Main/SPLIT.txt.

    Truncated objects are objects like all others. Boxes that reach outside their image are clipped; those without an
    area, inverted or wholly outside are dropped; both are counted in a warning. Everything else that is wrong raises.

    Args:
        voc_dirs: Folders such as VOCdevkit/VOC2007, which hold Annotations, ImageSets and JPEGImages; a string may
            name several, separated by commas. Their images follow each other.
        split: Name of the split, for example "trainval".
        classes: Class names in label order.

    Raises:
        DataError: If a list, an annotation or an image is missing or unusable.
    """
    repairs, found, where = Repairs(), [], {}
    for folder, name in progress(_names(voc_dirs, split), unit="annotations"):
        if name in where:
            raise DataError(f"{where[name]} and {folder} both have an image {name!r}: names must differ.")
        where[name] = folder
        found.append(read_annotation(folder, name, classes, repairs))
    for line in repairs.lines():
        logging.warning("%s (%s DIR lists all)", line, CHECK)
    return found


def _names(voc_dirs: str | Sequence[str], split: str) -> list[tuple[str, str]]:
    return [(folder, name) for folder in folders(voc_dirs) for name in read_list(folder, split)]


def folders(voc_dirs: str | Sequence[str]) -> list[str]:
    """The folders that a flag names; raises DataError for one that is not in the devkit's layout."""
    found = voc_dirs.split(",") if isinstance(voc_dirs, str) else list(voc_dirs)
    for folder in found:
        if not os.path.isdir(folder):
            raise DataError(f"{folder or 'an empty name'}: no such folder.")
        if not os.path.isdir(os.path.join(folder, ANNOTATIONS)):
            years = sorted(e for e in os.listdir(folder) if os.path.isdir(os.path.join(folder, e, ANNOTATIONS)))
            hint = f" Its folder {years[0]} has: give {os.path.join(folder, years[0])}." if years else ""
            raise DataError(f"{folder}: has no folder {ANNOTATIONS}, {IMAGES} and {LISTS} beside it.{hint}")
    return found


def splits(folder: str, classes: Sequence[str] = CLASSES) -> list[str]:
    """The lists of ImageSets/Main that are whole splits; those of one class (cat_train.txt, lines "a -1") are not."""
    path = os.path.join(folder, LISTS)
    files = os.listdir(path) if os.path.isdir(path) else []
    names = [name.removesuffix(".txt") for name in files if name.endswith(".txt") and not photos.is_hidden(name)]
    of_one_class = tuple(f"{name}_" for name in (*CLASSES, *classes))
    return sorted(n for n in names if not n.startswith(of_one_class) and not _has_presence(folder, n))


def is_annotated(folder: str, split: str) -> bool:
    """Whether the first image of a split has an annotation; those of some test sets are kept secret."""
    return os.path.isfile(_annotation_path(folder, read_list(folder, split)[0]))


def _has_presence(folder: str, split: str) -> bool:
    """Whether each line of a list says after a name if a class is there: 1, 0 or -1."""
    try:
        lines = _lines(os.path.join(folder, LISTS, f"{split}.txt"))
    except OSError:  # which `read_list` reports
        return False
    marked = bool(lines) and all(re.search(r"\S\s+(-1|0|1)$", line) for line in lines)
    return marked and not os.path.isfile(_annotation_path(folder, lines[0]))


def _annotation_path(folder: str, name: str) -> str:
    return os.path.join(folder, ANNOTATIONS, f"{name}.xml")


def read_list(folder: str, split: str) -> list[str]:
    """The names of a split's images, also where the list has the names or paths of their files.

    Raises:
        DataError: If the list is missing or empty, or names an image twice.
    """
    path = os.path.join(folder, LISTS, f"{split}.txt")
    try:
        names = [_image_name(folder, line) for line in _lines(path)]
    except FileNotFoundError:
        raise DataError(f"{path}: no such list; there are {', '.join(splits(folder)) or 'none'}.") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}).") from error
    return _distinct(names, path, "image", DataError)


def _lines(path: str) -> list[str]:
    """The lines of a list that are not empty."""
    with open(path, "rb") as file:
        return list(filter(None, map(str.strip, _decoded(file.read()).splitlines())))


def _image_name(folder: str, line: str) -> str:
    """The name of an image out of a line such as `a`, `a.jpg` or `JPEGImages/a.jpg`."""
    stem, extension = os.path.splitext(line.replace("\\", "/").rpartition("/")[2])
    if extension.lower() not in photos.SUFFIXES or os.path.isfile(_annotation_path(folder, line)):
        return line
    return stem


def _decoded(data: bytes) -> str:
    """Text in whatever encoding programs have written it, which is often not what they declare."""
    for mark, encoding in ((b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"),
                           (b"<\0", "utf-16-le"), (b"\0<", "utf-16-be")):  # fmt: skip
        if data.startswith(mark):
            return data.decode(encoding, errors="replace")
    declared = re.match(rb"""\s*<\?xml[^>]*encoding\s*=\s*["']([\w.:-]+)["']""", data[:200])
    chinese = ["gb18030"] if re.search(rb"[\x80-\xff]{2}", data) else []  # accents of Latin-1 mostly stand alone
    for encoding in ("utf-8", *([declared[1].decode().lower()] if declared else []), *chinese):
        with contextlib.suppress(UnicodeError, LookupError):
            return data.decode("gb18030" if encoding in ("gb2312", "gbk") else encoding)
    return data.decode("latin-1")


def _distinct(names: Sequence[str], where: str, what: str, error: type[ValueError] = ValueError) -> list[str]:
    """The names without empty ones; raises the error if none is left, or one is there twice."""
    names = list(filter(None, names))
    if not names:
        raise error(f"{where}: names no {what}.")
    twice = [name for name, count in collections.Counter(names).items() if count > 1]
    if twice:
        raise error(f"{where}: names {twice[0]} more than once.")
    return names


def read_annotation(folder: str, name: str, classes: Sequence[str], repairs: Repairs) -> Annotation:
    """Reads one image's annotation, and the image's size.

    Raises:
        DataError: If one of the two is missing or unusable.
    """
    xml = _annotation_path(folder, name)
    root = _parse(xml, name)
    path = find_image(folder, name)
    height, width = image_size(path)
    _check_size(xml, root, path, height, width)
    kept = []
    for number, node in enumerate(root.findall("object"), 1):
        label, box, difficult = _object(node, f"{xml}: object {number}", classes)
        box = _repair(box, height, width, xml, repairs)
        if box is not None:
            kept.append((label, box, difficult))
    return Annotation(
        name, path, height, width,
        np.array([box for _, box, _ in kept], "float32").reshape(-1, 4),
        np.array([label for label, _, _ in kept], "int64"),
        np.array([difficult for _, _, difficult in kept], "bool"),
    )  # fmt: skip


class _NoDoctype(ET.TreeBuilder):
    """Refuses document types, with which XML can blow up or name other files; the devkit's files have none."""

    def doctype(self, name, pubid, system):
        raise DataError("has a document type declaration, which is not read")


def _parse(path: str, name: str) -> ET.Element:
    try:
        with open(path, "rb") as file:
            data = file.read(_LARGEST + 1)
        if len(data) > _LARGEST:
            raise DataError(f"has more than {_LARGEST >> 20} MB")
        root = ET.fromstring(_decoded(data).lstrip("\ufeff \t\r\n"), ET.XMLParser(target=_NoDoctype()))
    except FileNotFoundError:
        hint = " The split is a list of one class; take a whole one." if name[-2:].strip() in ("0", "1", "-1") else ""
        raise DataError(f"{path}: no such annotation.{hint if ' ' in name else ''}") from None
    except ET.ParseError as error:
        raise DataError(f"{path}: is not well-formed XML: {error}.") from None
    except DataError as error:
        raise DataError(f"{path}: {error}.") from None
    except (OSError, ValueError) as error:  # no right to read it, or a name that no file can have
        raise DataError(f"{path}: cannot be read ({error}).") from error
    if root.tag != "annotation":
        raise DataError(f"{path}: begins with <{root.tag}>, not with <annotation>.")
    return root


def find_image(folder: str, name: str) -> str:
    """The path of an image; raises DataError if there is none."""
    base = os.path.join(folder, IMAGES, name)
    for extension in _EXTENSIONS:
        if os.path.isfile(base + extension):
            return base + extension
    raise DataError(f"{base}.jpg: no such image (nor of another of {', '.join(sorted(photos.SUFFIXES))}).")


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
    except OSError as error:
        raise DataError(f"{path}: not a readable image ({error.strerror}).") from error


def _check_size(xml: str, root: ET.Element, path: str, height: int, width: int) -> None:
    """Boxes are pixels of the image they were drawn on; an image of another size is another image."""
    if not (root.findtext("size/height") and root.findtext("size/width")):
        return
    given = tuple(_number(root, f"size/{side}", xml) for side in ("height", "width"))
    if given in ((0, 0), (height, width)):  # some programs write 0 for "unknown"
        return
    raise DataError(
        f"{xml}: <size> is {given[1]:g}x{given[0]:g}, but {path} has {width}x{height} pixels: resized or turned after "
        "its boxes were drawn? Correct <size> if they fit."
    )


def _object(node: ET.Element, where: str, classes: Sequence[str]) -> tuple[int, list[float], bool]:
    """(label, box as the devkit writes it minus 1, difficult) of an <object>; its <part>s are not looked at."""
    name = (node.findtext("name") or "").strip()
    if name not in classes:
        raise DataError(f"{where} is {name!r}, not one of the {len(classes)} classes; name others with --classes.")
    box = [_number(node, f"bndbox/{side}", where) - 1 for side in ("xmin", "ymin", "xmax", "ymax")]
    difficult = (node.findtext("difficult") or "0").strip()
    if difficult not in ("0", "1"):
        raise DataError(f"{where}: <difficult> is {difficult!r}, neither 0 nor 1.")
    return list(classes).index(name), box, difficult == "1"


def _number(node: ET.Element, tag: str, where: str) -> float:
    text = node.findtext(tag)
    try:
        value = float(text or "")
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise DataError(f"{where}: <{tag}> is {'missing' if text is None else repr(text) + ', not a number'}.")
    return value


def _repair(box: list[float], height: int, width: int, path: str, repairs: Repairs) -> list[float] | None:
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


def read_classes(text: str) -> tuple[str, ...]:
    """Class names in label order, from a file with one a line or a list with commas.

    Raises:
        ValueError: If there is no such file, or no name, or one twice.
    """
    if os.path.isfile(text):
        with open(text, encoding="utf-8-sig") as file:
            names = [line.strip() for line in file]
    elif "," not in text and (os.sep in text or text.endswith(".txt")):
        raise ValueError(f"--classes={text}: no such file.")
    else:
        names = [name.strip() for name in text.split(",")]
    names = _distinct(names, f"--classes={text}", "class")
    if wrong := [name for name in names if "/" in name]:
        raise ValueError(f"--classes={text}: {wrong[0]!r} cannot be part of a file's name.")
    return tuple(names)
