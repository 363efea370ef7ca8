"""Measures how many photos per second of CPU time are prepared for training, compared with libjpeg-turbo and PIL.

    pip install -e ".[train,input]"
    python -m benchmarks.input_pipeline --photos=PHOTOS

libjpeg-turbo only decodes whole photos. PIL computes what torchvision's transforms compute. All cases alternate in one
process, on the same photos.
"""

import argparse
import io
import math
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import simplejpeg
import tensorflow as tf
from PIL import Image

from fd_keras import imagenet
from fd_keras.photos import list_images
from fd_keras.progress import progress
from fd_keras.training import crops, devices, input_pipeline, recipes, shards, sources

BATCH = 50
EPOCH = 1000  # photos; in shorter epochs the startup time would count
PAPER = recipes.RECIPES["paper"].override(batch_size=BATCH)
SHRUNK = (320, 256)  # short sides of `fd-keras prepare --shrink` in the docs


def list_jpegs(folder: str) -> list[str]:
    """Paths of the folder's RGB JPEGs, repeated to fill an epoch.

    Raises:
        ValueError: If there are fewer than a batch.
    """
    paths = []
    for path in list_images(folder):
        with Image.open(path) as image:
            if image.format == "JPEG" and image.mode == "RGB":
                paths.append(path)
    if len(paths) < BATCH:
        raise ValueError(f"--photos={folder}: need at least {BATCH} RGB JPEGs, found {len(paths)}.")
    paths = paths * math.ceil(EPOCH / len(paths))
    return paths[:EPOCH]


def decode_all(photos: list[bytes]) -> None:
    """Decodes whole photos with libjpeg-turbo."""
    for data in photos:
        simplejpeg.decode_jpeg(data)


def pil_batches(photos: list[bytes]) -> None:
    """Computes torchvision's RandomResizedCrop, RandomHorizontalFlip, ToTensor and Normalize with PIL."""
    random = np.random.default_rng(0)
    mean, std = (np.asarray(value, "float32")[:, None, None] for value in (imagenet.MEAN, imagenet.STD))
    for start in range(0, len(photos), BATCH):
        np.stack([(_pil_photo(data, random) - mean) / std for data in photos[start : start + BATCH]])


def _pil_photo(data: bytes, random: np.random.Generator) -> np.ndarray:
    """A random crop of a photo, float32 (3, size, size) in 0..1."""
    image = Image.open(io.BytesIO(data)).convert("RGB")
    left, top, width, height = _pil_box(*image.size, random)
    image = image.crop((left, top, left + width, top + height))
    image = image.resize((PAPER.image_size, PAPER.image_size), Image.Resampling.BILINEAR)
    if random.random() < PAPER.flip:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return np.ascontiguousarray(np.asarray(image).transpose(2, 0, 1)).astype("float32") / 255


def _pil_box(columns: int, rows: int, random: np.random.Generator) -> tuple[int, int, int, int]:
    """(left, top, width, height) of a random crop; the whole photo if none of ten tries fits."""
    for _ in range(crops.TRIES):
        area = columns * rows * random.uniform(PAPER.crop_scale, 1)
        ratio = math.exp(random.uniform(math.log(recipes.RATIO[0]), math.log(recipes.RATIO[1])))
        width, height = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if width <= columns and height <= rows:
            return int(random.integers(columns - width + 1)), int(random.integers(rows - height + 1)), width, height
    return 0, 0, columns, rows


def write_shards(paths: list[str], folder: str, shrink: int | None) -> sources.Shards:
    """Writes the photos as `fd-keras prepare` does."""
    raws = [shards.Raw(Path(path).name, path, number % 2) for number, path in enumerate(paths)]
    tasks = shards.plan("train", raws, folder, 4, shrink, seed=0)
    written = shards.write(tasks, workers=1)
    return sources.Shards(folder, [task.path for task in tasks], [facts["count"] for facts in written], "ab")


def our_batches(source: sources.Source, **fields) -> Callable[[], None]:
    """A function that runs an epoch of the training pipeline; `fields` override the recipe."""
    batches = input_pipeline.training_batches(
        source, PAPER.override(**fields), seed=0, step=0, feed=input_pipeline.Feed(threads=1)
    )

    def epoch() -> None:
        for _ in batches:
            pass

    return epoch


def cases(paths: list[str], folder: str) -> dict[str, Callable[[], None]]:
    """The cases to measure, libjpeg-turbo and PIL first; shards are written to the folder."""
    photos = [Path(path).read_bytes() for path in paths]
    whole, *small = (write_shards(paths, tempfile.mkdtemp(dir=folder), shrink) for shrink in (None, *SHRUNK))
    files = sources.Folder("photos", paths, [number % 2 for number in range(len(paths))], "ab")
    return {
        "libjpeg-turbo alone": lambda: decode_all(photos),
        "PIL, as in torchvision's transforms": lambda: pil_batches(photos),
        "shards (the default)": our_batches(whole),
        "shards, --antialias": our_batches(whole, antialias=True),
        "folder:": our_batches(files),
    } | {
        f"shards made with --shrink={side}{words}": our_batches(source, **fields)
        for side, source in zip(SHRUNK, small, strict=True)
        for words, fields in (("", {}), (", --antialias", {"antialias": True}))
    }


def measure(calls: dict[str, Callable[[], None]], rounds: int, photos: int) -> dict[str, list[float]]:
    """Photos per second of CPU time in each round, without the first round, which warms up."""
    rates = {name: [] for name in calls}
    for number in progress(range(rounds + 1), unit="rounds"):
        for name, call in calls.items():
            start = time.process_time()
            call()
            if number:
                rates[name].append(photos / (time.process_time() - start))
    return rates


def table(rates: dict[str, list[float]]) -> str:
    """The medians, with the medians and ranges of the ratios within a round."""
    libjpeg, pil = list(rates.values())[:2]
    lines = [f"{'':46} photos/CPU-s   {'vs libjpeg-turbo':16}   vs PIL"]
    for name, values in rates.items():
        lines.append(f"{name:46} {statistics.median(values):12.0f}   {_ratio(values, libjpeg)}   {_ratio(values, pil)}")
    return "\n".join(lines)


def _ratio(values: list[float], base: list[float]) -> str:
    ratios = [value / other for value, other in zip(values, base, strict=True)]
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f})"


def main() -> None:
    """Measures all cases and prints the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0], allow_abbrev=False)
    parser.add_argument("--photos", required=True, help="folder with JPEGs of about 500 pixels; 250 are enough")
    parser.add_argument("--rounds", type=int, default=7, help="number of rounds")
    args = parser.parse_args()
    devices.reproducible(1)
    tf.config.set_visible_devices([], "GPU")
    try:
        paths = list_jpegs(args.photos)
    except (ValueError, OSError) as error:
        parser.error(str(error))
    with tempfile.TemporaryDirectory() as folder:
        size = statistics.mean(Path(path).stat().st_size for path in paths)
        print(f"{len(set(paths))} photos of {size / 1e3:.0f} kB, {len(paths)} per epoch")
        print(table(measure(cases(paths, folder), args.rounds, len(paths))))


if __name__ == "__main__":
    main()
