"""Names of a model's classes: from its file, from the run that the file lies in, or from a list of the user's."""

import os
from collections.abc import Sequence

from fd_keras import imagenet
from fd_keras.cli import nearest
from fd_keras.io import printable
from fd_keras.sidecar import read_sidecar, sidecar_path
from fd_keras.tflite_file import read_labels

FILE = "classes.txt"  # in a run's folder, one name a line
_RECORDS = ("run.json", "split.json")  # one of them is in a run's folder
_LARGEST = 2**24  # bytes of a list

Found = tuple[tuple[str, ...], str]  # names, and where they are


def names_of(path: str, classes: int, labels: str | None = None) -> tuple[str, ...] | None:
    """Names of the classes of a model in label order.

    Args:
        path: Path of a .keras or .tflite file.
        classes: Number of its classes.
        labels: File of one name a line, instead of what is known of the model.

    Returns:
        The names, or None where nothing names them.

    Raises:
        ValueError: If there are not as many names as classes, or the names are damaged; says where.
        OSError: If a list cannot be read.
    """
    found = (read_lines(labels, f"--labels={labels}"), f"--labels={labels}") if labels else _found(path)
    if found is None:
        return None
    names, where = found
    if len(names) == 1 and classes == 2:  # one score, and so one name
        names = (f"not {names[0]}", names[0])
    if len(names) != classes:
        raise ValueError(f"{where}: {len(names)} class names, but {path} has {classes} classes; correct the list.")
    return names


def run_of(path: str) -> str | None:
    """The folder of the run that a model lies in, directly or one folder below; None if it lies in none."""
    folder = os.path.dirname(path) or "."
    above = os.path.normpath(os.path.join(folder, os.pardir))
    return next((run for run in (folder, above) if any(os.path.isfile(os.path.join(run, r)) for r in _RECORDS)), None)


def read_lines(path: str, where: str) -> tuple[str, ...]:
    """Reads a list of one name a line.

    Args:
        path: Path of the list.
        where: What messages call it.

    Raises:
        ValueError: If it is not UTF-8 text, too large, or a line is empty.
        OSError: If it is not there.
    """
    if not os.path.isfile(path):
        raise FileNotFoundError(f"{where}: no such file; a text file of one class name a line is needed.")
    if os.path.getsize(path) > _LARGEST:
        raise ValueError(f"{where}: larger than {_LARGEST >> 20} MiB, which no list of class names is.")
    try:
        with open(path, encoding="utf-8-sig") as file:
            names = tuple(line.strip() for line in file.read().rstrip().split("\n"))
    except UnicodeDecodeError as error:
        raise ValueError(f"{where}: not valid UTF-8 ({error}).") from error
    if "" in names:
        raise ValueError(f"{where}: line {names.index('') + 1} is empty; write one class name a line.")
    return names


def match(folders: Sequence[str], names: Sequence[str] | None, classes: int) -> dict[str, int] | None:
    """Labels of class folders, by their names.

    ImageNet's classes also go by their WordNet ids. Of a model without names the folders are taken in order, if there
    are as many as classes.

    Returns:
        Label by folder, or None if nothing relates the folders to the model.

    Raises:
        ValueError: If some folders are classes of the model and others are not, or a name is not unique.
    """
    known = [list(names)] if names else []
    known += [list(imagenet.wordnet_ids())] if classes == imagenet.CLASSES else []
    for each in known:
        strange = [folder for folder in folders if folder not in each]
        if len(strange) < len(folders):
            if strange:
                near = nearest(strange[0], each)
                raise ValueError(f"folder {printable(strange[0])!r} is not a class of the model{near}; rename it.")
            if twice := next((folder for folder in folders if each.count(folder) > 1), None):
                raise ValueError(f"folder {printable(twice)!r} is the name of several classes of the model.")
            return {folder: each.index(folder) for folder in folders}
    if names is None and len(folders) == classes:
        return {folder: label for label, folder in enumerate(sorted(folders))}
    return None


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
