"""Finds photos in folders, and opens them safely: sizes in a file are checked before decoding."""

import collections
import contextlib
import logging
import os
import warnings
from collections.abc import Iterator, Sequence
from typing import IO, TYPE_CHECKING

import numpy as np

from fd_keras.io import is_local, join, list_entries, shortened

if TYPE_CHECKING:
    from PIL import Image

SUFFIXES = frozenset((".bmp", ".gif", ".jfif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"))
_OTHER_FORMATS = frozenset(
    (".arw", ".avif", ".cr2", ".cr3", ".dng", ".heic", ".heif", ".jp2", ".jxl", ".nef", ".orf", ".psd", ".rw2", ".svg")
)
_OF_THE_SYSTEM = frozenset(  # files and folders that Windows, macOS and storage servers create beside photos
    ("thumbs.db", "ehthumbs.db", "desktop.ini", "__macosx", "@eadir", "$recycle.bin", "system volume information",
     "lost+found")
)  # fmt: skip
MAX_PIXELS = 89_478_485  # in a decoded photo, 256 MiB as RGB; PIL warns above this

HIDDEN = "hidden or system files"
NOT_PHOTOS = "files that are not photos"
OTHER_FORMATS = "photos of an unsupported format (convert them to JPEG or PNG)"
NOT_FILES = "broken links or special files"
CIRCLES = "links to a parent folder"
OUTSIDE = "photos outside the class folders"
UNDECODABLE = "photos that cannot be decoded"


def counted(reason: str, names: Sequence[str]) -> str:
    """Formats skipped files the way that all programs do: reason, count and first names."""
    return f"{reason}: {len(names)} ({shortened(names)})"


class LeftOut:
    """Skipped files of a folder or a tar, counted by reason."""

    def __init__(self):
        self._names: dict[str, list[str]] = collections.defaultdict(list)

    def note(self, reason: str, name: str) -> None:
        """Counts a file, or a folder as one entry."""
        self._names[reason].append(name)

    def __str__(self) -> str:
        return ", ".join(counted(reason, sorted(names)) for reason, names in sorted(self._names.items()))

    def log(self, where: str) -> None:
        """Logs the counts as a warning, if there are any."""
        if self._names:
            logging.warning("%s: skipped %s", where, self)


def why_not(name: str) -> str | None:
    """Why a file is not a photo, by its path inside the folder or tar; None if it is a photo."""
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
    """Finds the photos in a folder and its subfolders; follows links.

    Args:
        folder: Local folder, or one in a bucket.
        left_out: Counter of the skipped files.
        below: Subfolder to search instead of the whole folder.

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
    if real in above:
        left_out.note(CIRCLES, f"{below}/")
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
    """Whether a folder can be one side of a split, such as train/: it has more subfolders than photos.

    Otherwise a folder called "train" is a class of photos.
    """
    folders, files, _ = list_entries(folder)
    return sum(not is_hidden(name) for name in folders) > sum(why_not(name) is None for name in files)


def list_classes(folder: str, left_out: LeftOut | None = None) -> dict[str, list[str]]:
    """Lists the photos of each class: one class per folder, including its subfolders.

    Args:
        folder: Local folder, or one in a bucket.
        left_out: Counter of the skipped files; if None, they are logged.

    Returns:
        Sorted paths relative to the folder, by class; the classes are sorted too.

    Raises:
        ValueError: If a class has no photos, or there are no classes.
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
                f"{join(folder, name)}: no photos in this class folder (looked for {', '.join(sorted(SUFFIXES))}); add "
                "some, or remove the folder."
            )
    if not listing:
        raise ValueError(f"{folder}: contains no class folders; put the photos into one folder per class, CLASS/*.jpg.")
    if log:
        left_out.log(folder)
    return listing


def check_outside(folder: str, output: str, flag: str) -> None:
    """Raises ValueError if an output folder is inside a folder of class folders, where it would become a class.

    Args:
        folder: Folder that contains the class folders.
        output: Folder to write to, which may not exist yet.
        flag: Flag that names the output folder.
    """
    inside, root = os.path.realpath(output), os.path.realpath(folder)
    if is_local(output) and is_local(folder) and os.path.commonpath([inside, root]) == root:
        raise ValueError(
            f"{flag}={output}: is inside the photos in {folder}, where it would become a class; pass another folder."
        )


def list_images(path: str | os.PathLike) -> list[str]:
    """Expands a path to image files: the file itself, or all photos below a folder, sorted; logs skipped files.

    Raises:
        FileNotFoundError: If the path does not exist.
        ValueError: If it is a folder without images.
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
        raise ValueError(f"{path}: no images in this folder (looked for {', '.join(sorted(SUFFIXES))}{others}).")
    left_out.log(path)
    return [os.path.join(path, name) for name in found]


@contextlib.contextmanager
def opened(file: str | os.PathLike | IO[bytes]) -> Iterator["Image.Image"]:
    """Opens an image with PIL, such that decoding it inside the block takes bounded memory.

    A baseline JPEG larger than `MAX_PIXELS` is decoded at half size; PIL rejects images of more than twice that.

    Raises:
        ValueError: If it is not an image, damaged or too large, on opening or inside the block; the message does not
            name the file.
        FileNotFoundError: If the file does not exist.
        IsADirectoryError: If it is a folder.
        PermissionError: If it may not be read.
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
    except Exception as error:  # PIL raises almost anything for a damaged file
        raise ValueError(f"not a readable image ({error})") from error


def _bound(image: "Image.Image") -> None:
    """Raises ValueError if decoding an image would take too much memory or start another program."""
    width, height = image.size
    if image.format == "EPS":  # PIL would run Ghostscript on it
        raise ValueError("PostScript")
    if width * height <= MAX_PIXELS:
        return
    if image.format in ("JPEG", "MPO") and not image.info.get("progressive"):
        image.draft(image.mode, (width // 2, height // 2))
        image.info[_HALVED] = True
    if image.width * image.height > MAX_PIXELS:
        raise ValueError(f"{width}x{height} pixels, more than {MAX_PIXELS:,}")


def is_halved(image: "Image.Image") -> bool:
    """Whether `opened` decodes the image at half size."""
    return _HALVED in image.info


_HALVED = "halved by fd_keras"


def orientation(image: "Image.Image") -> int:
    """Returns the EXIF orientation of a PIL image, from 1 (upright) to 8; see `PIL.ImageOps.exif_transpose`."""
    value = image.getexif().get(0x0112)
    return value if isinstance(value, int) and 1 < value < 9 else 1


def rgb(image: "Image.Image") -> "Image.Image":
    """Converts a PIL image to RGB; 16-bit images keep the upper 8 bits (PIL would clip). Transparency is dropped."""
    from PIL import Image

    if image.mode.startswith("I;16") or (image.mode == "I" and np.asarray(image).max() > 255):
        image = Image.fromarray((np.asarray(image).astype("int64") >> 8).clip(0, 255).astype("uint8"))
    return image.convert("RGB")
