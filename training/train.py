"""Trains a network, from scratch or from ImageNet weights; repeat the command to resume.

    fd-keras train --recipe=paper --model=fd_mobilenet --alpha=0.25 --data=SHARDS --run_dir=RUN
    fd-keras train --recipe=finetune --init_weights=imagenet --data=folder:PHOTOS --val_fraction=0.2 --run_dir=RUN

The values below are those of the chosen recipe: fd-keras train --recipe=finetune --help shows those of finetune.
"""

from typing import TYPE_CHECKING

from absl import flags

from fd_keras import zoo
from fd_keras.photos import check_outside
from fd_keras.program import Program, define_positive, flag_group
from fd_keras.training import recipes, run_flags, run_record, settings

if TYPE_CHECKING:
    from fd_keras.training.classifier_run import ClassifierRunConfig

with flag_group("Network"):
    _MODEL = flags.DEFINE_enum("model", "fd_mobilenet", list(zoo.ARCHS), "Network to train.")
    _FREEZE = flags.DEFINE_string("freeze", "none", "Layers not to train: none, backbone, or a number of layers.")
    flags.register_validator(
        "freeze",
        lambda value: value in ("none", "backbone") or value.isdecimal(),
        "must be none, backbone or a number",
    )
    _TEACHER = flags.DEFINE_string(
        "teacher",
        None,
        "Distill from this .keras file with the same classes; or from a network trained on ImageNet, such as "
        "fd_mobilenet_1.0 or EfficientNetV2B0.",
    )
    flags.adopt_module_key_flags(run_flags)
with flag_group("Data"):
    _DATA = flags.DEFINE_string("data", None, "Folder of prepared shards, folder:DIR or tfds:NAME.", required=True)
    _VAL = define_positive("val_fraction", None, "Share of each class to hold out if folder:DIR has no val/.", 1)
    _TFDS = flags.DEFINE_string("tfds_dir", None, "Folder of TensorFlow Datasets.")
    _BAD = flags.DEFINE_integer("max_bad_images", 100, "Maximum number of undecodable photos to skip.", lower_bound=0)
with flag_group("Recipe"):
    _RECIPE = flags.DEFINE_enum("recipe", "paper", list(recipes.RECIPES), "Training recipe.")
    _OVERRIDES = recipes.TrainingRecipe.define_flags()
    flags.adopt_module_key_flags(settings)
with flag_group("Machine"):
    _STRATEGY = flags.DEFINE_enum("strategy", "none", recipes.STRATEGIES, "How to use several devices.")
    _PRECISION = flags.DEFINE_enum("mixed_precision", "none", ["none", "bfloat16", "float16"], "Compute type.")
    _COORDINATOR = flags.DEFINE_string("coordinator", None, "HOST:PORT of process 0 (JAX), or auto.")
    _PROCESSES = flags.DEFINE_integer("num_processes", None, "Number of processes.", lower_bound=1)
    _PROCESS = flags.DEFINE_integer("process_id", None, "Index of this process.", lower_bound=0)


def config() -> "ClassifierRunConfig":
    """Returns the configuration that the flags describe."""
    recipe = recipes.RECIPES[_RECIPE.value].override(**{name: flag.value for name, flag in _OVERRIDES.items()})
    given = run_flags.given(_MODEL.value)  # checked before TensorFlow is loaded
    from fd_keras.training.classifier_run import ClassifierRunConfig

    opened = run_record.lasting(**_data())
    return ClassifierRunConfig(recipe, _MODEL.value, _FREEZE.value, _BAD.value, _TEACHER.value, opened=opened, **given)


def _data() -> dict:
    """Returns the arguments of `data_sets.open_data`."""
    return {"data": _DATA.value, "val_fraction": _VAL.value, "tfds_dir": _TFDS.value}


def main(argv: list[str]) -> None:
    """Starts or resumes a run and trains to its end."""
    asked = config()
    import keras

    from fd_keras.training import data_sets, devices, reporting, sources
    from fd_keras.training.classifier_run import ClassifierRun

    devices.connect(_COORDINATOR.value, _PROCESSES.value, _PROCESS.value)
    devices.reproducible(asked.threads)
    if _PRECISION.value != "none":
        keras.config.set_dtype_policy(f"mixed_{_PRECISION.value}")
    machine = devices.make(_STRATEGY.value, asked.recipe.batch_size)
    data = data_sets.open_data(**_data())
    for source in data.values():
        if isinstance(source, sources.Folder):
            check_outside(source.name, asked.run_dir, "--run_dir")
    say = print if machine.leads else lambda line: None
    run = ClassifierRun(asked, data, machine, say)
    say(reporting.opening(run))
    say(reporting.closing(run, run.train()))


PROGRAM = Program(main, values=lambda: recipes.RECIPES[_RECIPE.value].settings())

if __name__ == "__main__":
    PROGRAM.run()
