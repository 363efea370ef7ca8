"""run.json, what a run is and came from; and the models it leaves."""

import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import tempfile

import keras
import tensorflow as tf

from fd_keras import version
from fd_keras.io import read_bytes, write_atomically

FILE = "run.json"
PACKAGES = ("tensorflow", "keras", "numpy", "jax", "opencv-python-headless")


def describe(config, data: dict) -> dict:
    """The facts of a run."""
    return {
        "name": config.name,
        "config": config.fixed() | {"precision": keras.config.dtype_policy().name} | config.recipe.settings(),
        "data": {split: {"fingerprint": s.fingerprint, "photos": s.count, "name": s.name} for split, s in data.items()},
        "classes": len(data["train"].classes),
        **origin(),
    }


def origin() -> dict:
    """What a run was started with: the command, and the versions of everything."""
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


def check_same(path: str, now: dict) -> None:
    """Raises ValueError if the folder holds a run of another configuration or other data; names what differs."""
    if not tf.io.gfile.exists(path):
        return
    try:
        before = json.loads(read_bytes(path))
        pairs = {f"--{key}": (value, now["config"].get(key)) for key, value in before["config"].items()}
        for split, facts in before["data"].items():
            pairs[f"{split} photos"] = (facts["fingerprint"], now["data"][split]["fingerprint"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path}: damaged ({error!r}); use another --run_dir.") from error
    differing = [f"{name} was {old}, now {new}" for name, (old, new) in pairs.items() if old != new]
    if differing:
        raise ValueError(
            f"{os.path.dirname(path)} holds another run: {'; '.join(differing)}. Give the same flags to resume it, or "
            "another --run_dir."
        )


def save_model(model: keras.Model, path: str, write: bool = True) -> None:
    """Saves a .keras file atomically, making its folder; with `write` off it only does what Keras does to save."""
    with tempfile.TemporaryDirectory() as folder:
        temporary = os.path.join(folder, os.path.basename(path))
        model.save(temporary)
        if write:
            tf.io.gfile.makedirs(os.path.dirname(path))
            write_atomically(path, read_bytes(temporary))


def run_of(model_path: str) -> dict | None:
    """The configuration of the run whose best/ or last/ a model lies in, if it does."""
    path = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(model_path))), FILE)
    if not os.path.exists(path):
        return None
    return json.loads(read_bytes(path))["config"]
