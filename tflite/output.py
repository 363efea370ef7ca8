"""The folder that files are written into: checked before the work, and each .tflite written together with its .json."""

import contextlib
import fcntl
import os
import tempfile
from collections.abc import Iterator, Mapping

from fd_keras.io import remove_unfinished, write_atomically, write_json
from fd_keras.tflite.format.sidecar import sidecar_path


def check_folder(folder: str) -> None:
    """Raises OSError unless files can be written into a folder, or it can be made; clears it of unfinished files.

    Nothing is made, so that a program that fails before it writes leaves nothing behind.
    """
    existing = os.path.abspath(folder)
    while not os.path.lexists(existing):
        existing = os.path.dirname(existing)
    try:
        with tempfile.TemporaryFile(dir=existing):
            pass
        if os.path.isdir(folder):
            _clear(folder)
    except OSError as error:
        raise _explained(error, folder) from error


def check_file(flag: str, path: str) -> None:
    """Raises FileNotFoundError, which names the flag, unless there is a file."""
    if not os.path.isfile(path):
        raise FileNotFoundError(f"--{flag}={path}: no such file")


def write_pair(path: str, data: bytes, facts: Mapping) -> None:
    """Writes a .tflite file and its .json; a process killed between the two leaves the file without one.

    Raises:
        OSError: If there is no room, or the folder is read-only; names it. Neither file is left.
    """
    with writing(path, replaced=sidecar_path(path)):
        write_atomically(path, data)
        try:
            write_json(sidecar_path(path), facts)
        except OSError:
            os.unlink(path)
            raise


@contextlib.contextmanager
def writing(path: str, replaced: str) -> Iterator[None]:
    """Makes the folder of two files, and removes the second, which would describe another first one meanwhile.

    Raises:
        OSError: If that, or the writing in the block, fails; names the folder.
    """
    folder = os.path.dirname(path) or "."
    try:
        os.makedirs(folder, exist_ok=True)
        with _locked(folder, fcntl.LOCK_SH):  # so that no other process clears it meanwhile
            with contextlib.suppress(FileNotFoundError):
                os.unlink(replaced)
            yield
    except OSError as error:
        raise _explained(error, folder) from error


def _explained(error: OSError, folder: str) -> OSError:
    reason = error.strerror or str(error)
    return OSError(f"{folder}: cannot be written to ({reason}); make room there, or name another folder")


def _clear(folder: str) -> None:
    """Removes what killed processes left, unless another process is writing there."""
    with _locked(folder, fcntl.LOCK_EX | fcntl.LOCK_NB) as alone:
        if alone:
            remove_unfinished(folder)


@contextlib.contextmanager
def _locked(folder: str, kind: int) -> Iterator[bool]:
    """Locks the folder itself, until the block or the process ends; yields whether that was possible."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, kind)
        locked = True
    except OSError:  # another process has it, or the file system knows no locks
        locked = False
    try:
        yield locked
    finally:
        os.close(handle)
