"""Writes TFRecord shards from raw photos; repeat the command to resume it.

    fd-keras prepare --train=ILSVRC2012_img_train.tar --val=val --val_labels=val.txt --output_dir=SHARDS

Existing shards are verified by their hashes, and damaged ones are written again. Only one process at a time can write
to a folder.

All photos are checked: those that are not RGB or gray JPEGs (ImageNet has some CMYK JPEGs and a PNG) are encoded again;
those that cannot be decoded are skipped and named.
"""

import contextlib
import os
from collections.abc import Iterator

from absl import flags

from fd_keras.io import join, locked, remove_unfinished, write_json
from fd_keras.next_step import next_line, unused
from fd_keras.photos import check_outside
from fd_keras.program import Program, flag_group
from fd_keras.training import raw_photos, shards

with flag_group("Photos"):
    _TRAIN = flags.DEFINE_string("train", None, "Folder of class folders, or a tar of them or of tars.", required=True)
    _VAL = flags.DEFINE_string(
        "val", None, "Folder or tar as for --train, or one without class folders and --val_labels.", required=True
    )
    _LABELS = flags.DEFINE_string("val_labels", None, "File of lines `photo-name label` for a flat --val.")
    _INCOMPLETE = flags.DEFINE_bool("allow_incomplete", False, "Accept an ImageNet with missing photos.")
with flag_group("Shards"):
    _OUTPUT = flags.DEFINE_string("output_dir", None, "Folder for the shards; may be in a bucket.", required=True)
    _SHARDS = flags.DEFINE_integer("shards", None, "Number of training shards (default: one per 1250 photos).", 1)
    _SHRINK = flags.DEFINE_integer(
        "shrink", None, "Short side in pixels to shrink larger photos to, for faster input.", lower_bound=64
    )
    _WORKERS = flags.DEFINE_integer("workers", os.cpu_count() or 1, "Number of processes.", lower_bound=1)
    _SEED = flags.DEFINE_integer("seed", 0, "Seed of the photos' order.", lower_bound=0)


def main(argv: list[str]) -> None:
    """Writes the shards of both splits, then their index."""
    folder = os.path.expanduser(_OUTPUT.value)
    for side in (_TRAIN.value, _VAL.value):
        check_outside(side, folder, "--output_dir")
    train, classes = raw_photos.list_train(_TRAIN.value)
    splits = {"train": train, "val": raw_photos.list_val(_VAL.value, _LABELS.value, classes)}
    _check_complete(splits, classes)
    counts = {"train": _SHARDS.value, "val": None}
    tasks = {
        split: shards.plan(split, raws, folder, counts[split], _SHRINK.value, _SEED.value)
        for split, raws in splits.items()
    }
    with _reserved(folder):
        index = {"classes": classes, "shrink": _SHRINK.value, "splits": {}}
        for split in splits:
            written = shards.write(tasks[split], _WORKERS.value)
            if not any(facts["count"] for facts in written):
                raise ValueError(f"none of the photos of --{split} can be decoded; check them.")
            index["splits"][split] = [{key: facts[key] for key in shards.INDEXED} for facts in written]
            print("\n".join(shards.report(split, written)))
        write_json(join(folder, shards.INDEX), index)
    print(next_line("train", data=folder, run_dir=unused("run")))


@contextlib.contextmanager
def _reserved(folder: str) -> Iterator[None]:
    """Creates the folder and locks it against other processes that prepare shards.

    Raises:
        OSError: If the folder cannot be written, or another process has locked it.
    """
    import tensorflow as tf

    with contextlib.ExitStack() as held:
        try:
            tf.io.gfile.makedirs(folder)
            held.enter_context(locked(folder, "preparing shards in"))
            remove_unfinished(folder)
        except (OSError, tf.errors.OpError) as error:
            reason = getattr(error, "message", getattr(error, "strerror", None) or str(error))
            raise OSError(f"--output_dir={folder}: cannot write there ({reason}).") from error
        yield


def _check_complete(splits: dict[str, list[raw_photos.Raw]], classes: list[str]) -> None:
    """Raises ValueError for an ImageNet with missing photos, unless --allow_incomplete."""
    missing = [text for split, raws in splits.items() if (text := shards.check_counts(split, raws, classes))]
    if missing and not _INCOMPLETE.value:
        raise ValueError(f"{'; '.join(missing)}. Complete it, or pass --allow_incomplete.")


PROGRAM = Program(main)

if __name__ == "__main__":
    PROGRAM.run()
