"""Reads Ultralytics' YOLO data sets: a data.yaml, folders of images, and a .txt of boxes for each image.

The labels of images/val/a.jpg are in labels/val/a.txt, with a line "class x y width height" for each object, relative
to the sides of the upright image: Ultralytics applies the EXIF orientation. Lines with more numbers are polygons
(segments or rotated boxes), which are replaced by their bounding boxes. An image without a .txt has no objects.
"""

import os
from collections.abc import Mapping, Sequence

from fd_keras import photos
from fd_keras.io import printable
from fd_keras.training.voc.annotation import (
    DataError,
    Described,
    Thing,
    distinct,
    image_size,
    number,
    orientation,
    read_limited,
)

_LARGEST = 16 << 20  # maximum bytes of a file
_SPLITS = ("train", "val", "test")


class YoloText:
    """The data set of a data.yaml.

    Args:
        path: Path of the data.yaml.
        classes: Class names in label order; None for those of the file.

    Raises:
        DataError: If it is not a valid data.yaml.
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
        """Returns the splits in the file: train, val or test."""
        return [name for name in _SPLITS if self._content.get(name)]

    def is_annotated(self, split: str) -> bool:
        """Whether at least one image of a split has a file of labels."""
        return any(os.path.isfile(_label_file(self._files[name])) for name in self.names(split))

    def names(self, split: str) -> list[str]:
        """Returns the image names of a split: paths relative to the data set's root, without suffix.

        Raises:
            DataError: If the file does not contain the split, or there are no images.
        """
        entries = self._content.get(split)
        entries = [entries] if isinstance(entries, str) else entries
        if not entries or not isinstance(entries, list) or not all(isinstance(entry, str) for entry in entries):
            raise DataError(
                f"{self.path}: '{split}' is missing or not a folder; found {', '.join(self.splits()) or 'none'}."
            )
        found = [pair for entry in entries for pair in self._images(entry, split)]
        names = distinct([name for name, _ in found], f"{self.path}: '{split}'", "image")
        self._files |= dict(found)
        return names

    def describe(self, name: str) -> Described:
        """Reads the labels of an image from `names`, and its size, since boxes are relative to it."""
        image = self._files[name]
        source, size = _label_file(image), image_size(image, upright=True)
        lines = []
        if os.path.isfile(source):
            lines = read_limited(source, _LARGEST).decode("utf-8", errors="replace").splitlines()
        things = [self._thing(line.split(), size, f"{source}:{at}") for at, line in enumerate(lines, 1) if line.strip()]
        return Described(name, source, image, size, things, orientation(image))

    def _own_classes(self) -> tuple[str, ...]:
        names = self._content.get("names")
        if isinstance(names, dict) and list(names) == [str(number) for number in range(len(names))]:
            names = list(names.values())
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise DataError(f"{self.path}: 'names' must be a list of class names, or numbered from 0.")
        names = [name.strip() for name in names]
        if "" in names:
            raise DataError(f"{self.path}: 'names' has no name for class {names.index('')}.")
        return tuple(distinct(names, f"{self.path}: 'names'", "class"))

    def _images(self, entry: str, split: str) -> list[tuple[str, str]]:
        """Lists pairs (name, path) of the images in a folder, or in a file of paths."""
        # Roboflow writes ../train/images for a folder that is beside the file.
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
        raise DataError(f"{self.path}: '{split}' is {printable(entry)}, but {printable(place)} does not exist.")

    def _named(self, path: str) -> tuple[str, str]:
        return os.path.splitext(os.path.relpath(path, self._root))[0].replace(os.sep, "/"), path

    def _thing(self, fields: Sequence[str], size: tuple[int, int], where: str) -> Thing:
        if len(fields) < 5 or len(fields) % 2 == 0:
            raise DataError(f"{where}: expected a class and x, y, width, height, got {len(fields)} numbers.")
        name = self._by_number.get(fields[0])
        if name is None:
            raise DataError(f"{where}: class {fields[0]!r:.60} is not one of {len(self._by_number)} names.")
        return Thing(where, name, _box([_number(text, where) for text in fields[1:]], size))


def _box(values: Sequence[float], size: tuple[int, int]) -> list[float]:
    """Returns the first and last pixels of a box or polygon in coordinates relative to size (height, width)."""
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
    """Returns the path of an image's labels: the last folder `images` becomes `labels`, and the suffix .txt."""
    folder, file = os.path.split(image)
    parts = folder.split(os.sep)
    if "images" in parts:
        parts[len(parts) - 1 - parts[::-1].index("images")] = "labels"
    return os.path.join(os.sep.join(parts), os.path.splitext(file)[0] + ".txt")


def _load_yaml(path: str) -> Mapping:
    try:
        import yaml
    except ImportError as error:
        raise DataError(f"{path}: reading it needs PyYAML: pip install pyyaml") from error
    try:
        # BaseLoader keeps all scalars as text, so that "no" or "1" can be class names, and ignores tags.
        content = yaml.load(read_limited(path, _LARGEST), Loader=yaml.BaseLoader)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file.") from None
    except (yaml.YAMLError, RecursionError) as error:
        raise DataError(f"{path}: not valid YAML ({' '.join(str(error).split())}).") from None
    if not isinstance(content, dict):
        raise DataError(f"{path}: not a data.yaml with 'names' and splits.")
    return content
