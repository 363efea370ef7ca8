"""Classifies photos and prints the top classes.

    fd-keras classify photo.jpg folder/
    fd-keras classify --alpha=0.25 --weights=0.25x-FDMobileNet-224.pth.tar --json photo.jpg

Photos are decoded, resized and cropped exactly as in the reference evaluation, see `fd_keras.imagenet.load_image`.
"""

import argparse
import itertools
import json
import sys
from collections.abc import Iterator, Sequence

import numpy as np

from fd_keras import imagenet, spec, zoo
from fd_keras.cli import parse_args, program_name, run_module, summary
from fd_keras.errors import UsageError
from fd_keras.photos import list_images
from fd_keras.progress import progress

BATCH = 32


def classify(model, paths: Sequence[str], *, top: int = 5, upright: bool = False) -> Iterator[dict]:
    """Classifies image files; a broken one yields its error and does not stop the others.

    Args:
        model: ImageNet model that takes raw RGB.
        paths: Paths of the images.
        top: Number of classes to return.
        upright: Whether to rotate photos by their EXIF orientation.

    Yields:
        {"image": path, "predictions": [{"label", "wnid", "name", "probability"}, ...]} or
        {"image": path, "error": text}, in the order of `paths`.
    """
    size = model.input_shape[1:3]
    # Tracing a graph takes longer than running a small network on a few photos.
    run = model.predict_on_batch if len(paths) > BATCH else lambda batch: model(batch, training=False)
    for start in range(0, len(paths), BATCH):
        chunk = paths[start : start + BATCH]
        loaded = [_load(path, size, upright) for path in chunk]
        images = [image for image in loaded if not isinstance(image, str)]
        results = iter(_named(np.asarray(run(np.stack(images))), top) if images else ())
        for path, image in zip(chunk, loaded, strict=True):
            yield {"image": path, "error": image} if isinstance(image, str) else {"image": path, **next(results)}


def _load(path: str, size: tuple[int, int], upright: bool) -> np.ndarray | str:
    """The image, as float so that the model takes it as it is; or what is wrong with it."""
    try:
        return imagenet.load_image(path, size, upright=upright).astype("float32")
    except (OSError, ValueError) as error:
        return str(error)


def _named(probabilities: np.ndarray, top: int) -> Iterator[dict]:
    wordnet_ids, names = imagenet.wordnet_ids(), imagenet.class_names()
    for row, best in zip(probabilities, imagenet.top_classes(probabilities, top), strict=True):
        yield {
            "predictions": [
                {"label": i, "wnid": wordnet_ids[i], "name": names[i], "probability": float(row[i])}
                for i in best.tolist()
            ]
        }


def _report(result: dict) -> str:
    lines = [f"  {p['probability']:6.1%}  {p['name']} ({p['wnid']})" for p in result["predictions"]]
    return "\n".join([result["image"], *lines])


def parser() -> argparse.ArgumentParser:
    """The program's flags."""
    flags = argparse.ArgumentParser(prog=program_name(__spec__), description=summary(__doc__), allow_abbrev=False)
    flags.add_argument("images", nargs="+", metavar="PHOTO", help="image files, or folders of them")
    flags.add_argument("--model", default="fd_mobilenet", choices=zoo.ARCHS, help="network (default %(default)s)")
    flags.add_argument("--alpha", type=float, default=1.0, help="width multiplier of the network (default 1.0)")
    flags.add_argument("--groups", type=int, help="groups of a ShuffleNet (default 3)")
    flags.add_argument("--stem_multiplier", type=float, help="stem width of a ShuffleNet (default alpha, at least 0.5)")
    flags.add_argument("--weights", default="imagenet", help="imagenet, imagenet_authors or a path (default imagenet)")
    flags.add_argument("--top", type=int, default=5, help="number of classes to print (default 5)")
    flags.add_argument("--upright", action="store_true", help="rotate photos by their EXIF orientation")
    flags.add_argument("--json", action="store_true", help="print a JSON list")
    return flags


def _expand(images: Sequence[str]) -> tuple[list[str], list[dict]]:
    """All image files, and an error for each argument that leads to none."""
    paths, errors = [], []
    for image in images:
        try:
            paths += list_images(image)
        except (OSError, ValueError) as error:
            errors.append({"image": image, "error": str(error)})
    return paths, errors


def _classified(args: argparse.Namespace, paths: list[str]) -> Iterator[dict]:
    """Builds the network, which may download its weights, and classifies the photos, if there are any."""
    if not paths:
        return
    from fd_keras.applications import build_by_name

    model = build_by_name(
        args.model, groups=args.groups, stem_multiplier=args.stem_multiplier, alpha=args.alpha, weights=args.weights
    )
    yield from progress(classify(model, paths, top=args.top, upright=args.upright), len(paths))


def _print(result: dict, as_json: bool) -> None:
    if "error" in result:
        print(f"error: {result['error']}", file=sys.stderr)
    elif not as_json:
        print(_report(result), flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the program; returns the exit status, 1 if an image could not be classified."""
    args = parse_args(parser(), arguments)
    if not 1 <= args.top <= imagenet.CLASSES:
        raise UsageError(f"--top={args.top}: must be between 1 and {imagenet.CLASSES}")
    spec.lower(zoo.get_arch(args.model, args.groups, args.stem_multiplier), args.alpha)  # refuses what cannot be built
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
