"""Measures the top-1 of `fd-keras finetune` and of a linear classifier on the same features, on test photos.

    python -m benchmarks.finetune --output_dir=OUT --classes=3,10 --photos=5,10,50,200 --alphas=0.25,0.5
    python -m benchmarks.finetune --output_dir=OUT --dataset=digits --photos=50
    python -m benchmarks.finetune --output_dir=OUT --dataset=voc

Each experiment draws classes and photos, runs `fd-keras finetune` with default flags, and tests the network and its
int8 file on the test photos. The linear classifier is scikit-learn's logistic regression on the pooled features of the
same weights, with the C that is best on the test photos, which gives it an advantage. Results that are already in OUT
are not computed again. FD_KERAS_DATA names the folder with imagenette128/, VOCdevkit/ and weights/.
"""

import argparse
import collections
import dataclasses
import json
import os
import pathlib
import shlex
import subprocess
import sys
import warnings
import xml.etree.ElementTree
from collections.abc import Iterator, Sequence
from typing import Any

from fd_keras import startup

startup.hide_tensorflow_notes()

import numpy as np  # noqa: E402
from PIL import Image  # noqa: E402
from sklearn.datasets import load_digits  # noqa: E402
from sklearn.linear_model import LogisticRegression  # noqa: E402

from fd_keras import imagenet  # noqa: E402
from fd_keras.io import write_json  # noqa: E402
from fd_keras.saved import load_model  # noqa: E402
from fd_keras.tflite.verification.compare import tflite_classifier  # noqa: E402
from fd_keras.training.finetune import candidates  # noqa: E402
from fd_keras.training.finetune.candidates import FinetuneNetwork  # noqa: E402
from fd_keras.training.finetune.photo_folder import Labeled  # noqa: E402

WEIGHTS = {0.25: "0.25x-FDMobileNet-224.pth.tar", 0.5: "0.5x-FDMobileNet-224.pth.tar"}
MAX_TEST_PHOTOS = 1500
C_GRID = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
MIN_OBJECT_SIZE = 32  # pixels
_BATCH = 64


def imagenette(data: pathlib.Path, out: pathlib.Path) -> pathlib.Path:
    """Imagenette, unchanged."""
    return data / "imagenette128"


def digits(data: pathlib.Path, out: pathlib.Path) -> pathlib.Path:
    """Writes scikit-learn's digits as images: 1,200 for training, 597 for testing."""
    loaded: Any = load_digits()
    for position, index in enumerate(np.random.default_rng(0).permutation(len(loaded.images))):
        split = "train" if position < 1200 else "val"
        path = out / "digits" / split / str(loaded.target[index]) / f"{index:04}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = (loaded.images[index] * 255 / 16).round().astype("uint8")
        Image.fromarray(pixels).resize((64, 64), Image.Resampling.BICUBIC).save(path)
    return out / "digits"


def voc(data: pathlib.Path, out: pathlib.Path) -> pathlib.Path:
    """Crops the objects of PASCAL VOC 2007, with margins of a tenth of their size; difficult objects are left out."""
    root = data / "VOCdevkit" / "VOC2007"
    for split in ("train", "val"):
        for name in (root / "ImageSets" / "Main" / f"{split}.txt").read_text().split():
            _crop_objects(root, name, out / "voc" / split)
    return out / "voc"


def _crop_objects(root: pathlib.Path, name: str, folder: pathlib.Path) -> None:
    tree = xml.etree.ElementTree.parse(root / "Annotations" / f"{name}.xml")
    with Image.open(root / "JPEGImages" / f"{name}.jpg") as image:
        for number, item in enumerate(tree.iter("object")):
            box = [float(item.findtext(f"bndbox/{key}", "0")) for key in ("xmin", "ymin", "xmax", "ymax")]
            width, height = box[2] - box[0], box[3] - box[1]
            if item.findtext("difficult") == "1" or min(width, height) < MIN_OBJECT_SIZE:
                continue
            margins = [box[0] - width / 10, box[1] - height / 10, box[2] + width / 10, box[3] + height / 10]
            clipped = np.clip(np.round(margins), 0, [image.width, image.height] * 2).astype(int).tolist()
            path = folder / item.findtext("name", "") / f"{name}_{number}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            image.convert("RGB").crop(tuple(clipped)).save(path, quality=95)


DATASETS = {"imagenette": imagenette, "digits": digits, "voc": voc}


@dataclasses.dataclass(frozen=True)
class Experiment:
    """The conditions of one result.

    Attributes:
        dataset: Key of `DATASETS`.
        classes: Number of classes, None for all.
        photos: Number of training photos per class, None for all.
        alpha: Width multiplier.
        image_size: Side of the images in pixels.
        seed: Seed of the draw and of the training.
    """

    dataset: str
    classes: int | None
    photos: int | None
    alpha: float
    image_size: int
    seed: int

    @property
    def name(self) -> str:
        """Name of its files and folder."""
        amount = f"{self.classes or 'all'}x{self.photos or 'all'}"
        return f"{self.dataset}_{amount}_{self.alpha}_{self.image_size}_{self.seed}"


def draw(experiment: Experiment, source: pathlib.Path, folder: pathlib.Path) -> tuple[list[Labeled], list[str]]:
    """Links the training photos of a draw into class folders; returns the test photos and the class names."""
    available = sorted(path.name for path in (source / "train").iterdir())
    rng = np.random.default_rng(100 + experiment.seed)
    names = sorted(available[index] for index in rng.permutation(len(available))[: experiment.classes])
    test = []
    for label, name in enumerate(names):
        found = sorted((source / "train" / name).iterdir())
        (folder / name).mkdir(parents=True, exist_ok=True)
        for index in rng.permutation(len(found))[: experiment.photos]:
            link = folder / name / found[index].name
            if not link.exists():
                link.symlink_to(found[index].resolve())
        test += [(str(path), label) for path in sorted((source / "val" / name).glob("*"))]
    return [test[index] for index in rng.permutation(len(test))[:MAX_TEST_PHOTOS]], names


def linear_top1(network: FinetuneNetwork, train: Sequence[Labeled], test: Sequence[Labeled]) -> float:
    """Top-1 of the linear classifier, in percent."""
    features = candidates.pooled_features(network, [path for path, _ in (*train, *test)], 1)[:, 0]
    scaled = features / (features[: len(train)].std(0) + 1e-6)
    labels, expected = (np.array([label for _, label in photos]) for photos in (train, test))
    warnings.simplefilter("ignore")  # about the number of iterations
    fits = [LogisticRegression(C=c, max_iter=300).fit(scaled[: len(train)], labels) for c in C_GRID]
    return max(100 * float((fit.predict(scaled[len(train) :]) == expected).mean()) for fit in fits)


def top1_of(model: str, files: Sequence[str], test: Sequence[Labeled]) -> list[float]:
    """Top-1 of a .keras file and of .tflite files, in percent."""
    network, classifiers = load_model(model), [tflite_classifier(path, os.cpu_count() or 1) for path in files]
    hits = np.zeros(1 + len(files))
    for images, labels in _batches(test, network.input_shape[1:3]):
        outputs = (np.asarray(network(images, training=False)), *(classify(images) for classify in classifiers))
        hits += [(scores.argmax(-1) == labels).sum() for scores in outputs]
    return (100 * hits / len(test)).tolist()


def _batches(test: Sequence[Labeled], size: Sequence[int]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for start in range(0, len(test), _BATCH):
        chunk = test[start : start + _BATCH]
        images = np.stack([imagenet.load_image(path, size) for path, _ in chunk]).astype("float32")
        yield images, np.array([label for _, label in chunk])


def measure(
    experiment: Experiment, data: pathlib.Path, source: pathlib.Path, folder: pathlib.Path, flags: Sequence[str]
) -> dict:
    """Trains and tests the network and the linear classifier.

    Args:
        experiment: Classes, photos, network and seed.
        data: Folder with weights/.
        source: Folder with train/ and val/.
        folder: Folder for the drawn photos and the files of `fd-keras finetune`.
        flags: Additional flags of `fd-keras finetune`.

    Returns:
        Top-1 in percent by classifier, and the numbers of photos and classes, to store as JSON.
    """
    weights = str(data / "weights" / WEIGHTS[experiment.alpha])
    test, names = draw(experiment, source, folder / "photos")
    settings = [f"--{name}={getattr(experiment, name)}" for name in ("alpha", "image_size", "seed")]
    program = [sys.executable, "-m", "fd_keras.cli", "finetune", str(folder / "photos")]
    program += [f"--output_dir={folder / 'mine'}", f"--init_weights={weights}", *settings, *flags]
    subprocess.run(program, check=True)
    record = json.loads((folder / "mine" / "run.json").read_text())
    network = FinetuneNetwork("fd_mobilenet", experiment.alpha, experiment.image_size, tuple(names), weights)
    train = [
        (str(path), label) for label, name in enumerate(names) for path in sorted((folder / "photos" / name).iterdir())
    ]
    model = str(folder / "mine" / f"{network.name}.keras")
    float32, int8 = top1_of(model, [model.replace(".keras", "_int8.tflite")], test)
    return {
        "photos": len(train),
        "classes": len(names),
        "tested": len(test),
        "kept": record["result"]["kept"],
        "claimed": 100 * record["result"]["top1"],
        "ours": float32,
        "int8": int8,
        "probe": linear_top1(network, train, test),
        "git_commit": record["git_commit"],
    }


def table(out: pathlib.Path) -> str:
    """All results in a folder as Markdown: mean (minimum-maximum) over the draws."""
    results: dict[str, list[dict]] = {}
    for path in sorted(out.glob("*_*x*_*.json")):
        results.setdefault(path.stem.rpartition("_")[0], []).append(json.loads(path.read_text()))
    lines = [
        "| experiment | draws | finetune | its int8 file | linear classifier | difference | kept |",
        "|---|---:|---:|---:|---:|---:|---|",
    ]
    for name, found in results.items():
        columns = [_mean_and_range([row[key] for row in found]) for key in ("ours", "int8", "probe")]
        gain = float(np.mean([row["ours"] - row["probe"] for row in found]))
        kept = collections.Counter(row["kept"] for row in found)
        lines.append(
            f"| {name} | {len(found)} | {' | '.join(columns)} | {gain:+.1f} | "
            f"{', '.join(f'{title} {count}' for title, count in kept.items())} |"
        )
    return "\n".join(lines)


def _mean_and_range(values: Sequence[float]) -> str:
    return f"{np.mean(values):.1f} ({min(values):.1f}-{max(values):.1f})"


def parser() -> argparse.ArgumentParser:
    """The command line."""
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = flags.add_argument
    add("--dataset", choices=DATASETS, default="imagenette")
    add("--output_dir", required=True, help="folder for photos and results")
    add("--data", default=os.environ.get("FD_KERAS_DATA"), help="default: FD_KERAS_DATA")
    add("--classes", type=_numbers, default=[None], help="numbers of classes, such as 3,10 (default: all)")
    add("--photos", type=_numbers, default=[None], help="numbers of photos per class, such as 5,50 (default: all)")
    add("--alphas", default="0.25", help="width multipliers, such as 0.25,0.5")
    add("--draws", type=int, default=3, help="number of draws of classes and photos")
    add("--image_size", type=int, default=128, help="side of the images in pixels")
    add("--flags", type=shlex.split, default=[], help="additional flags of fd-keras finetune, in quotes")
    return flags


def _numbers(text: str) -> list[int | None]:
    return [None if word == "all" else int(word) for word in text.split(",")]


def main() -> None:
    """Computes the missing results, prints each, and prints the table."""
    args = parser().parse_args()
    data, out = pathlib.Path(args.data), pathlib.Path(args.output_dir)
    source = DATASETS[args.dataset](data, out)
    alphas = [float(alpha) for alpha in args.alphas.split(",")]
    experiments = [
        Experiment(args.dataset, classes, photos, alpha, args.image_size, seed)
        for seed in range(args.draws)
        for classes in args.classes
        for photos in args.photos
        for alpha in alphas
    ]
    for experiment in experiments:
        target = out / f"{experiment.name}.json"
        if not target.exists():
            write_json(target, measure(experiment, data, source, out / experiment.name, args.flags))
        print(experiment.name, json.loads(target.read_text()), flush=True)
    print(table(out))


if __name__ == "__main__":
    main()
