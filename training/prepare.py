"""Writes TFRecord shards from raw photos; the same command again resumes where it was.

    fd-keras prepare --train=ILSVRC2012_img_train.tar --val=val --val_labels=val.txt --output_dir=SHARDS

Photos are checked: those that are not RGB or gray JPEGs (ImageNet has some CMYK ones and a PNG) are encoded again, and
those that cannot be decoded are left out and listed.
"""

import os

from absl import flags

from fd_keras.io import join, remove_unfinished, write_json
from fd_keras.program import Program, flag_group
from fd_keras.training import shards

with flag_group("Photos"):
    _TRAIN = flags.DEFINE_string("train", None, "Folder of class folders, or a tar of such or of tars.", required=True)
    _VAL = flags.DEFINE_string("val", None, "Likewise, or a flat folder or tar with --val_labels.", required=True)
    _LABELS = flags.DEFINE_string("val_labels", None, "File of lines `photo-name label` for a flat --val.")
    _INCOMPLETE = flags.DEFINE_bool("allow_incomplete", False, "Accept an ImageNet with photos missing.")
with flag_group("Shards"):
    _OUTPUT = flags.DEFINE_string("output_dir", None, "Folder for the shards; may be in a bucket.", required=True)
    _SHARDS = flags.DEFINE_integer("shards", None, "Number of training shards (default: of 1250 photos each).", 1)
    _SHRINK = flags.DEFINE_integer("shrink", None, "Short side to shrink photos to, for faster input.", lower_bound=64)
    _WORKERS = flags.DEFINE_integer("workers", os.cpu_count() or 1, "Number of processes.", lower_bound=1)
    _SEED = flags.DEFINE_integer("seed", 0, "Seed of the order.", lower_bound=0)


def main(argv: list[str]) -> None:
    """Writes the shards of both splits, then their index."""
    import tensorflow as tf

    folder = os.path.expanduser(_OUTPUT.value)
    train, classes = shards.list_train(_TRAIN.value)
    splits = {"train": train, "val": shards.list_val(_VAL.value, _LABELS.value, classes)}
    _check_complete(splits, classes)
    tf.io.gfile.makedirs(folder)
    remove_unfinished(folder)
    index = {"classes": classes, "shrink": _SHRINK.value, "splits": {}}
    for split, raws in splits.items():
        count = _SHARDS.value if split == "train" else None
        tasks = shards.plan(split, raws, folder, count, _SHRINK.value, _SEED.value)
        written = shards.write(tasks, _WORKERS.value)
        index["splits"][split] = [{key: facts[key] for key in shards.INDEXED} for facts in written]
        print("\n".join(shards.report(split, written)))
    write_json(join(folder, shards.INDEX), index)
    print(f"next: fd-keras train --data={folder} --run_dir=RUN")


def _check_complete(splits: dict[str, list[shards.Raw]], classes: list[str]) -> None:
    """Raises ValueError for an ImageNet with photos missing, unless --allow_incomplete."""
    missing = [text for split, raws in splits.items() if (text := shards.check_counts(split, raws, classes))]
    if missing and not _INCOMPLETE.value:
        raise ValueError(f"{'; '.join(missing)}. Complete it, or pass --allow_incomplete.")


PROGRAM = Program(main)

if __name__ == "__main__":
    PROGRAM.run()
