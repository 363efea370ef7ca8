"""Opens the data set that `--data` names: prepared shards, class folders, or TensorFlow Datasets (TFDS)."""

import hashlib
import json
import logging
import os
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from fd_keras import photos
from fd_keras.io import is_local, join, printable, shortened
from fd_keras.training.finetune import photo_folder
from fd_keras.training.shards import INDEX
from fd_keras.training.sources import SPLITS, Folder, Shards, Source, Tfds, hash_of

_EXAMINED = 500  # photos of a folder whose EXIF orientation is examined
_FEW_ROTATED = 0.01  # share of rotated photos that is not worth a warning


def open_data(data: str, *, val_fraction: float | None = None, tfds_dir: str | None = None) -> dict[str, Source]:
    """Opens the training and validation sets that `--data` names.

    Args:
        data: Folder of prepared shards, "folder:DIR" or "tfds:NAME".
        val_fraction: Share of each class to hold out, for folders without a validation set.
        tfds_dir: Folder of TensorFlow Datasets.

    Returns:
        {"train": ..., "val": ...}.

    Raises:
        ValueError: If it cannot be used for training, for example because there is no validation set.
        OSError: If it cannot be read.
    """
    kind, _, rest = data.partition(":")
    if kind == "folder" and rest:
        sources = _open_folder(rest, val_fraction)
    elif kind == "tfds" and rest:
        sources = _open_tfds(rest, tfds_dir)
    else:
        sources = _open_shards(data)
    if val_fraction is not None and kind != "folder":
        raise ValueError(
            f"--val_fraction only works with --data=folder:DIR; {data} has its own validation set. Leave it out."
        )
    for split, source in sources.items():
        if not source.count:
            raise ValueError(f"--data={data}: the split {split} has no photos; prepare it again.")
    classes = sources["train"].classes
    if len(classes) < 2:
        raise ValueError(f"--data={data}: need at least 2 classes, found {', '.join(classes) or 'none'}.")
    return sources


def _open_folder(root: str, val_fraction: float | None) -> dict[str, Source]:
    root = os.path.expanduser(root).rstrip("/") or "/"
    if not tf.io.gfile.isdir(root):
        raise FileNotFoundError(f"--data=folder:{root}: no such folder.")
    have = _split_folders(root)
    if "train" in have:
        if "val" not in have and val_fraction is None:
            raise ValueError(
                f"{root}: found train/ but no val/. Add one, or pass --val_fraction=0.2 to hold out a fifth."
            )
    elif val_fraction is None:
        raise ValueError(
            f"{root}: no validation set. Sort photos into train/CLASS/ and val/CLASS/; or pass --val_fraction=0.2 to "
            "hold out a fifth of each class."
        )
    if "val" in have and val_fraction is not None:
        raise ValueError(f"{have['val']}: these photos are held out; leave out --val_fraction.")
    train = list_classes(have.get("train", root))
    classes = list(train)
    if strange := [name for name in classes if not name.isprintable()]:  # names are written to files, one per line
        raise ValueError(f"{root}: the class folder '{printable(strange[0])}' is not printable text; rename it.")
    if "val" in have:
        val = list_classes(have["val"])
        strange = sorted(set(val) - set(train))
        if strange:
            raise ValueError(f"{have['val']}: class {strange[0]!r} is not in {have['train']}; rename or add it.")
    else:
        train, val = _held_out(train, val_fraction or 0)
    found = {split: _flat(listing, classes) for split, listing in zip(SPLITS, (train, val), strict=True)}
    warn_of_rotated([path for paths, _ in found.values() for path in paths])
    return {split: Folder(have.get(split, root), *flat, classes) for split, flat in found.items()}


def _split_folders(root: str) -> dict[str, str]:
    """Returns the folder of each split, and logs what is beside them; {} if the folder is not split."""
    train, held_out = photo_folder.side_folders(root)
    if train is None:
        return {}
    used, left_out = (train, *held_out[:1]), photos.LeftOut()
    photo_folder.note_unused(root, used, left_out)
    left_out.log(root)
    return {split: join(root, side) for split, side in zip(SPLITS, used, strict=False)}


def warn_of_rotated(paths: Sequence[str]) -> None:
    """Logs a warning if many of a sample of photos have an EXIF rotation, as those of phones do; not for a bucket."""
    sample = [path for path in paths[:: len(paths) // _EXAMINED + 1] if is_local(path)]
    rotated = [path for path in sample if _is_rotated(path)]
    if len(rotated) > _FEW_ROTATED * len(sample):
        logging.warning(
            "%d of %d examined photos have an EXIF rotation, which is not applied here (%s). Save them upright, for "
            "example with mogrify -auto-orient. fd-keras finetune applies it.",
            len(rotated), len(sample), shortened(rotated),
        )  # fmt: skip


def _is_rotated(path: str) -> bool:
    try:
        with photos.opened(path) as image:
            return photos.orientation(image) != 1
    except (OSError, ValueError):  # counted when it is decoded
        return False


def list_classes(folder: str) -> dict[str, list[str]]:
    """Lists the paths of the photos of each class, see `photos.list_classes`."""
    return {name: [join(folder, photo) for photo in found] for name, found in photos.list_classes(folder).items()}


def _held_out(listing: dict[str, list[str]], fraction: float) -> tuple[dict, dict]:
    """Splits each class by a hash of the file names, so that adding photos moves almost none to the other side."""
    if not 0 < fraction < 1:
        raise ValueError(f"--val_fraction={fraction}: must be between 0 and 1.")
    train, val = {}, {}
    for name, paths in listing.items():
        ranked = sorted(paths, key=lambda path: hashlib.sha256(os.fsencode(os.path.basename(path))).digest())
        count = round(fraction * len(paths))
        if not 0 < count < len(paths):
            raise ValueError(
                f"class {name!r}: {len(paths)} photos are too few for --val_fraction={fraction:g}; add photos."
            )
        train[name], val[name] = sorted(ranked[count:]), sorted(ranked[:count])
    return train, val


def _flat(listing: dict[str, list[str]], classes: Sequence[str]) -> tuple[list[str], list[int]]:
    pairs = [(path, classes.index(name)) for name, paths in listing.items() for path in paths]
    return [path for path, _ in pairs], [label for _, label in pairs]


def read_index(folder: str) -> dict:
    """Reads the `dataset.json` of prepared shards.

    Raises:
        FileNotFoundError: If the folder does not exist.
        ValueError: If the index is missing or damaged.
    """
    path = join(folder, INDEX)
    if not tf.io.gfile.isdir(folder):
        raise FileNotFoundError(f"--data={folder}: no such folder.")
    if not tf.io.gfile.exists(path):
        raise ValueError(
            f"--data={folder}: not prepared shards (it has no {INDEX}). Make them with fd-keras prepare, or pass "
            "--data=folder:DIR for class folders or --data=tfds:NAME for TensorFlow Datasets."
        )
    try:
        with tf.io.gfile.GFile(path) as file:
            index = json.load(file)
        return {"classes": list(index["classes"]), "splits": dict(index["splits"])}
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: damaged ({error!r}); run fd-keras prepare again.") from error


def _open_shards(folder: str) -> dict[str, Source]:
    folder = os.path.expanduser(folder)
    index = read_index(folder)
    return {split: _open_split(folder, index, split) for split in SPLITS}


def _open_split(folder: str, index: dict, split: str) -> Shards:
    shards = index["splits"].get(split)
    if not shards:
        raise ValueError(f"{folder}: {INDEX} lists no {split} shards; run fd-keras prepare with --{split}.")
    files, again = [], "run the same fd-keras prepare command again, which writes missing and damaged shards"
    for shard in shards:
        path = join(folder, shard["file"])
        if not tf.io.gfile.exists(path):
            raise ValueError(f"{path}: listed in {INDEX} but missing; {again}.")
        if tf.io.gfile.stat(path).length != shard["bytes"]:
            raise ValueError(f"{path}: its size differs from {INDEX}; {again}.")
        files.append(path)
    top = max(shard["max_label"] for shard in shards)
    if top >= len(index["classes"]):
        raise ValueError(
            f"{folder}: label {top} in {split} is out of range for {len(index['classes'])} classes; run fd-keras "
            "prepare again."
        )
    content = {key: hash_of([shard[key] for shard in shards]) for key in ("bytes", "sha256") if key in shards[0]}
    return Shards(f"{folder} ({split})", files, [shard["count"] for shard in shards], index["classes"], content)


def _open_tfds(name: str, tfds_dir: str | None) -> dict[str, Source]:
    try:
        import tensorflow_datasets as tfds
    except ImportError as error:
        raise ValueError(f"--data=tfds:{name} needs TensorFlow Datasets: pip install tensorflow-datasets") from error
    try:
        builder = tfds.builder(name, data_dir=tfds_dir)
        splits = builder.info.splits
    except (tfds.core.DatasetNotFoundError, ValueError, AssertionError) as error:
        raise ValueError(f"--data=tfds:{name}: {error}") from error
    val = next((split for split in ("validation", "val", "test") if split in splits), None)
    if "train" not in splits or val is None:
        have = ", ".join(splits) or "none"
        raise ValueError(
            f"--data=tfds:{name}: needs a train and a validation or test split, found {have}. If the data set is not "
            "prepared yet, run `tfds build` first."
        )
    features: Any = builder.info.features
    if "image" not in features or "label" not in features:
        raise ValueError(f"--data=tfds:{name}: not a classification set; its features are {', '.join(features)}.")
    return {"train": Tfds(builder, "train"), "val": Tfds(builder, val)}
