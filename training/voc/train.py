"""Trains a detector on PASCAL VOC, or on photos in its layout; the same command again resumes it.

    fd-keras detect train --alpha=0.5 --init_weights=imagenet_authors --voc_dir=VOCdevkit/VOC2007 --run_dir=RUN

Values below are the paper's.
"""

from typing import TYPE_CHECKING

from absl import flags

from fd_keras import zoo
from fd_keras.program import Program, flag_group
from fd_keras.training import run_flags, settings
from fd_keras.training.voc.detector_recipe import PAPER, DetectorRecipe

if TYPE_CHECKING:
    from fd_keras.training.voc.detector_run import DetectorRunConfig

with flag_group("What to train"):
    _BACKBONE = flags.DEFINE_enum("backbone", "fd_mobilenet", list(zoo.ARCHS), "Network under the detector.")
    flags.adopt_module_key_flags(run_flags)
with flag_group("Data"):
    _VOC = flags.DEFINE_string(
        "voc_dir", None, "VOCdevkit/VOC2007, a COCO .json or a YOLO data.yaml; several with commas.", required=True
    )
    _SPLIT = flags.DEFINE_string("split", "trainval", "List of ImageSets/Main to train on.")
    _CLASSES = flags.DEFINE_string("classes", None, "File with one a line, or a list with commas (default the data's).")
with flag_group("Recipe"):
    _OVERRIDES = DetectorRecipe.define_flags()
    flags.adopt_module_key_flags(settings)


def config() -> "DetectorRunConfig":
    """The run that the flags describe."""
    recipe = PAPER.override(**{name: flag.value for name, flag in _OVERRIDES.items()})
    given = run_flags.given(_BACKBONE.value)  # checked before TensorFlow is loaded
    from fd_keras.training.voc.detector_run import DetectorRunConfig

    return DetectorRunConfig(recipe, _BACKBONE.value, **given)


def main(argv: list[str]) -> None:
    """Trains, from where the run was."""
    asked = config()
    from fd_keras.training import devices
    from fd_keras.training.voc import dataset, detection_pipeline, detector_reporting
    from fd_keras.training.voc.detector_run import DetectorRun

    devices.reproducible(asked.threads)
    classes = dataset.classes_of(_VOC.value, _CLASSES.value)
    found = dataset.open_split(_VOC.value, _SPLIT.value, classes)
    run = DetectorRun(asked, detection_pipeline.Images(f"{_VOC.value} {_SPLIT.value}", found), classes)
    print(detector_reporting.opening(run))
    print(detector_reporting.closing(run, run.train(), _VOC.value, _SPLIT.value))


PROGRAM = Program(main, values=PAPER.settings)

if __name__ == "__main__":
    PROGRAM.run()
