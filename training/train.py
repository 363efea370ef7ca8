"""Trains a network; the same command again resumes it.

python -m training.train --recipe=paper --model=fd_mobilenet --alpha=0.25 --data=SHARDS --run_dir=RUN
python -m training.train --recipe=finetune --init_weights=imagenet --data=folder:PHOTOS --val_fraction=0.2 --run_dir=RUN
"""

import sys

import keras
from absl import app, flags

from fd_keras import zoo
from training import devices, loop, recipes, run_flags, sources, watch

_RECIPE = flags.DEFINE_enum("recipe", "paper", list(recipes.RECIPES), "How to train; see training/recipes.py.")
_MODEL = flags.DEFINE_enum("model", "fd_mobilenet", list(zoo.ARCHS), "Network to train.")
_DATA = flags.DEFINE_string("data", None, "Folder of prepared shards, folder:DIR or tfds:NAME.", required=True)
_VAL = flags.DEFINE_float("val_fraction", None, "Share of every class to hold out where folder:DIR has no val/.")
_TFDS = flags.DEFINE_string("tfds_dir", None, "Where TensorFlow Datasets keeps its data.")
_FREEZE = flags.DEFINE_string("freeze", "none", "none, backbone, or a number of layers that stay as they are.")
_BAD = flags.DEFINE_integer("max_bad_images", 100, "Photos that cannot be decoded to put up with.", lower_bound=0)
_STRATEGY = flags.DEFINE_enum("strategy", "none", devices.STRATEGIES, "How to use several devices.")
_PRECISION = flags.DEFINE_enum("mixed_precision", "none", ["none", "bfloat16", "float16"], "Type to compute in.")
_COORDINATOR = flags.DEFINE_string("coordinator", None, "HOST:PORT of process 0 (JAX), or auto.")
_PROCESSES = flags.DEFINE_integer("num_processes", None, "How many processes.", lower_bound=1)
_PROCESS = flags.DEFINE_integer("process_id", None, "Which one this is.", lower_bound=0)

flags.adopt_module_key_flags(run_flags)  # so that --help shows them

_DEFINE = {"int": flags.DEFINE_integer, "float": flags.DEFINE_float, "bool": flags.DEFINE_bool}
_OVERRIDES = {
    field.name: _DEFINE.get(field.type.__name__, flags.DEFINE_string)(field.name, None, "Instead of the recipe's.")
    for field in recipes.OVERRIDES
}


def config() -> loop.Config:
    """What the flags ask for."""
    recipe = recipes.RECIPES[_RECIPE.value].override(**{name: flag.value for name, flag in _OVERRIDES.items()})
    return loop.Config(recipe, _MODEL.value, _FREEZE.value, _BAD.value, **run_flags.given())


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"Unexpected argument {argv[1]!r}; everything is given by flags.")
    try:
        asked = config()
        devices.connect(_COORDINATOR.value, _PROCESSES.value, _PROCESS.value)
        devices.reproducible(asked.threads)
        if _PRECISION.value != "none":
            keras.config.set_dtype_policy(f"mixed_{_PRECISION.value}")
        machine = devices.make(_STRATEGY.value, asked.recipe.batch_size)
        data = sources.open_data(_DATA.value, val_fraction=_VAL.value, tfds_dir=_TFDS.value)
        say = print if machine.leads else lambda line: None
        run = loop.Run(asked, data, machine, say)
        say(watch.opening(run))
        say(watch.closing(run, run.train()))
    except loop.Stopped as stopped:
        print(stopped, file=sys.stderr)
        sys.exit(128 + stopped.signal)
    except (ValueError, OSError, loop.TrainingError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    app.run(main)
