"""Checks the output folder before the work, and writes each .tflite file together with its .json."""

import contextlib
import fcntl
import os
import tempfile
from collections.abc import Iterator, Mapping

from fd_keras.io import cannot_write, remove_unfinished, write_atomically, write_json
from fd_keras.tflite.format.sidecar import sidecar_path


def check_folder(folder: str) -> None:
    """Checks that files can be written to a folder, and removes unfinished files from it.

    A folder that does not exist is not created, so that a program that fails early leaves nothing behind.

    Raises:
        OSError: If the folder cannot be written to or created; the message names it.
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
        raise cannot_write(error, folder) from error


def check_file(flag: str, path: str) -> None:
    """Raises FileNotFoundError, naming the flag, unless `path` is a file."""
    if not os.path.isfile(path):
        raise FileNotFoundError(f"--{flag}={path}: no such file")


def write_pair(path: str, data: bytes, facts: Mapping) -> None:
    """Writes a .tflite file and its .json; a process killed in between leaves only the .tflite file.

    Raises:
        OSError: If the disk is full or the folder is read-only; names the folder. Neither file is left.
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
    """Creates the folder of a file, and removes `replaced`, an older description that would not match the new file.

    Raises:
        OSError: If that fails, or the block raises one; the message names the folder.
    """
    folder = os.path.dirname(path) or "."
    try:
        os.makedirs(folder, exist_ok=True)
        with _locked(folder, fcntl.LOCK_SH):  # so that no other process removes our unfinished files
            with contextlib.suppress(FileNotFoundError):
                os.unlink(replaced)
            yield
    except OSError as error:
        raise cannot_write(error, folder) from error


def _clear(folder: str) -> None:
    """Removes unfinished files of killed processes, unless another process is writing there."""
    with _locked(folder, fcntl.LOCK_EX | fcntl.LOCK_NB) as alone:
        if alone:
            remove_unfinished(folder)


@contextlib.contextmanager
def _locked(folder: str, kind: int) -> Iterator[bool]:
    """Locks the folder until the block or the process ends; yields whether that succeeded."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, kind)
        locked = True
    except OSError:  # another process holds the lock, or the file system does not support locks
        locked = False
    try:
        yield locked
    finally:
        os.close(handle)
