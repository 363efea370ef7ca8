"""Files: atomic writes, JSON, hashes and figures; the one place for each, on a local disk or in a bucket.

Paths with a scheme, such as gs://bucket/name, go through `tf.io.gfile`; TensorFlow is imported only for those.
"""

import contextlib
import hashlib
import io
import json
import os
import tempfile
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TEMPORARY = ".writing-"  # how unfinished files begin; `remove_unfinished` deletes those of a killed process
_FIGURE_DPI = 130


def is_local(path: str) -> bool:
    """Whether it is a path of this machine and not an address such as gs://bucket/name."""
    return "://" not in path


def join(*parts: str) -> str:
    """A path with forward slashes, which local file systems and buckets both take."""
    return "/".join(part.rstrip("/") for part in parts)


def _gfile():
    import tensorflow as tf

    return tf.io.gfile


def write_atomically(path: str | os.PathLike, data: bytes) -> None:
    """Writes a temporary file beside `path` and renames it, so that `path` is old, new or absent, never cut short.

    The data is on the disk before the rename, so that this holds after a power cut too.

    Args:
        path: Local path, or the address of an object.
        data: The whole content.

    Raises:
        OSError: If it cannot be written; the temporary file is gone then.
    """
    path = os.fspath(path)
    if not is_local(path):
        with _gfile().GFile(path, "wb") as file:  # an object store shows an object only once it is complete
            file.write(data)
        return
    handle, temporary = tempfile.mkstemp(dir=os.path.dirname(os.path.abspath(path)), prefix=TEMPORARY)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def remove_unfinished(folder: str) -> None:
    """Deletes the temporary files that a killed process left in a folder."""
    for name in list_folder(folder):
        if name.startswith(TEMPORARY):
            os.remove(join(folder, name)) if is_local(folder) else _gfile().remove(join(folder, name))


@contextlib.contextmanager
def locked(folder: str, work: str) -> Iterator[None]:
    """Keeps other processes out of a local folder while the block runs; a killed process leaves no lock.

    Args:
        folder: Local folder, or one in a bucket, which cannot be locked.
        work: What this process and those others do, for the message: "training into".

    Raises:
        OSError: If another process has locked the folder.
    """
    import fcntl  # which Windows lacks

    if not is_local(folder):
        yield
        return
    with open(os.path.join(folder, ".lock"), "w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise OSError(f"another process is {work} it") from error
        yield


def list_folder(folder: str) -> list[str]:
    """Names in a folder, of a local disk or a bucket."""
    return os.listdir(folder) if is_local(folder) else list(_gfile().listdir(folder))


def list_entries(folder: str) -> tuple[list[str], list[str], list[str]]:
    """Names of the folders, of the files and of what is neither (such as a link that leads nowhere) in a folder.

    Links count as what they lead to. In a bucket, where asking takes long, what has a suffix counts as a file.
    """
    if not is_local(folder):
        names = _gfile().listdir(folder)
        below = {name for name in names if name.endswith("/") or _is_remote_folder(folder, name)}
        return sorted(name.rstrip("/") for name in below), sorted(set(names) - below), []
    folders, files, others = [], [], []
    with os.scandir(folder) as entries:
        for entry in entries:
            (folders if entry.is_dir() else files if entry.is_file() else others).append(entry.name)
    return sorted(folders), sorted(files), sorted(others)


def _is_remote_folder(folder: str, name: str) -> bool:
    return not os.path.splitext(name)[1] and _gfile().isdir(join(folder, name))


def printable(name: str) -> str:
    """A name from outside, to be shown: control characters and bytes that are not text are escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in name)


def shortened(names: Sequence[str], most: int = 3) -> str:
    """A list of names for a message: the first `most` of them, printable, and "..." if there are more."""
    return ", ".join([*map(printable, names[:most]), *(["..."] if len(names) > most else [])])


def read_bytes(path: str) -> bytes:
    """Content of a file, of a local disk or a bucket."""
    if is_local(path):
        with open(path, "rb") as file:
            return file.read()
    with _gfile().GFile(path, "rb") as file:
        return file.read()


def write_json(path: str | os.PathLike, content: Any) -> None:
    """Writes a JSON file atomically."""
    write_atomically(path, (json.dumps(content, indent=2) + "\n").encode())


def sha256_of(path: str | os.PathLike) -> str:
    """Hexadecimal sha256 of a local file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_figure(path: str) -> None:
    """Raises ValueError unless `write_figure` can draw there: matplotlib knows the format, and the folder exists.

    Without matplotlib the message says how to install it.
    """
    try:
        from matplotlib.backend_bases import FigureCanvasBase
    except ImportError as error:
        raise ValueError(f"{path}: drawing needs matplotlib; pip install matplotlib.") from error
    if _format_of(path) not in FigureCanvasBase.get_supported_filetypes():
        raise ValueError(f"{path}: cannot be drawn in that format; name a .png, .svg or .pdf.")
    if not os.path.isdir(os.path.dirname(path) or "."):
        raise ValueError(f"{path}: there is no folder {os.path.dirname(path)}; make it first.")


def write_figure(path: str, figure: "Figure") -> None:
    """Writes a matplotlib figure atomically, in the format that the name ends in."""
    image = io.BytesIO()
    figure.savefig(image, format=_format_of(path), dpi=_FIGURE_DPI)
    write_atomically(path, image.getvalue())


def _format_of(path: str) -> str:
    return os.path.splitext(path)[1][1:].lower()
