r"""Trains a detector on PASCAL VOC, or on photos of one's own in its layout; the same command again resumes it.

python -m training.voc.train --backbone=fd_mobilenet --alpha=0.5 --init_weights=imagenet_authors \
    --voc_dir=VOCdevkit/VOC2007 --run_dir=RUN
"""

import sys

from absl import app, flags

from fd_keras import zoo
from training import devices, run_flags
from training.manners import Stopped, TrainingError
from training.voc import data, inputs, loop, watch
from training.voc.recipe import PAPER, Recipe

_BACKBONE = flags.DEFINE_enum("backbone", "fd_mobilenet", list(zoo.ARCHS), "Network under the detector.")
_VOC = flags.DEFINE_string("voc_dir", None, "VOCdevkit/VOC2007; several with commas between.", required=True)
_SPLIT = flags.DEFINE_string("split", "trainval", "List of ImageSets/Main to train on.")
_CLASSES = flags.DEFINE_string("classes", None, "File with one a line, or a list with commas (default VOC's 20).")

flags.adopt_module_key_flags(run_flags)  # so that --help shows them

_DEFINE = {int: flags.DEFINE_integer, float: flags.DEFINE_float}
_HELP = {name: words[0].upper() + words[1:] for name, words in Recipe.explained().items()}
_RECIPE = {name: _DEFINE[type(value)](name, value, _HELP[name]) for name, value in PAPER.settings().items()}


def config() -> loop.Config:
    """What the flags ask for."""
    recipe = PAPER.override(**{name: flag.value for name, flag in _RECIPE.items()})
    return loop.Config(recipe, _BACKBONE.value, **run_flags.given())


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
