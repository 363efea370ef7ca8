"""Selects training photos of a run for calibration, as flags of `fd-keras convert`."""

import os
from collections.abc import Collection

from fd_keras.io import is_local, join, printable, write_atomically
from fd_keras.training.sources import Folder, Source

FILE = "calibration.txt"  # in a run's folder, one photo per line
_COUNT = 128  # photos
_LEAST = 8  # minimum number of photos for `fd-keras convert`


def flags(run_dir: str, train: Source, val: Source, bad: Collection[str], write: bool) -> dict[str, str]:
    """Returns flags that name the training photos.

    If training and held-out photos are in the same folder, a list of training photos is written, so that calibration
    does not use held-out ones.

    Args:
        run_dir: Folder of the run.
        train: Training photos of the run.
        val: Held-out photos of the run.
        bad: Names of photos that cannot be decoded, as `printable` shows them.
        write: Whether to write the list.

    Returns:
        The flags by name; empty if there are too few photos, or if they are not on this machine.
    """
    if not isinstance(train, Folder) or not is_local(run_dir) or not os.path.isdir(train.name):
        return {}
    names = [
        path.removeprefix(f"{train.name}/") for path in train.paths if path.isprintable() and printable(path) not in bad
    ]
    if len(names) < _LEAST:
        return {}
    if train.name != val.name:
        return {"calibration_dir": train.name}
    count = min(_COUNT, len(names))
    if write:
        lines = [f"{names[index * len(names) // count]}\n" for index in range(count)]
        write_atomically(join(run_dir, FILE), "".join(lines).encode())
    return {"calibration_dir": train.name, "calibration_ids": join(run_dir, FILE)}
