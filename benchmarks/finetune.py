"""Fine-tuning beside a linear classifier on the same features, on photos that neither has seen.

    python -m benchmarks.finetune --output_dir=OUT --classes=3,10 --photos=5,10,50,200 --alphas=0.25,0.5
    python -m benchmarks.finetune --output_dir=OUT --dataset=digits --photos=50
    python -m benchmarks.finetune --output_dir=OUT --dataset=voc

Each cell draws its classes and photos, runs `fd-keras finetune` with its default flags, and scores the network and its
int8 file on the test photos. The rival is scikit-learn's logistic regression on the pooled features of the same
weights, with the C that is best on the test photos, which is generous to it. Cells that OUT holds already are not made
again. FD_KERAS_DATA names the folder with imagenette128/, VOCdevkit/ and weights/.
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
TEST_PHOTOS = 1500  # at most
GRID = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
SMALLEST_OBJECT = 32  # pixels
_BATCH = 64


def imagenette(data: pathlib.Path, out: pathlib.Path) -> pathlib.Path:
    """Imagenette, as it is."""
    return data / "imagenette128"


def digits(data: pathlib.Path, out: pathlib.Path) -> pathlib.Path:
    """scikit-learn's digits: 1,200 to train on, 597 to test."""
    loaded: Any = load_digits()
    for place, index in enumerate(np.random.default_rng(0).permutation(len(loaded.images))):
        side = "train" if place < 1200 else "val"
        path = out / "digits" / side / str(loaded.target[index]) / f"{index:04}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = (loaded.images[index] * 255 / 16).round().astype("uint8")
        Image.fromarray(pixels).resize((64, 64), Image.Resampling.BICUBIC).save(path)
    return out / "digits"


def voc(data: pathlib.Path, out: pathlib.Path) -> pathlib.Path:
    """The objects of PASCAL VOC 2007, cut out with a tenth of their size around them; difficult ones left out."""
    root = data / "VOCdevkit" / "VOC2007"
    for side in ("train", "val"):
        for name in (root / "ImageSets" / "Main" / f"{side}.txt").read_text().split():
            _cut_out(root, name, out / "voc" / side)
    return out / "voc"


def _cut_out(root: pathlib.Path, name: str, folder: pathlib.Path) -> None:
    tree = xml.etree.ElementTree.parse(root / "Annotations" / f"{name}.xml")
    with Image.open(root / "JPEGImages" / f"{name}.jpg") as image:
        for number, thing in enumerate(tree.iter("object")):
            box = [float(thing.findtext(f"bndbox/{key}", "0")) for key in ("xmin", "ymin", "xmax", "ymax")]
            width, height = box[2] - box[0], box[3] - box[1]
            if thing.findtext("difficult") == "1" or min(width, height) < SMALLEST_OBJECT:
                continue
            around = [box[0] - width / 10, box[1] - height / 10, box[2] + width / 10, box[3] + height / 10]
            inside = np.clip(np.round(around), 0, [image.width, image.height] * 2).astype(int).tolist()
            path = folder / thing.findtext("name", "") / f"{name}_{number}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            image.convert("RGB").crop(tuple(inside)).save(path, quality=95)


DATASETS = {"imagenette": imagenette, "digits": digits, "voc": voc}


@dataclasses.dataclass(frozen=True)
class Cell:
    """A cell of the table.

    Attributes:
        dataset: Key of `DATASETS`.
        classes: Number of classes, None for all.
        photos: Number of photos to train on of each class, None for all.
        alpha: Width multiplier.
        image_size: Side of the image.
        seed: Seed of the draw.
    """

    dataset: str
    classes: int | None
    photos: int | None
    alpha: float
    image_size: int
    seed: int

    @property
    def name(self) -> str:
        """Name of its files."""
        sides = f"{self.classes or 'all'}x{self.photos or 'all'}"
        return f"{self.dataset}_{sides}_{self.alpha}_{self.image_size}_{self.seed}"


def draw(cell: Cell, source: pathlib.Path, folder: pathlib.Path) -> tuple[list[Labeled], list[str]]:
    """Links the photos of a draw into a folder of class folders; returns the test photos and the class names."""
    every = sorted(path.name for path in (source / "train").iterdir())
    random = np.random.default_rng(100 + cell.seed)
    names = sorted(every[index] for index in random.permutation(len(every))[: cell.classes])
    test = []
    for label, name in enumerate(names):
        found = sorted((source / "train" / name).iterdir())
        (folder / name).mkdir(parents=True, exist_ok=True)
        for index in random.permutation(len(found))[: cell.photos]:
            link = folder / name / found[index].name
            if not link.exists():
                link.symlink_to(found[index].resolve())
        test += [(str(path), label) for path in sorted((source / "val" / name).glob("*"))]
    return [test[index] for index in random.permutation(len(test))[:TEST_PHOTOS]], names


def probe(network: FinetuneNetwork, train: Sequence[Labeled], test: Sequence[Labeled]) -> float:
    """Top-1 of the rival, in percent."""
    features = candidates.pooled_features(network, [path for path, _ in (*train, *test)], 1)[:, 0]
    scaled = features / (features[: len(train)].std(0) + 1e-6)
    labels, expected = (np.array([label for _, label in side]) for side in (train, test))
    warnings.simplefilter("ignore")  # about the number of iterations
    fits = [LogisticRegression(C=c, max_iter=300).fit(scaled[: len(train)], labels) for c in GRID]
    return max(100 * float((fit.predict(scaled[len(train) :]) == expected).mean()) for fit in fits)


def scores(model: str, files: Sequence[str], test: Sequence[Labeled]) -> list[float]:
    """Top-1 of a .keras file and of .tflite files, in percent."""
    network, runs = load_model(model), [tflite_classifier(path, os.cpu_count() or 1) for path in files]
    hits = np.zeros(1 + len(files))
    for images, labels in _batches(test, network.input_shape[1:3]):
        answers = (np.asarray(network(images, training=False)), *(run(images) for run in runs))
        hits += [(scores.argmax(-1) == labels).sum() for scores in answers]
    return (100 * hits / len(test)).tolist()


def _batches(test: Sequence[Labeled], size: Sequence[int]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for start in range(0, len(test), _BATCH):
        chunk = test[start : start + _BATCH]
        images = np.stack([imagenet.load_image(path, size) for path, _ in chunk]).astype("float32")
        yield images, np.array([label for _, label in chunk])


def make(cell: Cell, data: pathlib.Path, source: pathlib.Path, folder: pathlib.Path, flags: Sequence[str]) -> dict:
    """Makes a cell in a folder of its own.

    Args:
        cell: The cell.
        data: Folder with weights/.
        source: Folder with train/ and val/.
        folder: Where its photos and files go.
        flags: Further flags of `fd-keras finetune`.
    """
    weights = str(data / "weights" / WEIGHTS[cell.alpha])
    test, names = draw(cell, source, folder / "photos")
    given = [f"--alpha={cell.alpha}", f"--image_size={cell.image_size}", f"--init_weights={weights}", *flags]
    program = [sys.executable, "-m", "fd_keras.cli", "finetune", str(folder / "photos")]
    subprocess.run([*program, f"--output_dir={folder / 'mine'}", *given], check=True)
    record = json.loads((folder / "mine" / "run.json").read_text())
    network = FinetuneNetwork("fd_mobilenet", cell.alpha, cell.image_size, tuple(names), weights)
    train = [
        (str(path), label) for label, name in enumerate(names) for path in sorted((folder / "photos" / name).iterdir())
    ]
    model = str(folder / "mine" / f"{network.name}.keras")
    ours, int8 = scores(model, [model.replace(".keras", "_int8.tflite")], test)
    return {
        "photos": len(train),
        "classes": len(names),
        "tested": len(test),
        "kept": record["result"]["kept"],
        "claimed": 100 * record["result"]["top1"],
        "ours": ours,
        "int8": int8,
        "probe": probe(network, train, test),
        "git_commit": record["git_commit"],
    }


def table(out: pathlib.Path) -> str:
    """All cells of a folder as Markdown: means over the draws, with the least and the greatest value."""
    cells: dict[str, list[dict]] = {}
    for path in sorted(out.glob("*_*x*_*.json")):
        cells.setdefault(path.stem.rpartition("_")[0], []).append(json.loads(path.read_text()))
    lines = [
        "| cell | draws | ours | int8 | linear classifier | ours - linear | kept |",
        "|---|---:|---:|---:|---:|---:|---|",
    ]
    for name, found in cells.items():
        columns = [_spread([row[key] for row in found]) for key in ("ours", "int8", "probe")]
        gain = float(np.mean([row["ours"] - row["probe"] for row in found]))
        kept = collections.Counter(row["kept"] for row in found)
        lines.append(
            f"| {name} | {len(found)} | {' | '.join(columns)} | {gain:+.1f} | "
            f"{', '.join(f'{title} {count}' for title, count in kept.items())} |"
        )
    return "\n".join(lines)


def _spread(values: Sequence[float]) -> str:
    return f"{np.mean(values):.1f} ({min(values):.1f}-{max(values):.1f})"


def parser() -> argparse.ArgumentParser:
    """The flags."""
    described = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = described.add_argument
    add("--dataset", choices=DATASETS, default="imagenette")
    add("--output_dir", required=True)
    add("--data", default=os.environ.get("FD_KERAS_DATA"))
    add("--classes", type=_numbers, default=[None], help="such as 3,10 (default: all)")
    add("--photos", type=_numbers, default=[None], help="of a class, such as 5,50,all (default: all)")
    add("--alphas", default="0.25")
    add("--draws", type=int, default=3)
    add("--image_size", type=int, default=128)
    add("--flags", type=shlex.split, default=[], help="further flags of fd-keras finetune, in quotes")
    return described


def _numbers(text: str) -> list[int | None]:
    return [None if word == "all" else int(word) for word in text.split(",")]


def main() -> None:
    """Makes the cells that are missing, and prints each."""
    args = parser().parse_args()
    data, out = pathlib.Path(args.data), pathlib.Path(args.output_dir)
    source = DATASETS[args.dataset](data, out)
    alphas = [float(alpha) for alpha in args.alphas.split(",")]
    cells = [
        Cell(args.dataset, classes, photos, alpha, args.image_size, seed)
        for seed in range(args.draws)
        for classes in args.classes
        for photos in args.photos
        for alpha in alphas
    ]
    for cell in cells:
        target = out / f"{cell.name}.json"
        if not target.exists():
            write_json(target, make(cell, data, source, out / cell.name, args.flags))
        print(cell.name, json.loads(target.read_text()), flush=True)
    print(table(out))


if __name__ == "__main__":
    main()
