"""Reads PASCAL VOC annotations, and the user's data in the same layout."""

import contextlib
import math
import os
import re
import xml.etree.ElementTree as ET
from collections.abc import Sequence

from fd_keras import photos
from fd_keras.training.voc.annotation import DataError, Described, Thing, distinct, read_limited

# In label order, as in the devkit.
CLASSES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog",
    "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip

ANNOTATIONS, IMAGES, LISTS = "Annotations", "JPEGImages", os.path.join("ImageSets", "Main")
_EXTENSIONS = tuple(  # the devkit has only .jpg
    form(suffix)
    for suffix in sorted(photos.SUFFIXES, key=lambda s: (s != ".jpg", s))
    for form in (str, str.upper, str.title)
)
_LARGEST = 16 << 20  # maximum bytes of an annotation; those with thousands of objects are smaller


class Devkit:
    """The data set in a folder such as VOCdevkit/VOC2007, with Annotations, ImageSets/Main and JPEGImages.

    Truncated objects are treated like all others.

    Args:
        folder: Path of the folder.
        classes: Class names in label order.

    Raises:
        DataError: If the folder does not have this layout.
    """

    def __init__(self, folder: str, classes: Sequence[str] | None = None):
        self.folder, self.classes = folder, tuple(classes or CLASSES)
        if not os.path.isdir(folder):
            raise DataError(f"{folder or 'an empty name'}: no such folder.")
        if not os.path.isdir(os.path.join(folder, ANNOTATIONS)):
            years = sorted(e for e in os.listdir(folder) if os.path.isdir(os.path.join(folder, e, ANNOTATIONS)))
            hint = f" Pass {os.path.join(folder, years[0])}, which has." if years else ""
            raise DataError(f"{folder}: has no folders {ANNOTATIONS}, {IMAGES} and {LISTS}.{hint}")

    def splits(self) -> list[str]:
        """Returns the lists in ImageSets/Main, except those of a single class (cat_train.txt, with lines "a -1")."""
        path = os.path.join(self.folder, LISTS)
        files = os.listdir(path) if os.path.isdir(path) else []
        names = [name.removesuffix(".txt") for name in files if name.endswith(".txt") and not photos.is_hidden(name)]
        of_one_class = tuple(f"{name}_" for name in (*CLASSES, *self.classes))
        return sorted(n for n in names if not n.startswith(of_one_class) and not self._has_presence(n))

    def is_annotated(self, split: str) -> bool:
        """Whether the first image of a split has an annotation; those of some test sets are not published."""
        return os.path.isfile(self._annotation(self.names(split)[0]))

    def names(self, split: str) -> list[str]:
        """Returns the image names of a split; its list may also contain file names or paths.

        Raises:
            DataError: If the list is missing or empty, or contains an image twice.
        """
        path = self._list(split)
        try:
            names = [self._image_name(line) for line in _lines(path)]
        except FileNotFoundError:
            raise DataError(f"{path}: no such list; found {', '.join(self.splits()) or 'none'}.") from None
        except OSError as error:
            raise DataError(f"{path}: cannot be read ({error.strerror}).") from error
        return distinct(names, path, "image")

    def describe(self, name: str) -> Described:
        """Reads the annotation of an image. Raises DataError if it is missing or unusable."""
        xml = self._annotation(name)
        root = _parse(xml, name)
        things = [_thing(node, f"{xml}: object {count}") for count, node in enumerate(root.findall("object"), 1)]
        return Described(name, xml, self.image(name), _size(root, xml), things)

    def image(self, name: str) -> str:
        """Returns the path of an image; if it does not exist, the path with .jpg."""
        base = os.path.join(self.folder, IMAGES, name)
        return next((base + end for end in _EXTENSIONS if os.path.isfile(base + end)), f"{base}.jpg")

    def _has_presence(self, split: str) -> bool:
        """Whether each line of a list ends with the presence of a class: 1, 0 or -1."""
        try:
            lines = _lines(self._list(split))
        except OSError:  # `names` reports it
            return False
        marked = bool(lines) and all(re.search(r"\S\s+(-1|0|1)$", line) for line in lines)
        return marked and not os.path.isfile(self._annotation(lines[0]))

    def _list(self, split: str) -> str:
        return os.path.join(self.folder, LISTS, f"{split}.txt")

    def _annotation(self, name: str) -> str:
        return os.path.join(self.folder, ANNOTATIONS, f"{name}.xml")

    def _image_name(self, line: str) -> str:
        """Extracts the image name from a line such as `a`, `a.jpg` or `JPEGImages/a.jpg`."""
        stem, extension = os.path.splitext(line.replace("\\", "/").rpartition("/")[2])
        if extension.lower() not in photos.SUFFIXES or os.path.isfile(self._annotation(line)):
            return line
        return stem


def _lines(path: str) -> list[str]:
    """Reads the nonempty lines of a list."""
    with open(path, "rb") as file:
        return list(filter(None, map(str.strip, _decoded(file.read()).splitlines())))


def _decoded(data: bytes) -> str:
    """Decodes text by guessing its encoding, since many programs declare a wrong one."""
    for mark, encoding in ((b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"),
                           (b"<\0", "utf-16-le"), (b"\0<", "utf-16-be")):  # fmt: skip
        if data.startswith(mark):
            return data.decode(encoding, errors="replace")
    declared = re.match(rb"""\s*<\?xml[^>]*encoding\s*=\s*["']([\w.:-]+)["']""", data[:200])
    chinese = ["gb18030"] if re.search(rb"[\x80-\xff]{2}", data) else []  # Latin-1 rarely has two adjacent accents
    for encoding in ("utf-8", *([declared[1].decode().lower()] if declared else []), *chinese):
        with contextlib.suppress(UnicodeError, LookupError):
            return data.decode("gb18030" if encoding in ("gb2312", "gbk") else encoding)
    return data.decode("latin-1")


class _NoDoctype(ET.TreeBuilder):
    """Rejects document type declarations, which can exhaust memory or open other files; the devkit has none."""

    def doctype(self, name, pubid, system):
        raise DataError("has a document type declaration, which is not supported; remove it")


def _parse(path: str, name: str) -> ET.Element:
    try:
        data = read_limited(path, _LARGEST)
    except FileNotFoundError:
        hint = (
            " The split is the list of a single class; pass another." if name[-2:].strip() in ("0", "1", "-1") else ""
        )
        raise DataError(f"{path}: no such annotation.{hint if ' ' in name else ''}") from None
    try:
        root = ET.fromstring(_decoded(data).lstrip("\ufeff \t\r\n"), ET.XMLParser(target=_NoDoctype()))
    except ET.ParseError as error:
        raise DataError(f"{path}: not well-formed XML ({error}).") from None
    except DataError as error:
        raise DataError(f"{path}: {error}.") from None
    if root.tag != "annotation":
        raise DataError(f"{path}: starts with <{root.tag}>, not <annotation>.")
    return root


def _size(root: ET.Element, xml: str) -> tuple[float, float] | None:
    """Returns (height, width) from <size>; None if it is missing or empty."""
    if not (root.findtext("size/height") and root.findtext("size/width")):
        return None
    return _number(root, "size/height", xml), _number(root, "size/width", xml)


def _thing(node: ET.Element, where: str) -> Thing:
    """Reads an <object>, ignoring its <part>s; subtracts 1 from its box, since the devkit's pixels start at 1."""
    box = [_number(node, f"bndbox/{side}", where) - 1 for side in ("xmin", "ymin", "xmax", "ymax")]
    difficult = (node.findtext("difficult") or "0").strip()
    if difficult not in ("0", "1"):
        raise DataError(f"{where}: <difficult> is {difficult!r}, not 0 or 1.")
    return Thing(where, (node.findtext("name") or "").strip(), box, difficult == "1")


def _number(node: ET.Element, tag: str, where: str) -> float:
    text = node.findtext(tag)
    try:
        value = float(text or "")
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise DataError(f"{where}: <{tag}> is {'missing' if text is None else repr(text) + ', not a number'}.")
    return value
