"""Trains a detector on PASCAL VOC, COCO or YOLO data; repeat the command to resume.

    fd-keras detect train --alpha=0.5 --init_weights=imagenet_authors --voc_dir=VOCdevkit/VOC2007 --run_dir=RUN

--detector=retinanet trains keras-cv's RetinaNet, on batches of square images (--side). The values below are those of
the chosen detector: --detector=retinanet --help shows those of RetinaNet.
"""

from typing import TYPE_CHECKING, Any

from absl import flags

from fd_keras import zoo
from fd_keras.program import Program, UsageError, flag_group
from fd_keras.training import run_flags, settings
from fd_keras.training.voc.detector_recipe import PAPER, DetectorRecipe
from fd_keras.training.voc.retinanet_recipe import DEFAULT, RetinaNetRecipe

if TYPE_CHECKING:
    from fd_keras.training.voc.detector_run import DetectorRun, DetectorRunConfig

_RECIPES = {"faster_rcnn": PAPER, "retinanet": DEFAULT}

with flag_group("Network"):
    _BACKBONE = flags.DEFINE_enum("backbone", "fd_mobilenet", list(zoo.ARCHS), "Network under the detector.")
    _DETECTOR = flags.DEFINE_enum(
        "detector", "faster_rcnn", list(_RECIPES), "The paper's Faster R-CNN, or keras-cv's RetinaNet (extra keras-cv)."
    )
    flags.adopt_module_key_flags(run_flags)
with flag_group("Data"):
    _VOC = flags.DEFINE_string(
        "voc_dir", None, "VOCdevkit/VOC2007, a COCO .json or a YOLO data.yaml; comma-separated.", required=True
    )
    _SPLIT = flags.DEFINE_string(
        "split",
        "trainval",
        "Split to train on: a list in ImageSets/Main, or train, val or test of YOLO; COCO has only one.",
    )
    _CLASSES = flags.DEFINE_string(
        "classes", None, "Comma-separated class names, or a file with one per line (default: the data's)."
    )
with flag_group("Recipe"):
    _OVERRIDES = DetectorRecipe.define_flags()
with flag_group("Recipe of a RetinaNet"):
    _OVERRIDES |= RetinaNetRecipe.define_flags(_OVERRIDES)
    flags.adopt_module_key_flags(settings)


def recipe() -> DetectorRecipe | RetinaNetRecipe:
    """Returns the recipe that the flags describe; raises UsageError for a flag of the other detector."""
    values = {name: flag.value for name, flag in _OVERRIDES.items() if flag.value is not None}
    chosen = _RECIPES[_DETECTOR.value]
    if foreign := sorted(values.keys() - {field.name for field in chosen.adjustable()}):
        raise UsageError(f"--{foreign[0]} is not a setting of --detector={_DETECTOR.value}; leave it out")
    return chosen.override(**values)


def config(asked: DetectorRecipe | RetinaNetRecipe) -> "tuple[DetectorRunConfig, type[DetectorRun]]":
    """Returns the configuration that the flags describe, and the class of the run."""
    given: dict[str, Any] = run_flags.given(_BACKBONE.value)  # checked before TensorFlow is loaded
    if isinstance(asked, RetinaNetRecipe):
        from fd_keras.training.voc.retinanet_run import RetinaNetRun, RetinaNetRunConfig

        return RetinaNetRunConfig(asked, _BACKBONE.value, **given), RetinaNetRun
    from fd_keras.training.voc.detector_run import DetectorRun, DetectorRunConfig

    return DetectorRunConfig(asked, _BACKBONE.value, **given), DetectorRun


def main(argv: list[str]) -> None:
    """Starts or resumes a run and trains to its end."""
    asked, run_class = config(recipe())
    from fd_keras.training import devices
    from fd_keras.training.voc import dataset, detection_pipeline, detector_reporting

    devices.reproducible(asked.threads)
    classes = dataset.classes_of(_VOC.value, _CLASSES.value)
    found = dataset.open_split(_VOC.value, _SPLIT.value, classes)
    run = run_class(asked, detection_pipeline.Images(f"{_VOC.value} {_SPLIT.value}", found), classes)
    print(detector_reporting.opening(run))
    print(detector_reporting.closing(run, run.train(), _VOC.value, _SPLIT.value))


PROGRAM = Program(main, values=lambda: _RECIPES[_DETECTOR.value].settings())

if __name__ == "__main__":
    PROGRAM.run()
