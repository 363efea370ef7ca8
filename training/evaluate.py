"""Measures top-1 and top-5 of a trained network, a published one or a .tflite file, on central crops.

    fd-keras evaluate --model=RUN/last/fd_mobilenet_0.25_224.keras --data=SHARDS --check
    fd-keras evaluate --model=fd_mobilenet --alpha=0.25 --weights=imagenet_authors --data=SHARDS
    fd-keras evaluate --model=fd_mobilenet_0.25_224_int8.tflite --data=PHOTOS
    fd-keras evaluate --run_dir=RUN

PHOTOS has one folder per class, named as the class. --run_dir evaluates the model of a run on its held-out photos.
Photos are resized to a short side of 256 pixels for a crop of 224, and in proportion for other sizes.
"""

import json
import os
from typing import TYPE_CHECKING

from absl import flags

from fd_keras import class_names, zoo
from fd_keras.program import Program, UsageError, define_positive, flag_group
from fd_keras.training import recipes, run_record

if TYPE_CHECKING:
    from fd_keras.image_classifier import ImageClassifier
    from fd_keras.training.sources import Source

with flag_group("Network"):
    _MODEL = flags.DEFINE_string(
        "model", None, f"A .keras or .tflite file, or {', '.join(zoo.ARCHS)} (default: the last model of --run_dir)."
    )
    _ALPHA = define_positive("alpha", None, "Width multiplier of a network by name (default 1).", 100)
    _GROUPS = flags.DEFINE_integer("groups", None, "Groups of a ShuffleNet by name (default 3).", 1)
    _STEM = define_positive("stem_multiplier", None, "Stem width of a ShuffleNet by name.", 100)
    _WEIGHTS = flags.DEFINE_string(
        "weights", "imagenet", "Weights of a network by name: imagenet, imagenet_authors or a path."
    )
with flag_group("Data"):
    _DATA = flags.DEFINE_string("data", None, "Folder of class folders or of prepared shards, or tfds:NAME.")
    _RUN = flags.DEFINE_string("run_dir", None, "Run whose held-out photos to use instead of --data.")
    _VAL = define_positive("val_fraction", None, "Share of each class to hold out, as in training.", 1)
    _TFDS = flags.DEFINE_string("tfds_dir", None, "Folder of TensorFlow Datasets.")
    _BAD = flags.DEFINE_integer("max_bad_images", 0, "Maximum number of undecodable photos to skip.", lower_bound=0)
with flag_group("Target"):
    _CHECK = flags.DEFINE_bool("check", False, "Fail unless the recipe's accuracy is reached.")
    _RECIPE = flags.DEFINE_enum(
        "recipe", None, list(recipes.RECIPES), "Recipe with the target (default: the run's, or paper)."
    )
    _TARGET = flags.DEFINE_float("target", None, "Top-1 in percent to check instead of the recipe's.", 0, 100)
with flag_group("Run"):
    _BATCH = flags.DEFINE_integer("batch_size", 64, "Number of photos in a batch.", lower_bound=1)
    _THREADS = flags.DEFINE_integer("threads", os.cpu_count() or 1, "Number of threads.", lower_bound=1)
    _JSON = flags.DEFINE_bool("json", False, "Print JSON.")


def model_path() -> str:
    """Returns --model, or the path of the run's model. Raises UsageError if flags are missing or contradict."""
    run = _RUN.value
    if _DATA.value is None and run is None:
        raise UsageError("--data is required: photos; or --run_dir: a run with held-out photos")
    if _MODEL.value is None and run is None:
        raise UsageError("--model is required: a .keras file, .tflite file or network; or --run_dir: a run's folder")
    for flag in (_VAL, _TFDS):
        if _DATA.value is None and flag.value is not None:
            raise UsageError(f"--{flag.name} needs --data; --run_dir uses the photos that the run held out")
    from fd_keras.training import evaluation_photos

    return _MODEL.value or evaluation_photos.model_of(run or "")


def load(path: str) -> "ImageClassifier":
    """Loads the classifier at a path, or builds the network of that name.

    Raises:
        ValueError: If it is not a classifier of square RGB images.
    """
    from fd_keras import image_classifier
    from fd_keras.applications import build_by_name

    if path in zoo.ARCHS:
        model = build_by_name(
            path, groups=_GROUPS.value, stem_multiplier=_STEM.value, alpha=_ALPHA.value or 1.0, weights=_WEIGHTS.value
        )
        return image_classifier.of_model(model, path)
    classifier = image_classifier.open_classifier(path, _THREADS.value)
    height, width, channels = classifier.size
    if height != width or channels != 3:
        raise ValueError(
            f"{path}: takes {height}x{width}x{channels} images, but evaluate only supports square RGB images; use "
            "fd-keras verify."
        )
    return classifier


def photos_for(path: str, classes: int) -> "Source":
    """Opens the photos that the flags name, with the class numbers of the model at a path."""
    from fd_keras.training import evaluation_photos

    if _DATA.value is None:
        return evaluation_photos.of_run(_RUN.value or "")
    names = None if path in zoo.ARCHS else class_names.names_of(path, classes)
    return evaluation_photos.of_data(_DATA.value, names, classes, val_fraction=_VAL.value, tfds_dir=_TFDS.value)


def target(path: str, val: "Source") -> tuple[float, str]:
    """Returns the expected top-1 in percent, and where it comes from. Raises ValueError if there is no target."""
    from fd_keras.training import sources

    if _TARGET.value is not None:
        return _TARGET.value, "--target"
    run = run_record.config_of(path)
    network = (run["model"], run["alpha"]) if run else (path, _ALPHA.value or 1.0)
    name = _RECIPE.value or (run or {}).get("name", "paper")
    top1 = recipes.RECIPES[name].targets.get(network)
    if top1 is None:
        raise ValueError(f"--check: recipe {name} has no target for {network[0]} {network[1]}x; pass --target.")
    if not sources.is_imagenet(val):
        raise ValueError(
            f"--check: the recipes' targets are for ImageNet's 50,000 validation photos, but {val.name} is another "
            "set; pass --target."
        )
    return top1, f"recipe {name}, {network[0]} {network[1]}x"


def main(argv: list[str]) -> None:
    """Evaluates the classifier, and compares its accuracy with the target."""
    path = model_path()
    from fd_keras.training import accuracy, input_pipeline

    classifier = load(path)
    val = photos_for(path, classifier.classes)
    goal = target(path, val) if _CHECK.value else None
    if classifier.classes != len(val.classes):
        raise ValueError(f"{path} has {classifier.classes} classes, but {val.name} has {len(val.classes)}.")
    feed = input_pipeline.Feed(threads=_THREADS.value, bad=input_pipeline.BadImages(_BAD.value))
    result = accuracy.score(classifier, val, classifier.size[0], _BATCH.value, feed).percentages()
    text = f"{path}: top-1 {result['top1']:.2f}%  top-5 {result['top5']:.2f}%  of {result['images']} photos"
    print(json.dumps({"model": path, "data": val.name, **result}) if _JSON.value else text)
    if goal:
        print(accuracy.check(result["top1"], *goal))


PROGRAM = Program(main)

if __name__ == "__main__":
    PROGRAM.run()
