"""YOLO's text files as Ultralytics describes them: a data.yaml, folders of images, and a .txt of boxes for each image.

The labels of images/val/a.jpg are in labels/val/a.txt, a line "class x y width height" for each object, in shares of
the image's sides. Lines with more numbers are outlines (of segments or turned boxes), of which the surrounding box is
taken. An image without a .txt has no objects.
"""

import os
from collections.abc import Mapping, Sequence

from fd_keras import photos
from fd_keras.io import printable
from fd_keras.training.voc.annotation import DataError, Described, Thing, distinct, image_size, number, read_limited

_LARGEST = 16 << 20  # bytes of a file
_SPLITS = ("train", "val", "test")


class YoloText:
    """The data set of a data.yaml.

    Args:
        path: Path of the data.yaml.
        classes: Class names in label order; None for the file's.

    Raises:
        DataError: If it is not such a file.
    """

    def __init__(self, path: str, classes: Sequence[str] | None = None):
        self.path, self._content = path, _load_yaml(path)
        names = self._own_classes()
        self._by_number = {str(number): name for number, name in enumerate(names)}
        self.classes = tuple(classes or names)
        root = self._content.get("path", "")
        if not isinstance(root, str):
            raise DataError(f"{path}: 'path' is a {type(root).__name__}, not a folder.")
        self._root = os.path.join(os.path.dirname(path), root)
        self._files: dict[str, str] = {}

    def splits(self) -> list[str]:
        """Those of train, val and test that the file names."""
        return [name for name in _SPLITS if self._content.get(name)]

    def is_annotated(self, split: str) -> bool:
        """Whether any image of a split has a file of labels."""
        return any(os.path.isfile(_label_file(self._files[name])) for name in self.names(split))

    def names(self, split: str) -> list[str]:
        """Names of a split's images: their paths below `path`, without suffix.

        Raises:
            DataError: If the file does not name the split, or there are no images.
        """
        entries = self._content.get(split)
        entries = [entries] if isinstance(entries, str) else entries
        if not entries or not isinstance(entries, list) or not all(isinstance(entry, str) for entry in entries):
            raise DataError(f"{self.path}: '{split}' names no folder; there are {', '.join(self.splits()) or 'none'}.")
        found = [pair for entry in entries for pair in self._images(entry, split)]
        names = distinct([name for name, _ in found], f"{self.path}: '{split}'", "image")
        self._files |= dict(found)
        return names

    def describe(self, name: str) -> Described:
        """Describes an image that `names` has named; its size is needed, since boxes are shares of it."""
        image = self._files[name]
        source, size = _label_file(image), image_size(image)
        if not os.path.isfile(source):
            return Described(name, source, image, size, [])
        lines = read_limited(source, _LARGEST).decode("utf-8", errors="replace").splitlines()
        things = [self._thing(line.split(), size, f"{source}:{at}") for at, line in enumerate(lines, 1) if line.strip()]
        return Described(name, source, image, size, things)

    def _own_classes(self) -> tuple[str, ...]:
        names = self._content.get("names")
        if isinstance(names, dict) and list(names) == [str(number) for number in range(len(names))]:
            names = list(names.values())
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise DataError(f"{self.path}: 'names' is neither a list of class names nor numbered from 0.")
        return tuple(distinct([name.strip() for name in names], f"{self.path}: 'names'", "class"))

    def _images(self, entry: str, split: str) -> list[tuple[str, str]]:
        """(name, path) of the images in a folder, or in a list of files."""
        # Roboflow writes ../train/images for what lies beside the file.
        places = [os.path.normpath(os.path.join(self._root, e)) for e in (entry, entry.removeprefix("../"))]
        place = next(filter(os.path.exists, places), places[0])
        if os.path.isdir(place):
            left_out = photos.LeftOut()
            files = photos.find(place, left_out)
            left_out.log(place)
            return [self._named(os.path.join(place, file)) for file in files]
        if os.path.isfile(place):
            lines = read_limited(place, _LARGEST).decode("utf-8", errors="replace").split("\n")
            files = [line.strip() for line in lines if line.strip()]
            return [self._named(os.path.join(os.path.dirname(place), file)) for file in files]
        raise DataError(f"{self.path}: '{split}' is {printable(entry)}, but there is no {printable(place)}.")

    def _named(self, path: str) -> tuple[str, str]:
        return os.path.splitext(os.path.relpath(path, self._root))[0].replace(os.sep, "/"), path

    def _thing(self, fields: Sequence[str], size: tuple[int, int], where: str) -> Thing:
        if len(fields) < 5 or len(fields) % 2 == 0:
            raise DataError(f"{where}: has {len(fields)} numbers, not a class and x, y, width, height.")
        name = self._by_number.get(fields[0])
        if name is None:
            raise DataError(f"{where}: class {fields[0]!r:.60} is not one of {len(self._by_number)} names.")
        return Thing(where, name, _box([_number(text, where) for text in fields[1:]], size))


def _box(values: Sequence[float], size: tuple[int, int]) -> list[float]:
    """First and last pixels of a box or an outline that is in shares of an image's (height, width)."""
    xs, ys = values[0::2], values[1::2]
    if len(values) == 4:
        xs = xs[0] - xs[1] / 2, xs[0] + xs[1] / 2
        ys = ys[0] - ys[1] / 2, ys[0] + ys[1] / 2
    height, width = size
    return [min(xs) * width, min(ys) * height, max(xs) * width - 1, max(ys) * height - 1]


def _number(text: str, where: str) -> float:
    try:
        return number(float(text), f"{where}: {text!r:.60}")
    except ValueError as error:
        raise DataError(f"{where}: {text!r:.60} is not a number.") from error


def _label_file(image: str) -> str:
    """Ultralytics' rule: the last folder `images` of the path becomes `labels`, the suffix .txt."""
    before, images, after = image.rpartition(f"{os.sep}images{os.sep}")
    path = f"{before}{os.sep}labels{os.sep}{after}" if images else image
    return os.path.splitext(path)[0] + ".txt"


def _load_yaml(path: str) -> Mapping:
    try:
        import yaml
    except ImportError as error:
        raise DataError(f"{path}: reading YAML needs PyYAML; pip install pyyaml.") from error
    try:
        # All scalars stay text, so that a class may be called "no" or "1"; nothing is made of tags.
        content = yaml.load(read_limited(path, _LARGEST), Loader=yaml.BaseLoader)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file.") from None
    except (yaml.YAMLError, RecursionError) as error:
        raise DataError(f"{path}: is not valid YAML ({' '.join(str(error).split())}).") from None
    if not isinstance(content, dict):
        raise DataError(f"{path}: is not a data.yaml with 'names' and splits.")
    return content
