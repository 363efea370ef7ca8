r"""Trains a detector on PASCAL VOC, or on photos of one's own in its layout; the same command again resumes it.

python -m training.voc.train --backbone=fd_mobilenet --alpha=0.5 --init_weights=imagenet_authors \
    --voc_dir=VOCdevkit/VOC2007 --run_dir=RUN
"""

import sys

from absl import app, flags

from fd_keras import zoo
from training import devices
from training.manners import Stopped, TrainingError
from training.voc import data, inputs, loop, watch
from training.voc.recipe import PAPER, Recipe

_BACKBONE = flags.DEFINE_enum("backbone", "fd_mobilenet", list(zoo.ARCHS), "Network under the detector.")
_ALPHA = flags.DEFINE_float("alpha", 1.0, "Its width multiplier.")
_GROUPS = flags.DEFINE_integer("groups", None, "Groups of a ShuffleNet (default 3).")
_STEM = flags.DEFINE_float("stem_multiplier", None, "Stem width of a ShuffleNet (default alpha, at least .5).")
_VOC = flags.DEFINE_string("voc_dir", None, "VOCdevkit/VOC2007; several with commas between.", required=True)
_SPLIT = flags.DEFINE_string("split", "trainval", "List of ImageSets/Main to train on.")
_CLASSES = flags.DEFINE_string("classes", None, "File with one a line, or a list with commas (default VOC's 20).")
_RUN = flags.DEFINE_string("run_dir", None, "Folder of the run; made, or resumed.", required=True)
_SEED = flags.DEFINE_integer("seed", 0, "Of everything random.", lower_bound=0)
_INIT = flags.DEFINE_string(
    "init_weights",
    None,
    "Of the backbone: imagenet, imagenet_authors, or the path of a file, be it a .keras of training.train or Google's "
    "MobileNet as .tflite. Without them a detector learns little: its batch normalizations stay as they are.",
)
_EVERY = flags.DEFINE_integer("checkpoint_every", 500, "Steps between two checkpoints.", lower_bound=1)
_KEEP = flags.DEFINE_integer("keep", 3, "Checkpoints to keep.", lower_bound=1)
_THREADS = flags.DEFINE_integer("threads", None, "Threads (default all cores).", lower_bound=1)

_DEFINE = {int: flags.DEFINE_integer, float: flags.DEFINE_float}
_HELP = {name: words[0].upper() + words[1:] for name, words in Recipe.explained().items()}
_RECIPE = {name: _DEFINE[type(value)](name, value, _HELP[name]) for name, value in PAPER.settings().items()}


def config() -> loop.Config:
    """What the flags ask for."""
    return loop.Config(
        PAPER.override(**{name: flag.value for name, flag in _RECIPE.items()}),
        _BACKBONE.value, _ALPHA.value, _RUN.value, _GROUPS.value, _STEM.value, _SEED.value, _INIT.value,
        _EVERY.value, _KEEP.value, _THREADS.value,
    )  # fmt: skip


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"Unexpected argument {argv[1]!r}; everything is given by flags.")
    try:
        asked = config()
        devices.reproducible(asked.threads)
        classes = data.read_classes(_CLASSES.value) if _CLASSES.value else data.CLASSES
        found = data.open_split(_VOC.value, _SPLIT.value, classes)
        run = loop.Run(asked, inputs.Images(f"{_VOC.value} {_SPLIT.value}", found), classes)
        print(watch.opening(run))
        print(watch.closing(run, run.train()))
    except Stopped as stopped:
        print(stopped, file=sys.stderr)
        sys.exit(128 + stopped.signal)
    except (ValueError, OSError, TrainingError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    app.run(main)
