"""Reads COCO's object detection files such as instances_val2017.json, one file per split.

Their boxes are [x, y, width, height], measured from the upper left corner of the first pixel. Crowds ("iscrowd") become
difficult objects, which are excluded from training and scores.
"""

import collections
import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

from fd_keras.io import printable
from fd_keras.training.voc.annotation import DataError, Described, Thing, distinct, number, read_limited

_LARGEST = 1 << 29  # bytes; instances_train2017.json has 469 MB


class CocoJson:
    """The data set of a COCO file.

    The images are beside the file; or in a folder named `images` or like the file (val2017 for instances_val2017.json),
    which is beside the file or one level up.

    Args:
        path: Path of the file.
        classes: Class names in label order; None for the file's categories, sorted by id.

    Raises:
        DataError: If it is not a COCO detection file.
    """

    def __init__(self, path: str, classes: Sequence[str] | None = None):
        self.path = path
        content = load_json(path, dict)
        self._categories = self._names_of_categories(content)
        self.classes = tuple(classes or (self._categories[key] for key in sorted(self._categories)))
        images = [
            self._image(image, f"{path}: images[{at}]") for at, image in enumerate(_rows(content, "images", path))
        ]
        distinct([name for name, _ in images], path, "image")
        self._images = dict(images)
        self.ids = {image["id"]: name for name, image in images}
        if len(self.ids) < len(images):
            raise DataError(f"{path}: two images have the same id.")
        self._things = collections.defaultdict(list)
        for at, row in enumerate(_rows(content, "annotations", path)):
            where = f"{path}: annotations[{at}]"
            self._things[known(row, "image_id", self.ids, where)].append(self._thing(row, where))

    def splits(self) -> list[str]:
        """Returns the name of the file without its suffix, as the only split."""
        return [os.path.splitext(os.path.basename(self.path))[0]]

    def is_annotated(self, split: str) -> bool:
        """Whether the file has annotations; lists of test images have none."""
        return bool(self._things)

    def names(self, split: str) -> list[str]:
        """Returns the file names of all images without suffix; `split` is ignored."""
        return list(self._images)

    def describe(self, name: str) -> Described:
        """Returns the description of an image."""
        image = self._images[name]
        where = f"{self.path}: image {image['id']}"
        size = number(image.get("height", 0), f"{where}: 'height'"), number(image.get("width", 0), f"{where}: 'width'")
        return Described(name, self.path, self._find(image["file_name"]), size, self._things.get(name, ()))

    def category(self, row: Mapping, where: str) -> str:
        """Returns the class name of an annotation or detection. Raises DataError if the category is unknown."""
        return known(row, "category_id", self._categories, where)

    def _names_of_categories(self, content: Mapping) -> dict[int, str]:
        found = {}
        for at, row in enumerate(_rows(content, "categories", self.path)):
            key, name = row.get("id"), row.get("name")
            if not isinstance(key, int) or not isinstance(name, str):
                raise DataError(f"{self.path}: categories[{at}] needs a number 'id' and a text 'name'.")
            if key in found:
                raise DataError(f"{self.path}: categories[{at}] has the id {key} of {printable(found[key])}.")
            found[key] = name
        distinct(list(found.values()), self.path, "category")
        return found

    def _image(self, row: Mapping, where: str) -> tuple[str, Mapping]:
        """Returns (name, row) of an image; raises DataError if its path leaves the folders that are searched."""
        file = row.get("file_name")
        if not isinstance(file, str) or not file or not isinstance(row.get("id"), (int, str)):
            raise DataError(f"{where} needs an 'id' and a text 'file_name'.")
        if os.path.isabs(file) or ".." in file.replace("\\", "/").split("/"):
            raise DataError(f"{where}: 'file_name' is outside the folder: {printable(file)}.")
        return os.path.splitext(file)[0], row

    def _thing(self, row: Mapping, where: str) -> Thing:
        crowd = row.get("iscrowd", 0)
        if crowd not in (0, 1):
            raise DataError(f"{where}: 'iscrowd' is {crowd!r:.60}, not 0 or 1.")
        return Thing(where, self.category(row, where), box_of(row, where), bool(crowd))

    def _find(self, file: str) -> str:
        """Returns the path of an image; if it does not exist, the path beside the .json."""
        here = os.path.dirname(self.path)
        own = self.splits()[0].removeprefix("instances_")
        folders = [os.path.join(here, up, name) for up in ("", "..") for name in ("", "images", own)]
        paths = [os.path.normpath(os.path.join(folder, file)) for folder in folders]
        return next(filter(os.path.isfile, paths), paths[0])


def load_json(path: str, kind: type) -> Any:
    """Reads a .json file; raises DataError if its content is not of a type (dict or list)."""
    try:
        content = json.loads(read_limited(path, _LARGEST))
    except FileNotFoundError:
        raise DataError(f"{path}: no such file.") from None
    except (ValueError, RecursionError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path}: not valid JSON ({error}).") from None
    if not isinstance(content, kind):
        raise DataError(f"{path}: its content is a {type(content).__name__}, not a {kind.__name__}.")
    return content


def _rows(content: Mapping, key: str, path: str) -> list[Mapping]:
    rows = content.get(key)
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise DataError(f"{path}: '{key}' is not a list of objects, so it is not a COCO instances file.")
    return rows


def known(row: Mapping, key: str, names: Mapping, where: str) -> str:
    """Looks up the name of an id, the value of a key in a row; raises DataError if it is unknown."""
    value = row.get(key)
    if not isinstance(value, (int, str)) or value not in names:
        raise DataError(f"{where}: '{key}' is {value!r:.60}, which the file does not list.")
    return names[value]


def box_of(row: Mapping, where: str) -> list[float]:
    """Returns the box of a row as first and last pixels; raises DataError if it is not four numbers."""
    box = row.get("bbox")
    if not isinstance(box, list) or len(box) != 4:
        raise DataError(f"{where}: 'bbox' is {box!r:.60}, not [x, y, width, height].")
    x, y, width, height = (number(side, f"{where}: 'bbox'") for side in box)
    return [x, y, x + width - 1, y + height - 1]
