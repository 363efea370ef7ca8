"""Opens photos to evaluate a model on: a run's held-out photos, or class folders matched to its classes by name."""

import logging
import os
from collections.abc import Sequence

from fd_keras import class_names, imagenet, photos
from fd_keras.io import is_local, join, list_entries, printable, shortened
from fd_keras.training import data_sets, run_record, sources
from fd_keras.training.finetune import photo_folder, split
from fd_keras.training.shards import INDEX
from fd_keras.training.sources import Folder, Source

_PASS_PHOTOS = "pass photos instead of --run_dir"


def of_run(run_dir: str) -> Source:
    """Opens the photos that a run of `fd-keras train` or `fd-keras finetune` held out.

    Raises:
        FileNotFoundError: If the folder is not a run, or its photos are missing.
        ValueError: If its record is damaged or does not name its photos, or the photos have changed.
    """
    if os.path.isfile(join(run_dir, split.FILE)):
        return _of_split(run_dir)
    record = read_run(run_dir)
    opened = record.get("opened") or _of_command(record.get("command"))
    if not isinstance(opened, dict) or not isinstance(opened.get("data"), str):
        raise ValueError(f"--run_dir={run_dir}: {run_record.FILE} does not name the photos; {_PASS_PHOTOS}.")
    try:
        val = data_sets.open_data(**opened)["val"]
        changed = run_record.change_of_data("val", record["data"]["val"], sources.describe(val))
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{join(run_dir, run_record.FILE)}: damaged ({error!r}); {_PASS_PHOTOS}.") from error
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"--run_dir={run_dir}: the held-out photos are missing ({error}) Restore them, or {_PASS_PHOTOS}."
        ) from error
    if changed:
        raise ValueError(
            f"--run_dir={run_dir}: the held-out photos have changed: {changed}. Restore them, or {_PASS_PHOTOS}."
        )
    return val


def is_known(run_dir: str) -> bool:
    """Whether a run's folder names its held-out photos. The photos may be missing."""
    try:
        if os.path.isfile(join(run_dir, split.FILE)):
            return bool(split.read(run_dir).held_out)
        record = read_run(run_dir)
        return bool(record.get("opened") or _of_command(record.get("command")))
    except (ValueError, OSError):
        return False


def read_run(run_dir: str) -> dict:
    """Reads the record of a run.

    Raises:
        FileNotFoundError: If the folder is not a run.
        ValueError: If the record is damaged.
    """
    path = join(run_dir, run_record.FILE)
    if not os.path.isfile(path):
        raise FileNotFoundError(f"--run_dir={run_dir}: not a run (it has no {run_record.FILE} or {split.FILE}).")
    return run_record.read(path)


def model_of(run_dir: str) -> str:
    """Finds the .keras file of a run.

    Raises:
        FileNotFoundError: If the folder is not a run.
        ValueError: If the record is damaged, or the run has no model or several.
    """
    if not os.path.isdir(run_dir):
        raise FileNotFoundError(f"--run_dir={run_dir}: no such folder.")
    found = [join(run_dir, name) for name in sorted(os.listdir(run_dir)) if name.endswith(".keras")]
    if not found:
        last = run_record.model_path(run_dir, "last", str(read_run(run_dir).get("name")))
        found = [last] if os.path.isfile(last) else []
    if len(found) != 1:
        raise ValueError(f"--run_dir={run_dir}: found {len(found)} .keras files; pass one as --model.")
    return found[0]


def _of_split(run_dir: str) -> Folder:
    found = split.read(run_dir)
    paths = [path for path, _ in found.held_out]
    gone = [path for path in paths if not os.path.isfile(path)]
    if not paths:
        raise ValueError(f"--run_dir={run_dir}: the run has no held-out photos; {_PASS_PHOTOS}.")
    if found.refit:
        logging.warning(
            "%s: the final network was also trained on the held-out photos, so its accuracy on them is not meaningful",
            run_dir,
        )
    if gone:
        raise FileNotFoundError(
            f"--run_dir={run_dir}: {len(gone)} of its {len(paths)} held-out photos are missing ({shortened(gone)}). "
            f"Restore them, or {_PASS_PHOTOS}."
        )
    return Folder(f"{run_dir} (held out)", paths, [label for _, label in found.held_out], found.classes)


def _of_command(command: object) -> dict | None:
    """Parses the arguments of `data_sets.open_data` from the command of a run, for records that do not contain them."""
    flags = {}
    words = [str(word) for word in command] if isinstance(command, list) else []
    for word, after in zip(words, [*words[1:], ""], strict=False):
        name, equals, value = word.lstrip("-").partition("=")
        if word.startswith("-") and name in ("data", "val_fraction", "tfds_dir"):
            flags[name] = value if equals else after
    if "val_fraction" in flags:
        flags["val_fraction"] = float(flags["val_fraction"])
    return flags or None


def of_data(
    data: str,
    names: Sequence[str] | None,
    classes: int,
    *,
    val_fraction: float | None = None,
    tfds_dir: str | None = None,
) -> Source:
    """Opens the photos that `--data` of `fd-keras evaluate` names.

    Args:
        data: As for `data_sets.open_data`, or a folder of class folders, whose photos are all used.
        names: Class names of the model, or None if they are unknown.
        classes: Number of classes of the model.
        val_fraction: Share of each class that was held out in training; only these photos are used.
        tfds_dir: Folder of TensorFlow Datasets.

    Raises:
        ValueError: If it is not a data set, or its classes are not those of the model.
        OSError: If it cannot be read.
    """
    kind, _, rest = data.partition(":")
    root = os.path.expanduser(rest if kind == "folder" and rest else data)
    if kind == "tfds" or (kind != "folder" and (not os.path.isdir(root) or os.path.isfile(join(root, INDEX)))):
        return data_sets.open_data(data, val_fraction=val_fraction, tfds_dir=tfds_dir)["val"]
    if val_fraction is None and is_local(root):
        found = of_folder(root, names, classes)
        if found is None:
            raise ValueError(f"--data={data}: {_unrelated(root, names, classes)}")
        return found
    val = data_sets.open_data(f"folder:{root}", val_fraction=val_fraction)["val"]
    assert isinstance(val, Folder)
    if (label_of := class_names.match(val.classes, names, classes)) is None:
        raise ValueError(f"--data={data}: {_unrelated(root, names, classes)}")
    return val.relabeled(label_of, _titles(label_of, names, classes))


def of_folder(root: str, names: Sequence[str] | None, classes: int) -> Folder | None:
    """Opens class folders, or those in val/ if there is also a train/, with the labels of a model.

    Args:
        root: Local folder.
        names: Class names of the model, or None if they are unknown.
        classes: Number of classes of the model.

    Returns:
        The photos; None if there are no class folders, or none of them is a class of the model.

    Raises:
        FileNotFoundError: If the folder does not exist.
        ValueError: If only some of the folders are classes of the model, a class has no photos, or there is a train/
            but no val/.
    """
    if not os.path.isdir(root):
        raise FileNotFoundError(f"{root}: no such folder.")
    train, held_out = _sides(root)
    try:
        label_of = class_names.match(class_folders(train), names, classes)
    except ValueError as error:
        raise ValueError(f"{train}: {error}") from error
    if label_of is None:
        return None
    listing = data_sets.list_classes(held_out)
    if strange := sorted(listing.keys() - label_of.keys()):
        raise ValueError(f"{held_out}: folder {printable(strange[0])!r} is not a class in {train}; rename it.")
    titles = _titles(label_of, names, classes)
    present = {label_of[name] for name in listing}
    _log_absent([title for label, title in enumerate(titles) if label not in present], held_out)
    pairs = [(path, label_of[name]) for name, paths in listing.items() for path in paths]
    data_sets.warn_of_rotated([path for path, _ in pairs])
    return Folder(held_out, [path for path, _ in pairs], [label for _, label in pairs], titles)


def _sides(root: str) -> tuple[str, str]:
    """Returns the folder whose class folders define the labels, and the folder to evaluate on; usually the same."""
    train, sides = photo_folder.side_folders(root)
    if train is None:
        return root, root
    if not sides:
        raise ValueError(
            f"{root}: found {train}/ but no val/. Add one, or pass the folder that contains the class folders."
        )
    return join(root, train), join(root, sides[0])


def class_folders(root: str) -> list[str]:
    """Returns the names of the visible subfolders."""
    return [name for name in list_entries(root)[0] if not photos.is_hidden(name)]


def _titles(label_of: dict[str, int], names: Sequence[str] | None, classes: int) -> Sequence[str]:
    """Returns a name for each class of the model."""
    folders = {label: name for name, label in label_of.items()}
    if names is None and classes == imagenet.CLASSES:
        known = (imagenet.wordnet_ids(), imagenet.class_names())
        names = next((each for each in known if label_of.keys() <= set(each)), None)
    return names or [folders.get(label, f"class {label}") for label in range(classes)]


def _log_absent(titles: Sequence[str], root: str) -> None:
    if titles:
        logging.warning("%s: no photos for %d of the model's classes (%s)", root, len(titles), shortened(titles))


def _unrelated(root: str, names: Sequence[str] | None, classes: int) -> str:
    """Explains why class folders do not match a model, and how to fix it."""
    folders = class_folders(_sides(root)[0]) if is_local(root) else []
    if not folders:
        return "no class folders found; make one folder of photos per class."
    found = f"{len(folders)} class folders ({shortened(folders)})"
    names = names or (imagenet.class_names() if classes == imagenet.CLASSES else None)
    if names is None:
        return (
            f"{found}, but the model has {classes} classes, and their names are unknown. Make one folder per class, "
            'or add the names as "class_names" to the .json beside the model.'
        )
    return f"{found}, none of which is a class of the model ({shortened(names)}); rename them."
