"""The record of a run, run.json: its configuration, data and origin. Also saves and finds the run's models."""

import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import tempfile
from typing import TYPE_CHECKING

from fd_keras import version
from fd_keras.io import is_local, join, list_folder, read_bytes, write_atomically

if TYPE_CHECKING:
    import keras

FILE = "run.json"
PACKAGES = ("tensorflow", "keras", "numpy", "jax", "opencv-python-headless")


def origin() -> dict:
    """Returns the origin of a run: command, backend, versions of the packages and git commit."""
    import keras

    return {
        "command": [sys.executable, *sys.argv],
        "backend": keras.backend.backend(),
        "versions": {"fd_keras": version.__version__, "python": platform.python_version(), **_versions()},
        "git_commit": git_commit(),
    }


def _versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def git_commit() -> str | None:
    """Returns the commit of this clone, with "+changes" if files differ from it; None outside of git."""
    folder = os.path.dirname(os.path.abspath(__file__))

    def git(*arguments: str) -> str:
        return subprocess.run(["git", "-C", folder, *arguments], capture_output=True, text=True, check=True).stdout

    try:
        return git("rev-parse", "HEAD").strip() + ("+changes" if git("status", "--porcelain", "-uno").strip() else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def lasting(data: str, val_fraction: float | None = None, tfds_dir: str | None = None) -> dict:
    """Returns arguments of `data_sets.open_data` with absolute paths, which open the same data from any folder."""
    kind, _, rest = data.partition(":")
    if kind == "folder" and is_local(rest):
        data = f"folder:{_absolute(rest)}"
    elif kind != "tfds" and is_local(data):
        data = _absolute(data)
    return {"data": data, "val_fraction": val_fraction, "tfds_dir": tfds_dir and _absolute(tfds_dir)}


def _absolute(path: str) -> str:
    return os.path.abspath(os.path.expanduser(path)) if is_local(path) else path


def check_same(path: str, now: dict, flag: str = "--run_dir") -> None:
    """Raises ValueError if the folder contains a run with another configuration or other data; names the differences.

    Args:
        path: Path of run.json, which may not exist.
        now: Record of the new run; "config" and "data" are compared.
        flag: Flag that names the folder.
    """
    folder, name = os.path.split(path)
    if name not in list_folder(folder):
        return
    try:
        before = json.loads(read_bytes(path))
        pairs = {f"--{key}": (value, now["config"].get(key)) for key, value in before["config"].items()}
        changed = [change_of_data(split, facts, now["data"][split]) for split, facts in before["data"].items()]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path}: damaged ({error!r}); use another {flag}.") from error
    differing = [f"{name} was {old}, now {new}" for name, (old, new) in pairs.items() if old != new]
    if differing:
        raise ValueError(
            f"{folder} contains another run: {'; '.join(differing)}. Pass the same flags to resume it, or another "
            f"{flag}."
        )
    if any(changed):
        raise ValueError(
            f"{folder} contains a run on other photos: {'; '.join(filter(None, changed))}. Restore them to resume it, "
            f"or start a new run with another {flag}."
        )


def change_of_data(split: str, before: dict, now: dict) -> str:
    """Describes how the photos of a split differ from the record; "" if they are equal in everything both contain."""
    differing = {key for key in before.keys() & now.keys() if before[key] != now[key]}
    if "photos" in differing:
        return f"{split} had {before['photos']:,} photos, now {now['photos']:,}"
    names = "names" if "names" in before and "names" in now else "fingerprint"  # which includes the folder's name
    if names in differing:
        moved = f" ({before['name']}, now {now['name']})" if "name" in differing else ""
        return f"{split} photos have different names or labels{moved}"
    if differing - {"name", "fingerprint"}:
        return f"{split} photos have the same names, but different content"
    return ""


def model_path(run_dir: str, kind: str, name: str) -> str:
    """Returns the path of a saved model of a run.

    Args:
        run_dir: Folder of the run.
        kind: "last" or "best".
        name: Name of the model.
    """
    return join(run_dir, kind, f"{name}.keras")


def save_model(model: "keras.Model", path: str, write: bool = True) -> None:
    """Saves a .keras file atomically, and creates its folder.

    Args:
        model: Model to save.
        path: Path of the file.
        write: Whether to write the file; False on other processes, which must take part in Keras's saving.
    """
    import tensorflow as tf

    with tempfile.TemporaryDirectory() as folder:
        temporary = os.path.join(folder, os.path.basename(path))
        model.save(temporary)
        if write:
            tf.io.gfile.makedirs(os.path.dirname(path))
            write_atomically(path, read_bytes(temporary))


def config_of(path: str) -> dict | None:
    """Returns the configuration of the run that saved a model in best/ or last/; None for other models."""
    record = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(path))), FILE)
    if not is_local(path) or not os.path.exists(record):
        return None
    return read(record)["config"]


def read(path: str) -> dict:
    """Reads a run.json; raises ValueError if it is damaged."""
    try:
        return dict(json.loads(read_bytes(path)))
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path}: damaged ({error}).") from error


def runs_below(folders: list[str]) -> list[dict]:
    """Reads the records of all finished runs below some folders, each with its "folder".

    Raises:
        FileNotFoundError: If a folder does not exist.
        ValueError: If a record is damaged; the message names it.
    """
    found = []
    for folder in folders:
        if not os.path.isdir(folder):
            raise FileNotFoundError(f"{folder}: no such folder.")
        for root, _, names in sorted(os.walk(folder)):
            if FILE in names:
                run = read(os.path.join(root, FILE))
                if "result" in run:
                    found.append(run | {"folder": root})
    return found
