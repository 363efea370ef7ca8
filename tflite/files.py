"""Writing files that are never half there, and hashing them."""

import hashlib
import json
import os
import tempfile


def write_atomically(path: str, data: bytes) -> None:
    """Writes to a temporary file beside `path` and renames it, so that `path` is either old, new or absent."""
    handle, temporary = tempfile.mkstemp(dir=os.path.dirname(os.path.abspath(path)), prefix=".writing-")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def write_json(path: str, content: dict) -> None:
    """Writes a JSON file atomically."""
    write_atomically(path, (json.dumps(content, indent=2) + "\n").encode())


def sha256_of(path: str) -> str:
    """Hexadecimal sha256 of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
