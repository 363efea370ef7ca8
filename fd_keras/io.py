"""Files on a local disk or in a bucket: atomic writes, JSON, hashes and figures.

Paths with a scheme, such as gs://bucket/name, go through `tf.io.gfile`; TensorFlow is imported only for those.
"""

import contextlib
import hashlib
import io
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TEMPORARY = ".writing-"  # prefix of unfinished files; `remove_unfinished` deletes those of a killed process
_FIGURE_DPI = 130


def is_local(path: str) -> bool:
    """Whether a path is on this machine and not an address such as gs://bucket/name."""
    return "://" not in path


def join(*parts: str) -> str:
    """Joins parts of a path with forward slashes, which work on local file systems and in buckets."""
    return "/".join(part.rstrip("/") for part in parts)


def _gfile():
    import tensorflow as tf

    return tf.io.gfile


def write_atomically(path: str | os.PathLike, data: bytes) -> None:
    """Writes a temporary file beside `path` and renames it, so that `path` is old, new or absent, never incomplete.

    The data is synced to disk before the rename, so this also holds after a power failure.

    Args:
        path: Local path, or the address of an object.
        data: Content of the file.

    Raises:
        OSError: If the file cannot be written; the temporary file is deleted.
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


def write_folder(folder: str, files: Mapping[str, bytes], replace: bool = False) -> None:
    """Writes files into a local folder, all or none; folders above it are made.

    Args:
        folder: Path of the folder.
        files: Contents by path in the folder, with forward slashes.
        replace: Whether an existing folder is replaced, with all that it contains.

    Raises:
        OSError: If the folder contains something and is not to be replaced, or cannot be written; names the folder.
    """
    try:
        _write_folder(folder, files, replace)
    except OSError as error:
        raise cannot_write(error, folder) from error


def cannot_write(error: OSError, folder: str) -> OSError:
    """The error to raise for a folder that cannot be written to; names the folder and the remedy."""
    reason = error.strerror or str(error)
    return OSError(f"{folder}: cannot be written to ({reason}); free space there, or pass another folder")


def _write_folder(folder: str, files: Mapping[str, bytes], replace: bool) -> None:
    above = os.path.dirname(os.path.abspath(folder))
    os.makedirs(above, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=TEMPORARY, dir=above) as work:
        new, old = os.path.join(work, "new"), os.path.join(work, "old")
        os.mkdir(new)
        for name, content in files.items():
            path = os.path.join(new, name)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "wb") as file:
                file.write(content)
        os.chmod(new, 0o755)
        if replace and os.path.lexists(folder):
            os.rename(folder, old)
        os.rename(new, folder)  # refuses a folder that is not empty
        shutil.rmtree(old, ignore_errors=True)


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
        work: Activity in the folder, for the error message: "training into".

    Raises:
        OSError: If another process has locked the folder.
    """
    import fcntl  # not available on Windows

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
    """Names in a local folder or a bucket."""
    return os.listdir(folder) if is_local(folder) else list(_gfile().listdir(folder))


def list_entries(folder: str) -> tuple[list[str], list[str], list[str]]:
    """Names of the folders, the files, and the other entries (such as broken links) in a folder.

    Links count as their targets. In a bucket, where lookups are slow, names with a suffix count as files.
    """
    if not is_local(folder):
        names = _gfile().listdir(folder)
        below = {name for name in names if name.endswith("/") or _is_remote_folder(folder, name)}
        return sorted(name.rstrip("/") for name in below), sorted(set(names) - below), []
    folders, files, others = [], [], []
    with os.scandir(folder) as entries:
        for entry in entries:
            try:
                (folders if entry.is_dir() else files if entry.is_file() else others).append(entry.name)
            except OSError:  # a link to itself
                others.append(entry.name)
    return sorted(folders), sorted(files), sorted(others)


def _is_remote_folder(folder: str, name: str) -> bool:
    return not os.path.splitext(name)[1] and _gfile().isdir(join(folder, name))


def printable(name: str) -> str:
    """Escapes control characters and bytes that are not text, to show a name from an untrusted source."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in name)


def shortened(names: Sequence[str], most: int = 3) -> str:
    """Formats a list of names for a message: the first `most`, escaped, and "..." if there are more."""
    return ", ".join([*map(printable, names[:most]), *(["..."] if len(names) > most else [])])


def read_bytes(path: str) -> bytes:
    """Content of a file on a local disk or in a bucket."""
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
    """Raises ValueError unless `write_figure` can write to the path.

    Checks that matplotlib is installed and supports the format, and that the folder exists.
    """
    try:
        from matplotlib.backend_bases import FigureCanvasBase
    except ImportError as error:
        raise ValueError(f"{path}: plotting needs matplotlib; run pip install matplotlib.") from error
    if _format_of(path) not in FigureCanvasBase.get_supported_filetypes():
        raise ValueError(f"{path}: unsupported file format; use .png, .svg or .pdf.")
    if not os.path.isdir(os.path.dirname(path) or "."):
        raise ValueError(f"{path}: the folder {os.path.dirname(path)} does not exist; create it first.")


def write_figure(path: str, figure: "Figure") -> None:
    """Writes a matplotlib figure atomically, in the format given by the suffix."""
    image = io.BytesIO()
    figure.savefig(image, format=_format_of(path), dpi=_FIGURE_DPI)
    write_atomically(path, image.getvalue())


def _format_of(path: str) -> str:
    return os.path.splitext(path)[1][1:].lower()
