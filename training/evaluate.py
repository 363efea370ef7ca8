"""Top-1 and top-5 of a trained network, a published one or a .tflite, on the central crop.

python -m training.evaluate --model=RUN/last/fd_mobilenet_0.25_224.keras --data=SHARDS --check
python -m training.evaluate --model=fd_mobilenet --alpha=0.25 --weights=imagenet_authors --data=SHARDS
python -m training.evaluate --model=fd_mobilenet_0.25_224_int8.tflite --data=folder:PHOTOS
"""

import json
import os
import sys

from absl import app, flags

from fd_keras import zoo
from fd_keras.applications import build_by_name
from fd_keras.litert import Runner
from fd_keras.saved import load_model
from fd_keras.training import accuracy, input_pipeline, recipes, run_record, sources

_MODEL = flags.DEFINE_string("model", None, f"A .keras or .tflite file, or {', '.join(zoo.ARCHS)}.", required=True)
_ALPHA = flags.DEFINE_float("alpha", None, "Width of a network that is given by name (default 1).")
_GROUPS = flags.DEFINE_integer("groups", None, "Groups of a ShuffleNet (default 3).")
_STEM = flags.DEFINE_float("stem_multiplier", None, "Stem width of a ShuffleNet.")
_WEIGHTS = flags.DEFINE_string("weights", "imagenet", "Of a network by name: imagenet, imagenet_authors or a path.")
_DATA = flags.DEFINE_string("data", None, "Folder of prepared shards, folder:DIR or tfds:NAME.", required=True)
_VAL = flags.DEFINE_float("val_fraction", None, "As the training had it.")
_TFDS = flags.DEFINE_string("tfds_dir", None, "Where TensorFlow Datasets keeps its data.")
_BATCH = flags.DEFINE_integer("batch_size", 64, "Photos at a time.", lower_bound=1)
_BAD = flags.DEFINE_integer("max_bad_images", 0, "Photos that cannot be decoded to leave out.", lower_bound=0)
_THREADS = flags.DEFINE_integer("threads", os.cpu_count(), "Threads.", lower_bound=1)
_CHECK = flags.DEFINE_bool("check", False, "Exit with 1 unless the recipe's accuracy is reached.")
_RECIPE = flags.DEFINE_enum("recipe", None, list(recipes.RECIPES), "Whose target (default: the run's, else paper).")
_TARGET = flags.DEFINE_float("target", None, "Top-1 in percent to check instead of the recipe's.")
_JSON = flags.DEFINE_bool("json", False, "Print JSON.")


def load() -> tuple[accuracy.Classifier, int, int]:
    """The classifier that the flags name, the side of its image, and its classes."""
    path = _MODEL.value
    if path in zoo.ARCHS:
        model = build_by_name(
            path, groups=_GROUPS.value, stem_multiplier=_STEM.value, alpha=_ALPHA.value or 1.0, weights=_WEIGHTS.value
        )
    elif path.endswith(".tflite"):
        runner = Runner(path, _THREADS.value)
        return accuracy.tflite_classifier(runner), runner.input_shape[0], runner.classes
    else:
        model = load_model(path)
    return accuracy.keras_classifier(model), model.input_shape[1], model.output_shape[-1]


def target(val: sources.Source) -> tuple[float, str]:
    """The top-1 to reach and what it is of. Raises ValueError where none is stated."""
    if _TARGET.value is not None:
        return _TARGET.value, "--target"
    run = run_record.run_of(_MODEL.value)
    network = (run["model"], run["alpha"]) if run else (_MODEL.value, _ALPHA.value or 1.0)
    name = _RECIPE.value or (run or {}).get("name", "paper")
    figure = recipes.RECIPES[name].targets.get(network)
    if figure is None:
        raise ValueError(f"--check: recipe {name} states no accuracy for {network[0]} {network[1]}x; pass --target.")
    if not sources.is_imagenet(val):
        raise ValueError(f"--check: the recipes' figures are for ImageNet's 50,000 validation photos, {val.name} is "
                         "another set; pass --target.")  # fmt: skip
    return figure, f"recipe {name}, {network[0]} {network[1]}x"


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"Unexpected argument {argv[1]!r}; everything is given by flags.")
    try:
        val = sources.open_data(_DATA.value, val_fraction=_VAL.value, tfds_dir=_TFDS.value)["val"]
        goal = target(val) if _CHECK.value else None
        classifier, size, classes = load()
        if classes != len(val.classes):
            raise ValueError(f"{_MODEL.value} tells {classes} classes apart, {val.name} has {len(val.classes)}.")
        feed = input_pipeline.Feed(threads=_THREADS.value, bad=input_pipeline.BadImages(_BAD.value))
        result = accuracy.score(classifier, val, size, _BATCH.value, feed).percentages()
        text = f"{_MODEL.value}: top-1 {result['top1']:.2f}%  top-5 {result['top5']:.2f}%  of {result['images']} photos"
        print(json.dumps({"model": _MODEL.value, "data": val.name, **result}) if _JSON.value else text)
        if goal:
            print(accuracy.check(result["top1"], *goal))
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    app.run(main)
