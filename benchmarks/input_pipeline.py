"""Measures how many photos a second of one core's time makes ready for training, beside the least that they can cost.

The limit is libjpeg-turbo alone, decoding whole photos and nothing else. The yardstick is what torchvision's transforms
do on PIL images. Everything runs in turns in one process, on the same photos.

    pip install -e ".[train,input]"
    python -m benchmarks.input_pipeline --photos=PHOTOS
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
EPOCH = 1000  # photos; short ones would be paying for starting them
PAPER = recipes.RECIPES["paper"].override(batch_size=BATCH)
SHRUNK = (320, 256)  # short sides that `fd-keras prepare --shrink` is documented with


def list_jpegs(folder: str) -> list[str]:
    """Paths of the folder's photos that libjpeg-turbo decodes to RGB, again and again until they fill an epoch.

    Raises ValueError if they do not fill a batch.
    """
    paths = []
    for path in list_images(folder):
        with Image.open(path) as image:
            if image.format == "JPEG" and image.mode == "RGB":
                paths.append(path)
    if len(paths) < BATCH:
        raise ValueError(f"--photos={folder}: {len(paths)} RGB JPEGs there, at least {BATCH} are needed.")
    paths = paths * math.ceil(EPOCH / len(paths))
    return paths[:EPOCH]


def decode_all(photos: list[bytes]) -> None:
    """The limit."""
    for data in photos:
        simplejpeg.decode_jpeg(data)


def pil_batches(photos: list[bytes]) -> None:
    """Torchvision's RandomResizedCrop, RandomHorizontalFlip, ToTensor and Normalize, as they work on PIL images."""
    random = np.random.default_rng(0)
    mean, std = (np.asarray(value, "float32")[:, None, None] for value in (imagenet.MEAN, imagenet.STD))
    for start in range(0, len(photos), BATCH):
        np.stack([(_pil_photo(data, random) - mean) / std for data in photos[start : start + BATCH]])


def _pil_photo(data: bytes, random: np.random.Generator) -> np.ndarray:
    """float32 (3, size, size) in 0..1."""
    image = Image.open(io.BytesIO(data)).convert("RGB")
    left, top, width, height = _pil_box(*image.size, random)
    image = image.crop((left, top, left + width, top + height))
    image = image.resize((PAPER.image_size, PAPER.image_size), Image.Resampling.BILINEAR)
    if random.random() < PAPER.flip:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return np.ascontiguousarray(np.asarray(image).transpose(2, 0, 1)).astype("float32") / 255


def _pil_box(columns: int, rows: int, random: np.random.Generator) -> tuple[int, int, int, int]:
    """(left, top, width, height) of a random crop; the whole photo where ten tries do not fit."""
    for _ in range(crops.TRIES):
        area = columns * rows * random.uniform(PAPER.crop_scale, 1)
        ratio = math.exp(random.uniform(math.log(recipes.RATIO[0]), math.log(recipes.RATIO[1])))
        width, height = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if width <= columns and height <= rows:
            return int(random.integers(columns - width + 1)), int(random.integers(rows - height + 1)), width, height
    return 0, 0, columns, rows


def write_shards(paths: list[str], folder: str, shrink: int | None) -> sources.Shards:
    """The photos as `fd-keras prepare` writes them."""
    raws = [shards.Raw(Path(path).name, path, number % 2) for number, path in enumerate(paths)]
    tasks = shards.plan("train", raws, folder, 4, shrink, seed=0)
    written = shards.write(tasks, workers=1)
    return sources.Shards(folder, [task.path for task in tasks], [facts["count"] for facts in written], "ab")


def our_batches(source: sources.Source, **fields) -> Callable[[], None]:
    """An epoch of the pipeline that training runs, with some fields of the recipe changed."""
    batches = input_pipeline.training_batches(
        source, PAPER.override(**fields), seed=0, step=0, feed=input_pipeline.Feed(threads=1)
    )

    def epoch() -> None:
        for _ in batches:
            pass

    return epoch


def cases(paths: list[str], folder: str) -> dict[str, Callable[[], None]]:
    """What is timed, the limit first; the shards are written into the folder."""
    photos = [Path(path).read_bytes() for path in paths]
    whole, *small = (write_shards(paths, tempfile.mkdtemp(dir=folder), shrink) for shrink in (None, *SHRUNK))
    files = sources.Folder("photos", paths, [number % 2 for number in range(len(paths))], "ab")
    return {
        "libjpeg-turbo alone (the limit)": lambda: decode_all(photos),
        "PIL, as torchvision does it": lambda: pil_batches(photos),
        "shards (the default)": our_batches(whole),
        "shards, --antialias": our_batches(whole, antialias=True),
        "folder:": our_batches(files),
    } | {
        f"shards made with --shrink={side}{words}": our_batches(source, **fields)
        for side, source in zip(SHRUNK, small, strict=True)
        for words, fields in (("", {}), (", --antialias", {"antialias": True}))
    }


def timed(calls: dict[str, Callable[[], None]], rounds: int, photos: int) -> dict[str, list[float]]:
    """Photos per second of processor time, for every round; the first round, which warms up, is left out."""
    rates = {name: [] for name in calls}
    for number in progress(range(rounds + 1), unit="rounds"):
        for name, call in calls.items():
            start = time.process_time()
            call()
            if number:
                rates[name].append(photos / (time.process_time() - start))
    return rates


def table(rates: dict[str, list[float]]) -> str:
    """The medians, and the medians and ranges of the ratios within a round."""
    limit, pil = list(rates.values())[:2]
    lines = [f"{'':46} photos/CPU-s   of the limit          by PIL"]
    for name, values in rates.items():
        lines.append(f"{name:46} {statistics.median(values):12.0f}   {_ratio(values, limit)}   {_ratio(values, pil)}")
    return "\n".join(lines)


def _ratio(values: list[float], base: list[float]) -> str:
    ratios = [value / other for value, other in zip(values, base, strict=True)]
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f})"


def main() -> None:
    """Times all cases and prints the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0], allow_abbrev=False)
    parser.add_argument("--photos", required=True, help="a folder of photos of the usual size; 250 will do")
    parser.add_argument("--rounds", type=int, default=7, help="how often to go round")
    args = parser.parse_args()
    devices.reproducible(1)
    tf.config.set_visible_devices([], "GPU")
    try:
        paths = list_jpegs(args.photos)
    except (ValueError, OSError) as error:
        parser.error(str(error))
    with tempfile.TemporaryDirectory() as folder:
        size = statistics.mean(Path(path).stat().st_size for path in paths)
        print(f"{len(set(paths))} photos of {size / 1e3:.0f} kB, {len(paths)} an epoch")
        print(table(timed(cases(paths, folder), args.rounds, len(paths))))


if __name__ == "__main__":
    main()
