"""Writing files that are never half there, and hashing them."""

import hashlib
import io
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


def check_figure(path: str) -> None:
    """Raises ValueError if `write_figure` will not be able to write there: no matplotlib, or no such format."""
    try:
        from matplotlib.backend_bases import FigureCanvasBase
    except ImportError as error:
        raise ValueError(f"{path}: drawing needs matplotlib; pip install matplotlib.") from error
    if os.path.splitext(path)[1][1:].lower() not in FigureCanvasBase.get_supported_filetypes():
        raise ValueError(f"{path}: cannot be drawn in that format; name a .png, .svg or .pdf.")


def write_figure(path: str, figure) -> None:
    """Writes a matplotlib figure atomically, in the format that the name ends in."""
    image = io.BytesIO()
    figure.savefig(image, format=os.path.splitext(path)[1][1:].lower(), dpi=130)
    write_atomically(path, image.getvalue())


def sha256_of(path: str) -> str:
    """Hexadecimal sha256 of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
