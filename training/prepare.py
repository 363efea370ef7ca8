"""Writes TFRecord shards from raw photos; the same command again goes on where it was.

    python -m training.prepare --train=ILSVRC2012_img_train.tar --val=val --val_labels=val.txt --output_dir=SHARDS

Photos are checked: what is no RGB or grey JPEG (ImageNet has some CMYK ones and a PNG) is encoded again, what cannot be
decoded is left out and named.
"""

import os
import sys

from absl import app, flags

from fd_keras.io import join, remove_unfinished, write_json
from fd_keras.training import shards, sources

_TRAIN = flags.DEFINE_string("train", None, "Folder of class folders, or a tar of such or of tars.", required=True)
_VAL = flags.DEFINE_string("val", None, "Likewise, or a flat folder or tar with --val_labels.", required=True)
_LABELS = flags.DEFINE_string("val_labels", None, "File of lines `photo-name label` for a flat --val.")
_OUTPUT = flags.DEFINE_string("output_dir", None, "Where to write; may be in a bucket.", required=True)
_SHARDS = flags.DEFINE_integer("shards", None, "How many for training (default one for 1250 photos).", lower_bound=1)
_SHRINK = flags.DEFINE_integer("shrink", None, "Shrink photos to this short side, for faster input.", lower_bound=64)
_WORKERS = flags.DEFINE_integer("workers", os.cpu_count(), "Processes.", lower_bound=1)
_SEED = flags.DEFINE_integer("seed", 0, "Of the order.", lower_bound=0)
_INCOMPLETE = flags.DEFINE_bool("allow_incomplete", False, "Accept an ImageNet with photos missing.")


def prepare() -> None:
    """Does what the flags say."""
    import tensorflow as tf

    folder = os.path.expanduser(_OUTPUT.value)
    train, classes = shards.list_train(_TRAIN.value)
    splits = {"train": train, "val": shards.list_val(_VAL.value, _LABELS.value, classes)}
    wrong = [text for split, raws in splits.items() if (text := shards.check_counts(split, raws, classes))]
    if wrong and not _INCOMPLETE.value:
        raise ValueError(f"{'; '.join(wrong)}. Complete it, or pass --allow_incomplete.")
    tf.io.gfile.makedirs(folder)
    remove_unfinished(folder)
    index = {"classes": classes, "shrink": _SHRINK.value, "splits": {}}
    for split, raws in splits.items():
        count = _SHARDS.value if split == "train" else None
        tasks = shards.plan(split, raws, folder, count, _SHRINK.value, _SEED.value)
        written = shards.write(tasks, _WORKERS.value)
        index["splits"][split] = [
            {key: facts[key] for key in ("file", "count", "bytes", "max_label")} for facts in written
        ]
        print("\n".join(shards.report(split, written)))
    write_json(join(folder, sources.INDEX), index)
    print(f"train with: python -m training.train --data={folder} ...")


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"Unexpected argument {argv[1]!r}; everything is given by flags.")
    try:
        prepare()
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit("stopped; the same command goes on from here")


if __name__ == "__main__":
    app.run(main)
