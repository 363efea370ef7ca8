"""Finds a model's class names: in its file, in the run that the file belongs to, or in the user's list."""

import logging
import os
from collections.abc import Sequence

from fd_keras import imagenet
from fd_keras.cli import nearest
from fd_keras.io import printable, shortened
from fd_keras.sidecar import read_sidecar, sidecar_path
from fd_keras.tflite_file import read_labels

FILE = "classes.txt"  # in a run's folder, one name per line
_RECORDS = ("run.json", "split.json")  # a run's folder has at least one of these
_LARGEST = 2**24  # maximum bytes of a list

Found = tuple[tuple[str, ...], str]  # names, and where they were found


def names_of(path: str, classes: int, labels: str | None = None) -> tuple[str, ...] | None:
    """Finds a model's class names.

    Args:
        path: Path of a .keras or .tflite file.
        classes: Number of classes.
        labels: Text file with one name per line, used instead of the names in the file, its .json or its run.

    Returns:
        The names in label order, or None if they are unknown.

    Raises:
        ValueError: If the number of names differs from `classes`, or the names are damaged; the message has the file.
        OSError: If a list cannot be read.
    """
    found = (read_lines(labels, f"--labels={labels}"), f"--labels={labels}") if labels else _found(path)
    if found is None:
        return None
    names, where = found
    if len(names) == 1 and classes == 2:  # a single score has a single name
        names = (f"not {names[0]}", names[0])
    if len(names) != classes:
        raise ValueError(f"{where}: {len(names)} class names, but {path} has {classes} classes; correct the list.")
    return names


def run_of(path: str) -> str | None:
    """The run folder of a model: its own folder or the parent; None if neither is a run."""
    folder = os.path.dirname(path) or "."
    above = os.path.normpath(os.path.join(folder, os.pardir))
    return next((run for run in (folder, above) if any(os.path.isfile(os.path.join(run, r)) for r in _RECORDS)), None)


def read_lines(path: str, where: str) -> tuple[str, ...]:
    """Reads a list with one name per line.

    Args:
        path: Path of the list.
        where: Name of the list in messages.

    Raises:
        ValueError: If the file is not UTF-8 text, is too large, or has an empty line.
        OSError: If the path is not a file.
    """
    if not os.path.isfile(path):
        what = "is a folder" if os.path.isdir(path) else "no such file"
        raise FileNotFoundError(f"{where}: {what}; pass a text file with one class name per line.")
    if os.path.getsize(path) > _LARGEST:
        raise ValueError(f"{where}: larger than {_LARGEST >> 20} MiB, so not a list of class names.")
    try:
        with open(path, encoding="utf-8-sig") as file:
            names = tuple(line.strip() for line in file.read().rstrip().split("\n"))
    except UnicodeDecodeError as error:
        raise ValueError(f"{where}: not valid UTF-8 ({error}).") from error
    if "" in names:
        raise ValueError(f"{where}: line {names.index('') + 1} is empty; write one class name per line.")
    return names


def match(folders: Sequence[str], names: Sequence[str] | None, classes: int) -> dict[str, int] | None:
    """Matches class folders with a model's classes by name.

    ImageNet's classes may also be named by WordNet id. If the model's class names are unknown and there are as many
    folders as classes, the folders are labeled in alphabetical order, with a warning.

    Returns:
        Labels by folder, or None if no folder is a class of the model.

    Raises:
        ValueError: If some folders are classes of the model and others are not, or a name is not unique.
    """
    of_imagenet = (imagenet.class_names(), imagenet.wordnet_ids()) if classes == imagenet.CLASSES else ()
    for known in filter(None, (names, *of_imagenet)):
        if not set(folders).isdisjoint(known):
            return _labels(folders, list(known))
    if names is None and len(folders) == classes:
        order = sorted(folders)
        logging.warning("the model's class names are unknown; assuming %s, in this order", shortened(order))
        return {folder: label for label, folder in enumerate(order)}
    return None


def _labels(folders: Sequence[str], names: list[str]) -> dict[str, int]:
    """Labels by folder; raises ValueError for a folder whose name is not in the list exactly once."""
    for folder in folders:
        count = names.count(folder)
        if count == 0:
            way_out = nearest(folder, names) or "; rename it, or move it away."
            raise ValueError(f"folder {printable(folder)!r} is not a class of the model{way_out}")
        if count > 1:
            way_out = "name the folders by WordNet id" if len(names) == imagenet.CLASSES else "rename the classes"
            raise ValueError(f"folder {printable(folder)!r} matches {count} classes of the model; {way_out}.")
    return {folder: names.index(folder) for folder in folders}


def _found(path: str) -> Found | None:
    if path.endswith(".tflite") and (embedded := read_labels(path)):
        return embedded, path
    facts = read_sidecar(path) or {}
    if names := facts.get("class_names"):
        return tuple(names), sidecar_path(path)
    return _of_run(path) or (_of_run(facts["keras_model"]) if facts.get("keras_model") else None)


def _of_run(path: str) -> Found | None:
    run = run_of(path)
    listed = os.path.join(run, FILE) if run else ""
    return (read_lines(listed, listed), listed) if os.path.isfile(listed) else None
