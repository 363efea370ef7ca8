"""Writes the camera page's folder: the app, the runtime, the models, and the list of files to cache."""

import hashlib
import json
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from fd_keras import imagenet, photos
from fd_keras.errors import ProgramError
from fd_keras.io import write_folder
from fd_keras.web import icons, runtime
from fd_keras.web.page_models import PageModel

APP = pathlib.Path(__file__).parent / "app"
MARK = "models.json"  # a folder with this file is a camera page and may be replaced
_WORKER = "service_worker.js"


def write(folder: str, models: Sequence[PageModel], runtime_files: Mapping[str, bytes]) -> list[str]:
    """Writes the folder atomically; replaces an older camera page in it.

    Returns:
        Paths of the written files, relative to the folder.

    Raises:
        ProgramError: If the folder contains files that are not a camera page.
        OSError: If the folder cannot be written.
    """
    check(folder)
    files = contents(models, runtime_files)
    write_folder(folder, files, replace=True)
    return sorted(files)


def check(folder: str) -> None:
    """Raises ProgramError if a folder contains files that are not a camera page, since `write` would delete them."""
    if os.path.islink(folder) or (os.path.lexists(folder) and not os.path.isdir(folder)):
        raise ProgramError(f"--output_dir={folder}: not a folder; pass another one")
    if os.path.isdir(folder) and os.listdir(folder) and not os.path.isfile(os.path.join(folder, MARK)):
        raise ProgramError(
            f"--output_dir={folder}: contains files that are not a camera page; pass another folder, or empty it"
        )


def contents(models: Sequence[PageModel], runtime_files: Mapping[str, bytes]) -> dict[str, bytes]:
    """The files of the page, by path in its folder."""
    files = {path.name: path.read_bytes() for path in sorted(APP.iterdir()) if path.is_file()}
    files |= {f"runtime/{name}": content for name, content in runtime_files.items()}
    files["runtime/NOTICE.txt"] = runtime.NOTICE.encode()
    files |= {f"icon-{side}.png": icons.png(side) for side in icons.SIZES}
    files |= {model.address: model.source.path.read_bytes() for model in models}
    files[MARK] = _json(_settings(models))
    worker = files.pop(_WORKER)
    return files | {_WORKER: b"const KEPT = " + _json(_kept(files, worker)).rstrip() + b";\n" + worker}


def _settings(models: Sequence[PageModel]) -> dict[str, Any]:
    return {
        "runtime": f"LiteRT.js {runtime.VERSION}",
        "longest": imagenet.LONGEST,
        "max_pixels": photos.MAX_PIXELS,
        "models": [model.described() for model in models],
    }


def _kept(files: Mapping[str, bytes], worker: bytes) -> dict[str, Any]:
    """The files that the service worker caches on installation, and a version that changes with any file.

    The runtime has two builds; the page itself caches the one that its browser loaded.
    """
    digest = hashlib.sha256(worker)
    for name in sorted(files):
        digest.update(f"{name}\0{hashlib.sha256(files[name]).hexdigest()}\n".encode())
    named = [name for name in sorted(files) if not name.startswith("runtime/wasm/")]
    return {"version": digest.hexdigest()[:16], "files": named}


def _json(content: Any) -> bytes:
    return (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode()
