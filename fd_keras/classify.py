"""Classifies photos and prints the top classes.

    fd-keras classify photo.jpg folder/
    fd-keras classify --alpha=0.25 --weights=0.25x-FDMobileNet-224.pth.tar --json photo.jpg
    fd-keras classify --model=mine.tflite --labels=names.txt photo.jpg

Photos are decoded, resized and cropped exactly as in the reference evaluation, see `fd_keras.imagenet.load_image`.
The class names of a model file come from --labels, the file itself, its .json or its run.
"""

import argparse
import itertools
import json
import os
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fd_keras import class_names, imagenet, spec, zoo
from fd_keras.cli import check_model, parse_args, program_name, run_module, summary
from fd_keras.errors import UsageError
from fd_keras.io import printable
from fd_keras.photos import list_images
from fd_keras.progress import progress

if TYPE_CHECKING:
    import keras

    from fd_keras.image_classifier import ImageClassifier

BATCH = 32
_ZOO = {"alpha": 1.0, "groups": None, "stem_multiplier": None, "weights": "imagenet"}  # flags for networks by name


def classify(
    model: "keras.Model | ImageClassifier",
    paths: Sequence[str],
    *,
    top: int = 5,
    upright: bool = False,
    names: Sequence[str] | None = None,
) -> Iterator[dict]:
    """Classifies image files; a file that cannot be decoded yields an error and does not stop the others.

    Args:
        model: Classifier, or Keras model that takes raw images.
        paths: Paths of the images.
        top: Number of classes to return.
        upright: Whether to rotate photos by their EXIF orientation.
        names: Class names in label order. By default, a model of 1000 classes gets ImageNet's names; others get
            "class 0", "class 1" and so on.

    Yields:
        {"image": path, "predictions": [{"label", "name", "probability"}, ...]} or {"image": path, "error": text}, in
        the order of `paths`; predictions of ImageNet's classes also have a "wnid".
    """
    from fd_keras.image_classifier import ImageClassifier, of_model

    if not isinstance(model, ImageClassifier):
        model = of_model(model, model.name, few=len(paths) <= BATCH)
    known = _known_classes(model.classes, names)
    for start in range(0, len(paths), BATCH):
        chunk = paths[start : start + BATCH]
        loaded = [_load(path, model.size, upright) for path in chunk]
        images = [image for image in loaded if not isinstance(image, str)]
        results = iter(_named(model(np.stack(images)), known, top) if images else ())
        for path, image in zip(chunk, loaded, strict=True):
            yield {"image": path, "error": image} if isinstance(image, str) else {"image": path, **next(results)}


def _load(path: str, size: Sequence[int], upright: bool) -> np.ndarray | str:
    """The image as float32, which models take unchanged; or the error message."""
    try:
        return imagenet.load_image(path, size, upright=upright).astype("float32")
    except (OSError, ValueError) as error:
        return str(error)


def _known_classes(classes: int, names: Sequence[str] | None) -> list[dict[str, Any]]:
    """The prediction entry of each class, without its probability."""
    wordnet_ids, of_imagenet = imagenet.wordnet_ids(), imagenet.class_names()
    if classes == imagenet.CLASSES and (names is None or tuple(names) in (wordnet_ids, of_imagenet)):
        return [{"label": i, "wnid": wordnet_ids[i], "name": of_imagenet[i]} for i in range(classes)]
    return [{"label": i, "name": names[i] if names else f"class {i}"} for i in range(classes)]


def _named(probabilities: np.ndarray, known: Sequence[dict], top: int) -> Iterator[dict]:
    for row, best in zip(probabilities, imagenet.top_classes(probabilities, top), strict=True):
        yield {"predictions": [known[i] | {"probability": float(row[i])} for i in best.tolist()]}


def _report(result: dict) -> str:
    lines = []
    for found in result["predictions"]:
        wnid = f" ({found['wnid']})" if "wnid" in found else ""
        lines.append(f"  {found['probability']:6.1%}  {printable(found['name'])}{wnid}")
    return "\n".join([result["image"], *lines])


def parser() -> argparse.ArgumentParser:
    """The program's flags."""
    flags = argparse.ArgumentParser(prog=program_name(__spec__), description=summary(__doc__), allow_abbrev=False)
    flags.add_argument("images", nargs="+", metavar="PHOTO", help="image files or folders of images")
    flags.add_argument(
        "--model",
        default="fd_mobilenet",
        help=f"a .keras or .tflite file, or a network: {', '.join(zoo.ARCHS)} (default %(default)s)",
    )
    flags.add_argument("--labels", help="text file with one class name per line (default: names stored with the file)")
    flags.add_argument("--alpha", type=float, help="width multiplier of a network by name (default 1.0)")
    flags.add_argument("--groups", type=int, help="groups of a ShuffleNet (default 3)")
    flags.add_argument("--stem_multiplier", type=float, help="stem width of a ShuffleNet (default alpha, at least 0.5)")
    flags.add_argument(
        "--weights", help="of a network by name: imagenet, imagenet_authors or a path (default imagenet)"
    )
    flags.add_argument("--top", type=int, default=5, help="number of classes to print (default 5)")
    flags.add_argument("--upright", action="store_true", help="rotate photos by their EXIF orientation")
    flags.add_argument("--json", action="store_true", help="print a JSON list")
    return flags


def _expand(images: Sequence[str]) -> tuple[list[str], list[dict]]:
    """All image files, and an error for each argument that cannot be read or contains no images."""
    paths, errors = [], []
    for image in images:
        try:
            paths += list_images(image)
        except (OSError, ValueError) as error:
            errors.append({"image": image, "error": str(error)})
    return paths, errors


def _classified(args: argparse.Namespace, paths: list[str]) -> Iterator[dict]:
    """Loads the model, which may download weights, and classifies the photos; does neither without photos."""
    if not paths:
        return
    model = _model(args, few=len(paths) <= BATCH)
    names = None if args.model in zoo.ARCHS else class_names.names_of(args.model, model.classes, args.labels)
    yield from progress(classify(model, paths, top=args.top, upright=args.upright, names=names), len(paths))


def _model(args: argparse.Namespace, few: bool) -> "ImageClassifier":
    from fd_keras import applications, image_classifier

    if args.model in zoo.ARCHS:
        return image_classifier.of_model(applications.build_by_name(args.model, **_of_zoo(args)), args.model, few=few)
    return image_classifier.open_classifier(args.model, os.cpu_count() or 1, few)


def _of_zoo(args: argparse.Namespace) -> dict[str, Any]:
    """The flags for a network by name, with their defaults filled in."""
    given = {name: getattr(args, name) for name in _ZOO}
    return {name: default if given[name] is None else given[name] for name, default in _ZOO.items()}


def _check(args: argparse.Namespace) -> None:
    """Raises UsageError or ValueError for invalid flags, before anything is built."""
    check_model(args.model, zoo.ARCHS)
    if not 1 <= args.top <= imagenet.CLASSES:
        raise UsageError(f"--top={args.top}: must be between 1 and {imagenet.CLASSES}")
    if args.model in zoo.ARCHS:
        if args.labels:
            raise UsageError(f"--labels needs a model file as --model; {args.model} has ImageNet's classes")
        network = _of_zoo(args)
        spec.lower(zoo.get_arch(args.model, network["groups"], network["stem_multiplier"]), network["alpha"])
    elif flag := next((name for name in _ZOO if getattr(args, name) is not None), None):
        raise UsageError(f"--{flag} applies only to networks by name; --model={args.model} is a file")


def _print(result: dict, as_json: bool) -> None:
    if "error" in result:
        print(f"error: {result['error']}", file=sys.stderr)
    elif not as_json:
        print(_report(result), flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the program; returns the exit status, 1 if an image could not be classified."""
    args = parse_args(parser(), arguments)
    _check(args)
    paths, errors = _expand(args.images)
    results = []
    for result in itertools.chain(errors, _classified(args, paths)):
        results.append(result)
        _print(result, args.json)
    if args.json:
        json.dump(results, sys.stdout, indent=1)
        print()
    return int(any("error" in result for result in results))


if __name__ == "__main__":
    run_module(main)
