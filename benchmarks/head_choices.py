"""Measures three choices of `fd-keras finetune`: the regularization of its linear head, its augmentation, its teacher.

    python -m benchmarks.head_choices --data=$FD_KERAS_DATA --output_dir=OUT

The first table has the mean top-1 of 12 draws of classes and photos of Imagenette, on test photos: with the best C for
each draw, the one that `linear_head.fit` chooses, the one with the lowest cross-entropy in cross-validation, and the
usual one. The second has the accuracy of a head on unchanged photos in cross-validation: on unchanged, mirrored and
cropped photos. The third has the accuracy in cross-validation of the linear heads of possible teachers.
"""

import argparse
import os
import pathlib
from collections.abc import Sequence

from fd_keras import startup

startup.hide_tensorflow_notes()

import numpy as np  # noqa: E402
from sklearn.metrics import log_loss  # noqa: E402
from sklearn.model_selection import StratifiedKFold  # noqa: E402

from benchmarks.finetune import DATASETS, WEIGHTS  # noqa: E402
from fd_keras.training.finetune import candidates, linear_head  # noqa: E402
from fd_keras.training.finetune.candidates import FinetuneNetwork  # noqa: E402
from fd_keras.training.finetune.photo_folder import Labeled, labels_of  # noqa: E402

ALPHA, SIZE, USUAL = 0.25, 128, 0.01
ENLARGED = (160, 192, 224)  # sides of a teacher's images in pixels
DRAWS, PHOTOS_A_CLASS, TEST_A_CLASS = 12, 100, 100


def labeled(folder: pathlib.Path, most: int) -> tuple[list[Labeled], tuple[str, ...]]:
    """The first photos of each class of a folder, and the classes."""
    names = tuple(sorted(path.name for path in folder.iterdir()))
    return [
        (str(path), label) for label, name in enumerate(names) for path in sorted((folder / name).iterdir())[:most]
    ], names


def features_of(
    photos: Sequence[Labeled],
    names: tuple[str, ...],
    weights: str,
    views: int,
    alpha: float = ALPHA,
    size: int | None = None,
) -> np.ndarray:
    """Features of photos, (photos, views, channels); `size` is the side in pixels to enlarge images to, if any."""
    network = FinetuneNetwork("fd_mobilenet", alpha, SIZE, names, weights, enlarged_to=size)
    return candidates.pooled_features(network, [path for path, _ in photos], views)


class Draw:
    """A draw of classes and of photos to train on, from features of all photos.

    Args:
        train: Features and labels, (photos, channels) and (photos,).
        test: Likewise.
        classes: Number of classes.
        photos: Number of photos of each to train on.
        seed: Seed of the draw.
    """

    def __init__(self, train, test, classes: int, photos: int, seed: int):
        random = np.random.default_rng(seed)
        chosen = random.permutation(train[1].max() + 1)[:classes]
        picked = np.concatenate([random.permutation(np.flatnonzero(train[1] == label))[:photos] for label in chosen])
        known = np.isin(test[1], chosen)
        numbers = {label: number for number, label in enumerate(chosen.tolist())}
        self.features, self.labels = train[0][picked], np.repeat(np.arange(classes), photos)
        self.test, self.expected = test[0][known], np.array([numbers[label] for label in test[1][known].tolist()])
        self.classes = classes

    def head(self, grid: Sequence[float]) -> linear_head.LinearHead:
        """The head that is fitted with the C chosen from a grid."""
        return linear_head.fit(self.features[:, None], self.labels, self.classes, grid)

    def top1(self, grid: Sequence[float]) -> float:
        """Its top-1 on the test photos, in percent."""
        return 100 * float((self.head(grid).logits(self.test).argmax(-1) == self.expected).mean())

    def least_loss(self) -> float:
        """The C with the least cross-entropy in cross-validation."""
        return min(linear_head.C_GRID, key=self._loss)

    def _loss(self, c: float) -> float:
        folds = min(5, len(self.labels) // self.classes)
        losses = []
        for inside, outside in StratifiedKFold(folds, shuffle=True, random_state=0).split(self.features, self.labels):
            head = linear_head.fit(self.features[inside][:, None], self.labels[inside], self.classes, (c,))
            logits = head.logits(self.features[outside])
            shares = np.exp(logits - logits.max(-1, keepdims=True))
            shares /= shares.sum(-1, keepdims=True)
            losses.append(log_loss(self.labels[outside], shares, labels=range(self.classes)))
        return float(np.mean(losses))


def regularization(data: pathlib.Path, weights: str) -> None:
    """Prints the first table."""
    sides = []
    for side, most in (("train", PHOTOS_A_CLASS), ("val", TEST_A_CLASS)):
        photos, names = labeled(DATASETS["imagenette"](data, data) / side, most)
        sides.append((features_of(photos, names, weights, 1)[:, 0], labels_of(photos)))
    print("| classes x photos | best C for each draw | chosen | lowest cross-entropy | always 0.01 |")
    print("|---|---:|---:|---:|---:|")
    for classes, photos in ((3, 5), (3, 10), (10, 5), (10, 10)):
        draws = [Draw(sides[0], sides[1], classes, photos, seed) for seed in range(DRAWS)]
        rows = [
            (max(draw.top1((c,)) for c in linear_head.C_GRID), draw.top1(linear_head.C_GRID),
             draw.top1((draw.least_loss(),)), draw.top1((USUAL,)))
            for draw in draws
        ]  # fmt: skip
        print(f"| {classes} x {photos} | " + " | ".join(f"{mean:.1f}" for mean in np.mean(rows, 0)) + " |", flush=True)


def changes(data: pathlib.Path, out: pathlib.Path, weights: str) -> None:
    """Prints the second table."""
    print("| photos | unchanged | mirrored | cropped |\n|---|---:|---:|---:|")
    for name, dataset in DATASETS.items():
        photos, names = labeled(dataset(data, out) / "train", 50)
        features = features_of(photos, names, weights, 3)
        hits = linear_head.hits_when_left_out(features, labels_of(photos), len(names))
        print(f"| {name} | " + " | ".join(f"{100 * share:.1f}" for share in hits.mean(0)) + " |", flush=True)


def teachers(data: pathlib.Path, out: pathlib.Path) -> None:
    """Prints the third table."""
    networks = [(0.25, None), (0.5, None), *((0.5, size) for size in ENLARGED)]
    titles = [f"{alpha}x" + (f" at {size}" if size else "") for alpha, size in networks]
    print(f"| photos | {' | '.join(titles)} |\n|---" + "|---:" * len(titles) + "|")
    for name, dataset in DATASETS.items():
        photos, names = labeled(dataset(data, out) / "train", 50)
        row = []
        for alpha, size in networks:
            features = features_of(photos, names, str(data / "weights" / WEIGHTS[alpha]), 1, alpha, size)
            row.append(linear_head.hits_when_left_out(features, labels_of(photos), len(names)).mean())
        print(f"| {name} | " + " | ".join(f"{100 * share:.1f}" for share in row) + " |", flush=True)


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default=os.environ.get("FD_KERAS_DATA"), help="folder with imagenette128/, ...")
    parser.add_argument("--output_dir", required=True, help="for the digits and the objects cut out of VOC")
    args = parser.parse_args()
    data = pathlib.Path(args.data)
    weights = str(data / "weights" / WEIGHTS[ALPHA])
    regularization(data, weights)
    changes(data, pathlib.Path(args.output_dir), weights)
    teachers(data, pathlib.Path(args.output_dir))


if __name__ == "__main__":
    main()
