"""Lists the raw photos for shards: in class folders, in flat folders with a file of labels, and in tars."""

import collections
import dataclasses
import os
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from fd_keras import photos
from fd_keras.io import printable, shortened
from fd_keras.progress import progress

_SPLITS = {"train", "training", "val", "valid", "validation", "test"}
_BLOCK = 512  # bytes of a tar's block; a block of zeros marks the end


@dataclasses.dataclass(frozen=True)
class Raw:
    """A photo in a folder or a tar.

    Attributes:
        key: Name in logs and records.
        path: Path of the file, or of the tar that contains it.
        label: Index of its class.
        offset: Position in the tar in bytes.
        size: Size in the tar in bytes; None for a separate file.
    """

    key: str
    path: str
    label: int
    offset: int = 0
    size: int | None = None

    def read(self) -> bytes:
        """Reads the bytes of the photo."""
        with open(self.path, "rb") as file:
            file.seek(self.offset)
            return file.read(-1 if self.size is None else self.size)


def list_train(path: str) -> tuple[list[Raw], list[str]]:
    """Lists the photos and class names of a training set; logs which files are skipped.

    Args:
        path: Folder of class folders, or a tar of tars or of class folders, such as ImageNet's.

    Returns:
        The photos, and the class names in label order.

    Raises:
        ValueError: If there are no class folders, or a tar is damaged.
        OSError: If it cannot be read.
    """
    found = _list_tar(path) if tarfile_at(path) else _list_folders(path)
    if not found:
        raise ValueError(f"{path}: found no photos in class folders.")
    classes = sorted({name for name, _ in found})
    if len(classes) > 1 and _SPLITS.issuperset(map(str.lower, classes)):
        raise ValueError(
            f"{path}: contains {' and '.join(classes)}, not classes; pass them separately, as in "
            f"--train={path}/{classes[0]}."
        )
    return [dataclasses.replace(raw, label=classes.index(name)) for name, raw in found], classes


def list_val(path: str, labels: str | None, classes: Sequence[str]) -> list[Raw]:
    """Lists the photos of a validation set; logs which files are skipped.

    Args:
        path: Folder of class folders; with `labels`, a flat folder or a tar.
        labels: File of lines `photo-name label`, where the label is a number from 0 or a class name.
        classes: Class names in label order.

    Raises:
        ValueError: If a photo has no label or an unknown one; the message names it.
    """
    is_tar = tarfile_at(path)
    if labels is None:
        if is_tar or not any(os.path.isdir(os.path.join(path, name)) for name in os.listdir(path)):
            raise ValueError(f"{path}: a flat validation set needs --val_labels, a file of lines `photo-name label`.")
        number = {name: label for label, name in enumerate(classes)}
        found = _list_folders(path)
        strange = sorted({name for name, _ in found} - set(number))
        if strange:
            raise ValueError(f"{path}: class {strange[0]!r} is not in the training set.")
        return [dataclasses.replace(raw, label=number[name]) for name, raw in found]
    raws = [raw for _, raw in _members(path)] if is_tar else _list_flat(path)
    found = labels_of([raw.key for raw in raws], labels, classes)
    return [dataclasses.replace(raw, label=label) for raw, label in zip(raws, found, strict=True)]


def labels_of(photo_names: Sequence[str], path: str, classes: Sequence[str]) -> list[int]:
    """Looks up the labels of photos in a file of labels.

    Args:
        photo_names: Paths of the photos relative to their folder.
        path: File of lines `photo-name label`, where the name is such a path, or only a file name.
        classes: Class names in label order.

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: If it cannot be read, or a photo has no label, or shares the labeled file name with another photo.
    """
    known = read_labels(path, classes)
    files = collections.Counter(map(os.path.basename, photo_names))
    keys = [name if name in known else os.path.basename(name) for name in photo_names]
    if missing := [key for key in keys if key not in known]:
        raise ValueError(f"{path}: no line for {_counted(missing)}; add lines `photo-name label`.")
    if shared := [name for name, key in zip(photo_names, keys, strict=True) if key != name and files[key] > 1]:
        raise ValueError(f"{path}: the file names of {_counted(shared)} are not unique; write the paths.")
    return [known[key] for key in keys]


def _counted(names: Sequence[str]) -> str:
    """Formats a number of photos with the first names."""
    return f"{len(names)} photo{'s' * (len(names) != 1)} ({shortened(names)})"


def read_labels(path: str, classes: Sequence[str]) -> dict[str, int]:
    """Reads labels by photo name from lines `photo-name label`.

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: If it is not UTF-8 text, a line is malformed, or a photo has two labels; names file and line.
    """
    if not os.path.isfile(path):
        raise FileNotFoundError(f"{path}: no such file; pass a text file of lines `photo-name label`.")
    number = {name: label for label, name in enumerate(classes)}
    try:
        with open(path, encoding="utf-8-sig") as file:
            lines = [line.strip() for line in file]
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not valid UTF-8 ({error}).") from error
    labels = {}
    for count, line in enumerate(lines, start=1):
        if not line:
            continue
        name, label = _split(line, number)
        if not name or not 0 <= label < len(classes):
            raise ValueError(
                f"{path}, line {count}: expected `photo-name label` with a label from 0 to {len(classes) - 1} or a "
                f"class name, got {line!r}."
            )
        if labels.setdefault(name, label) != label:
            raise ValueError(f"{path}, line {count}: {printable(name)} already has another label; remove one line.")
    return labels


def _split(line: str, number: Mapping[str, int]) -> tuple[str, int]:
    """Splits a line into a photo's name and label, -1 if it is unknown; names of photos and classes may have spaces."""
    words = line.split(" ")
    for start in range(1, len(words)):  # the longest class name that fits
        label = number.get(" ".join(words[start:]).strip())
        if label is not None:
            return " ".join(words[:start]).strip(), label
    return " ".join(words[:-1]).strip(), int(words[-1]) if words[-1].isdecimal() else -1


def tarfile_at(path: str) -> bool:
    """Whether the path is a tar; False for a folder.

    Raises:
        ValueError: If it is empty, or another file, such as a compressed tar.
        FileNotFoundError: If the path does not exist.
    """
    if not os.path.exists(path):
        raise FileNotFoundError(f"{path}: no such file or folder.")
    if os.path.isdir(path):
        return False
    if not os.path.getsize(path):
        raise ValueError(f"{path}: empty file; download it again.")
    try:
        tarfile.open(path, "r:").close()
    except tarfile.TarError as error:
        raise ValueError(
            f"{path}: not a folder or uncompressed tar. Unpack it and pass the folder, or decompress it to a .tar."
        ) from error
    return True


def _list_folders(path: str) -> list[tuple[str, Raw]]:
    """Lists pairs (class name, photo) of class folders, sorted by path."""
    listing = photos.list_classes(path)
    found = [(name, Raw(key, os.path.join(path, key), -1)) for name, keys in listing.items() for key in keys]
    return sorted(found, key=lambda pair: pair[1].path)


def _list_flat(path: str) -> list[Raw]:
    return [Raw(os.path.relpath(photo, path), photo, -1) for photo in photos.list_images(path)]


def _list_tar(path: str) -> list[tuple[str, Raw]]:
    """Lists pairs (class name, photo) of a tar of class folders, or of one tar per class.

    Folders above the class folders, which all photos have in common, are ignored.
    """
    members = _members(path)
    folders = [os.path.normpath(raw.key).split("/")[:-1] for name, raw in members if name is None]
    common = len(os.path.commonprefix(folders))
    if len({folder[common] for folder in folders if len(folder) > common}) < 2:
        common -= 1  # there is one class
    found, left_out = [], photos.LeftOut()
    for name, raw in members:
        parts = os.path.normpath(raw.key).split("/")[:-1]
        if name is None and len(parts) <= max(common, 0):
            left_out.note(photos.OUTSIDE, raw.key)
        else:
            found.append((parts[max(common, 0)] if name is None else name, raw))
    left_out.log(path)
    return found


def _members(path: str) -> list[tuple[str | None, Raw]]:
    """Lists the photos of a tar, each with the name of the inner tar that contains it, or None.

    Nothing is unpacked; photos are read later from their positions.
    """
    found, left_out = [], photos.LeftOut()
    try:
        with tarfile.open(path, "r:") as outer:
            for member in progress(_whole(outer, path), unit="members of the tar"):
                name = None
                if member.name.endswith(".tar") and member.isfile():
                    name = os.path.splitext(os.path.basename(member.name))[0]
                    with tarfile.open(fileobj=outer.extractfile(member), mode="r:") as inner:
                        inside = [(m, member.offset_data) for m in _whole(inner, f"{path}: {printable(member.name)}")]
                else:
                    inside = [(member, 0)]
                for photo, base in inside:
                    if photo.isdir():
                        continue
                    if reason := photos.why_not(os.path.normpath(photo.name)) or _not_a_file(photo):
                        left_out.note(reason, photo.name)
                        continue
                    key = photo.name if name is None else f"{name}/{photo.name}"
                    found.append((name, Raw(key, path, -1, base + photo.offset_data, photo.size)))
    except tarfile.TarError as error:
        raise ValueError(f"{path}: damaged or truncated ({error}). Download it again.") from error
    left_out.log(path)
    return found


def _not_a_file(member: tarfile.TarInfo) -> str | None:
    return None if member.isfile() else photos.NOT_FILES


def _whole(tar: tarfile.TarFile, name: str) -> Iterator[tarfile.TarInfo]:
    """Yields the members of a tar; raises ValueError if its end mark is missing or not at the end of the file."""
    yield from tar
    file: Any = tar.fileobj
    file.seek(tar.offset)
    if file.read(_BLOCK) != bytes(_BLOCK):
        raise ValueError(f"{name}: damaged or truncated: no end mark after {tar.offset:,} bytes. Download it again.")
    while rest := file.read(1 << 20):
        if rest.strip(b"\0"):
            raise ValueError(
                f"{name}: has more data after its end mark. Unpack it with tar --ignore-zeros, and pass the folder."
            )
