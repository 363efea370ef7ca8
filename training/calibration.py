"""Training photos on which the files made from a run are calibrated, as flags of `fd-keras convert`."""

import os
from collections.abc import Collection

from fd_keras.io import is_local, join, printable, write_atomically
from fd_keras.training.sources import Folder, Source

FILE = "calibration.txt"  # in a run's folder: one photo a line
_COUNT = 128
_LEAST = 8  # photos that `fd-keras convert` asks for


def flags(run_dir: str, train: Source, val: Source, bad: Collection[str], write: bool) -> dict[str, str]:
    """Flags that name the training photos.

    Where a share of a folder was held out, a list of training photos is written, so that none of the others are taken.

    Args:
        run_dir: Folder of the run.
        train: Photos that it was trained on.
        val: Photos that it held out.
        bad: Names of photos that cannot be decoded, as `printable` shows them.
        write: Whether to write the list.

    Returns:
        The flags by name; empty for photos that are not files of this machine, or too few.
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
