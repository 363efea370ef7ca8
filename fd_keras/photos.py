"""What a photo is: which files of a folder are photos, and how one is opened without trusting its size."""

import collections
import contextlib
import logging
import os
import warnings
from collections.abc import Iterator
from typing import IO, TYPE_CHECKING

import numpy as np

from fd_keras.io import is_local, join, list_entries, shortened

if TYPE_CHECKING:
    from PIL import Image

SUFFIXES = frozenset((".bmp", ".gif", ".jfif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"))
_OTHER_FORMATS = frozenset(
    (".arw", ".avif", ".cr2", ".cr3", ".dng", ".heic", ".heif", ".jp2", ".jxl", ".nef", ".orf", ".psd", ".rw2", ".svg")
)
_OF_THE_SYSTEM = frozenset(  # what Windows, macOS and storage servers put beside photos
    ("thumbs.db", "ehthumbs.db", "desktop.ini", "__macosx", "@eadir", "$recycle.bin", "system volume information",
     "lost+found")
)  # fmt: skip
MAX_PIXELS = 89_478_485  # of a decoded photo, 256 MiB as RGB; PIL warns from here on

HIDDEN = "hidden or system files"
NOT_PHOTOS = "not photos"
OTHER_FORMATS = "of an unsupported format (convert them to JPEG or PNG)"
NOT_FILES = "broken links or special files"
OUTSIDE = "outside the class folders"


class LeftOut:
    """Files of a folder or a tar that are not taken, counted by reason."""

    def __init__(self):
        self._names: dict[str, list[str]] = collections.defaultdict(list)

    def note(self, reason: str, name: str) -> None:
        """Counts a file, or a folder with all that is in it."""
        self._names[reason].append(name)

    def __str__(self) -> str:
        counted = sorted((reason, sorted(names)) for reason, names in self._names.items())
        return ", ".join(f"{reason}: {len(names)} ({shortened(names)})" for reason, names in counted)

    def log(self, where: str) -> None:
        """Logs a warning with the counts, if there are any."""
        if self._names:
            logging.warning("%s: skipped %s", where, self)


def why_not(name: str) -> str | None:
    """Why a file is not a photo, by its path below the folder or tar that was named; None if it is one."""
    if any(is_hidden(part) for part in name.split("/")):
        return HIDDEN
    suffix = os.path.splitext(name)[1].lower()
    if suffix in SUFFIXES:
        return None
    return OTHER_FORMATS if suffix in _OTHER_FORMATS else NOT_PHOTOS


def is_hidden(name: str) -> bool:
    """Whether a file or folder is hidden or belongs to the system: `.DS_Store`, `._photo.jpg`, `__MACOSX`."""
    return name.startswith(".") or name.lower() in _OF_THE_SYSTEM


def find(folder: str, left_out: LeftOut, below: str = "") -> list[str]:
    """The photos in a folder and its subfolders, through links too.

    Args:
        folder: Local folder, or one in a bucket.
        left_out: Counts the other files.
        below: Subfolder to search instead of all.

    Returns:
        Paths relative to the folder, with forward slashes, sorted.

    Raises:
        OSError: If a folder cannot be read.
    """
    above = (os.path.realpath(folder),) if below and is_local(folder) else ()
    return sorted(_walk(folder, below, left_out, above))


def _walk(root: str, below: str, left_out: LeftOut, above: tuple[str, ...]) -> Iterator[str]:
    here = join(root, below) if below else root
    real = os.path.realpath(here) if is_local(here) else here
    if real in above:  # a link to a folder that contains it
        return
    folders, files, others = list_entries(here)
    for name in (f"{below}/{name}" if below else name for name in files):
        if reason := why_not(name):
            left_out.note(reason, name)
        else:
            yield name
    for name in others:
        left_out.note(HIDDEN if is_hidden(name) else NOT_FILES, f"{below}/{name}" if below else name)
    for name in folders:
        path = f"{below}/{name}" if below else name
        if is_hidden(name):
            left_out.note(HIDDEN, f"{path}/")
        else:
            yield from _walk(root, path, left_out, (*above, real))


def holds_classes(folder: str) -> bool:
    """Whether a folder can be a side, such as train/: it has folders, and hardly any photos beside them.

    A class of photos may be called "train" too.
    """
    folders, files, _ = list_entries(folder)
    return sum(not is_hidden(name) for name in folders) > sum(why_not(name) is None for name in files)


def list_classes(folder: str, left_out: LeftOut | None = None) -> dict[str, list[str]]:
    """Photos of every class: of each folder in a folder, and of its subfolders.

    Args:
        folder: Local folder, or one in a bucket.
        left_out: Counts the other files; without it they are logged.

    Returns:
        Paths relative to the folder, sorted, by class; the classes are sorted too.

    Raises:
        ValueError: If a class has no photo, or there is no class.
        OSError: If a folder cannot be read.
    """
    log, left_out, listing = left_out is None, left_out or LeftOut(), {}
    folders, files, others = list_entries(folder)
    for name in (*files, *others):
        left_out.note(why_not(name) or (OUTSIDE if name in files else NOT_FILES), name)
    for name in folders:
        if is_hidden(name):
            left_out.note(HIDDEN, f"{name}/")
            continue
        listing[name] = find(folder, left_out, name)
        if not listing[name]:
            raise ValueError(
                f"{join(folder, name)}: no photo in this class folder (looked for {', '.join(sorted(SUFFIXES))})."
            )
    if not listing:
        raise ValueError(f"{folder}: no class folders in it; it wants CLASS/*.jpg, one folder for each class.")
    if log:
        left_out.log(folder)
    return listing


def list_images(path: str | os.PathLike) -> list[str]:
    """The image files that a path means: itself, or all photos below a folder, sorted; logs what it leaves out.

    Raises:
        FileNotFoundError: If there is nothing at the path.
        ValueError: If it is a folder without an image.
        OSError: If a folder cannot be read.
    """
    path = os.fspath(path)
    if not os.path.exists(path):
        raise FileNotFoundError(f"{path}: no such file or folder.")
    if not os.path.isdir(path):
        return [path]
    left_out = LeftOut()
    found = find(path, left_out)
    if not found:
        others = f"; skipped {left_out}" if str(left_out) else ""
        raise ValueError(f"{path}: no image below this folder (looked for {', '.join(sorted(SUFFIXES))}{others}).")
    left_out.log(path)
    return [os.path.join(path, name) for name in found]


@contextlib.contextmanager
def opened(file: str | os.PathLike | IO[bytes]) -> Iterator["Image.Image"]:
    """Opens an image with PIL; decoding it, in the block, takes bounded memory.

    A baseline JPEG beyond `MAX_PIXELS` is decoded at a half of its size; PIL refuses whatever is twice as large.

    Raises:
        ValueError: If it is not an image, or broken or too large, then or in the block; does not name the file.
        FileNotFoundError, IsADirectoryError, PermissionError: As for other files.
    """
    from PIL import Image, UnidentifiedImageError

    warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)  # `_bound` does more than warn
    try:
        with Image.open(file) as image:
            _bound(image)
            yield image
    except (FileNotFoundError, PermissionError, IsADirectoryError):
        raise
    except UnidentifiedImageError as error:
        raise ValueError("not a readable image (unknown format)") from error
    except Exception as error:  # a broken file makes PIL raise almost anything
        raise ValueError(f"not a readable image ({error})") from error


def _bound(image: "Image.Image") -> None:
    """Sees that decoding an image will take bounded memory and start no other program; else raises ValueError."""
    width, height = image.size
    if image.format == "EPS":  # PIL would have Ghostscript run it
        raise ValueError("PostScript")
    if width * height <= MAX_PIXELS:
        return
    if image.format in ("JPEG", "MPO") and not image.info.get("progressive"):
        image.draft(image.mode, (width // 2, height // 2))
        image.info[_HALVED] = True
    if image.width * image.height > MAX_PIXELS:
        raise ValueError(f"{width}x{height} pixels, more than {MAX_PIXELS:,}")


def is_halved(image: "Image.Image") -> bool:
    """Whether `opened` has halved an image's size."""
    return _HALVED in image.info


_HALVED = "halved by fd_keras"


def rgb(image: "Image.Image") -> "Image.Image":
    """A PIL image as RGB; of 16 bits the upper 8 remain, where PIL would clip. Transparency is dropped."""
    from PIL import Image

    if image.mode.startswith("I;16") or (image.mode == "I" and np.asarray(image).max() > 255):
        image = Image.fromarray((np.asarray(image).astype("int64") >> 8).clip(0, 255).astype("uint8"))
    return image.convert("RGB")
