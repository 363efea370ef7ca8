"""Files that are never half there, on a local disk or in a bucket."""

import json
import os
import tempfile

import tensorflow as tf


def is_local(path: str) -> bool:
    """Whether it is a path of this machine and not an address such as gs://bucket/name."""
    return "://" not in path


def write_atomically(path: str, data: bytes) -> None:
    """Writes beside `path` and renames, so that `path` is old, new or absent, also after a power cut."""
    if not is_local(path):
        with tf.io.gfile.GFile(path, "wb") as file:  # an object store shows an object when it is whole
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


TEMPORARY = ".writing-"  # how unfinished files begin; those of a killed process are swept at the next start


def sweep(folder: str) -> None:
    """Deletes what a killed process left unfinished."""
    for name in tf.io.gfile.listdir(folder):
        if name.startswith(TEMPORARY):
            tf.io.gfile.remove(join(folder, name))


def join(*parts: str) -> str:
    """A path with forward slashes, which local file systems and buckets both take."""
    return "/".join(part.rstrip("/") for part in parts)


def write_json(path: str, content) -> None:
    """Writes a JSON file atomically."""
    write_atomically(path, (json.dumps(content, indent=2) + "\n").encode())


def read_bytes(path: str) -> bytes:
    """The content of a file."""
    with tf.io.gfile.GFile(path, "rb") as file:
        return file.read()
