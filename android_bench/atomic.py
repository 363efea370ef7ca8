"""Atomic writes.

`fd_keras.io` also has them, but this folder must run alone, on a bench machine where the rest of fd_keras is not
installed, and imports only the standard library.
"""

import os
from pathlib import Path


def write_atomically(path: Path, content: bytes, executable: bool = False) -> None:
    """Writes a temporary file next to `path` and renames it, so that `path` is either the old or the new file.

    The content is flushed to the disk before the rename, so that this also holds after a power cut.

    Args:
        path: The file; its folder must exist.
        content: The whole content.
        executable: Whether to set the execute bits.

    Raises:
        OSError: If it cannot be written; the temporary file is removed.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if executable:
            temporary.chmod(0o755)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
