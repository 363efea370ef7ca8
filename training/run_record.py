"""run.json, which says what a run is and what it came from; and the models that the run leaves."""

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
    """What a run was started with: the command, and the versions of everything."""
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
    """The commit of this clone, with "+changes" if files differ from it; None outside of git."""
    folder = os.path.dirname(os.path.abspath(__file__))

    def git(*arguments: str) -> str:
        return subprocess.run(["git", "-C", folder, *arguments], capture_output=True, text=True, check=True).stdout

    try:
        return git("rev-parse", "HEAD").strip() + ("+changes" if git("status", "--porcelain", "-uno").strip() else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def lasting(data: str, val_fraction: float | None = None, tfds_dir: str | None = None) -> dict:
    """Arguments of `sources.open_data` that open the same data from whatever folder."""
    kind, _, rest = data.partition(":")
    if kind == "folder" and is_local(rest):
        data = f"folder:{_absolute(rest)}"
    elif kind != "tfds" and is_local(data):
        data = _absolute(data)
    return {"data": data, "val_fraction": val_fraction, "tfds_dir": tfds_dir and _absolute(tfds_dir)}


def _absolute(path: str) -> str:
    return os.path.abspath(os.path.expanduser(path)) if is_local(path) else path


def check_same(path: str, now: dict, flag: str = "--run_dir") -> None:
    """Raises ValueError if the folder holds a run of another configuration or other data; names what differs.

    Args:
        path: Path of run.json, which may be missing.
        now: What it would hold; "config" and "data" are compared.
        flag: The flag that names the folder.
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
            f"{folder} holds another run: {'; '.join(differing)}. Give the same flags to resume it, or another {flag}."
        )
    if any(changed):
        raise ValueError(
            f"{folder} holds a run on other photos: {'; '.join(filter(None, changed))}. Restore them to resume it, or "
            f"start a new run with another {flag}."
        )


def change_of_data(split: str, before: dict, now: dict) -> str:
    """How the photos of a split differ from those of the record; "" if they do not, as far as both know them."""
    differing = {key for key in before.keys() & now.keys() if before[key] != now[key]}
    if "photos" in differing:
        return f"{split} had {before['photos']:,} photos, now {now['photos']:,}"
    names = "names" if "names" in before and "names" in now else "fingerprint"  # which has the folder's own name too
    if names in differing:
        moved = f" ({before['name']}, now {now['name']})" if "name" in differing else ""
        return f"{split} photos have other names or labels{moved}"
    if differing - {"name", "fingerprint"}:
        return f"{split} photos have other content under the same names"
    return ""


def model_path(run_dir: str, kind: str, name: str) -> str:
    """Path of a model that a run leaves.

    Args:
        run_dir: Folder of the run.
        kind: "last" or "best".
        name: Name of the model.
    """
    return join(run_dir, kind, f"{name}.keras")


def save_model(model: "keras.Model", path: str, write: bool = True) -> None:
    """Saves a .keras file atomically, making its folder; without `write` it only does what Keras does to save."""
    import tensorflow as tf

    with tempfile.TemporaryDirectory() as folder:
        temporary = os.path.join(folder, os.path.basename(path))
        model.save(temporary)
        if write:
            tf.io.gfile.makedirs(os.path.dirname(path))
            write_atomically(path, read_bytes(temporary))


def config_of(path: str) -> dict | None:
    """The configuration of the run whose best/ or last/ a model lies in; None if it lies in no run."""
    record = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(path))), FILE)
    if not is_local(path) or not os.path.exists(record):
        return None
    return read(record)["config"]


def read(path: str) -> dict:
    """The content of a run.json; raises ValueError if it is damaged."""
    try:
        return dict(json.loads(read_bytes(path)))
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path}: not a record of a run ({error}).") from error


def runs_below(folders: list[str]) -> list[dict]:
    """The records of all runs that ended, each with its "folder".

    Raises:
        FileNotFoundError: If there is no such folder.
        ValueError: If a record is damaged; names it.
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
