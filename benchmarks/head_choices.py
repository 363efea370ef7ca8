"""Measures the accuracy of choices in `fd-keras finetune`: regularization of the linear head, augmentation, teacher.

    python -m benchmarks.head_choices --data=$FD_KERAS_DATA --output_dir=OUT

The first table shows the mean top-1 on test photos, over 12 draws of classes and photos of Imagenette, with four values
of C: the best for each draw, the choice of `linear_head.fit`, the one with the lowest cross-entropy in
cross-validation, and 0.01. The second shows the accuracy in cross-validation of a head that is fitted on unchanged
photos, on unchanged, mirrored and cropped photos. The third shows this accuracy for the linear heads of possible
teachers.
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

ALPHA, SIZE, FIXED_C = 0.25, 128, 0.01
TEACHER_SIZES = (160, 192, 224)  # sides of enlarged images in pixels
DRAWS, PHOTOS_PER_CLASS, TEST_PHOTOS_PER_CLASS = 12, 100, 100


def labeled_photos(folder: pathlib.Path, limit: int) -> tuple[list[Labeled], tuple[str, ...]]:
    """The first `limit` photos of each class of a folder, and the class names."""
    names = tuple(sorted(path.name for path in folder.iterdir()))
    return [
        (str(path), label) for label, name in enumerate(names) for path in sorted((folder / name).iterdir())[:limit]
    ], names


def features_of(
    photos: Sequence[Labeled],
    names: tuple[str, ...],
    weights: str,
    views: int,
    alpha: float = ALPHA,
    size: int | None = None,
) -> np.ndarray:
    """Features of photos, (photos, views, channels); images are enlarged to `size` pixels, if given."""
    network = FinetuneNetwork("fd_mobilenet", alpha, SIZE, names, weights, enlarged_to=size)
    return candidates.pooled_features(network, [path for path, _ in photos], views)


class Draw:
    """A random draw of classes and training photos.

    Args:
        train: Features (photos, channels) and labels (photos,) of all training photos.
        test: Features and labels of all test photos.
        classes: Number of classes.
        photos: Number of training photos per class.
        seed: Seed of the draw.
    """

    def __init__(self, train, test, classes: int, photos: int, seed: int):
        rng = np.random.default_rng(seed)
        chosen = rng.permutation(train[1].max() + 1)[:classes]
        picked = np.concatenate([rng.permutation(np.flatnonzero(train[1] == label))[:photos] for label in chosen])
        tested = np.isin(test[1], chosen)
        new_labels = {label: number for number, label in enumerate(chosen.tolist())}
        self.features, self.labels = train[0][picked], np.repeat(np.arange(classes), photos)
        self.test, self.expected = test[0][tested], np.array([new_labels[label] for label in test[1][tested].tolist()])
        self.classes = classes

    def head(self, grid: Sequence[float]) -> linear_head.LinearHead:
        """The head, fitted with the C that `linear_head.fit` chooses from a grid."""
        return linear_head.fit(self.features[:, None], self.labels, self.classes, grid)

    def top1(self, grid: Sequence[float]) -> float:
        """Top-1 of this head on the test photos, in percent."""
        return 100 * float((self.head(grid).logits(self.test).argmax(-1) == self.expected).mean())

    def lowest_loss_c(self) -> float:
        """The C with the lowest cross-entropy in cross-validation."""
        return min(linear_head.C_GRID, key=self._loss)

    def _loss(self, c: float) -> float:
        folds = min(5, len(self.labels) // self.classes)
        losses = []
        for inside, outside in StratifiedKFold(folds, shuffle=True, random_state=0).split(self.features, self.labels):
            head = linear_head.fit(self.features[inside][:, None], self.labels[inside], self.classes, (c,))
            logits = head.logits(self.features[outside])
            probabilities = np.exp(logits - logits.max(-1, keepdims=True))
            probabilities /= probabilities.sum(-1, keepdims=True)
            losses.append(log_loss(self.labels[outside], probabilities, labels=range(self.classes)))
        return float(np.mean(losses))


def regularization(data: pathlib.Path, weights: str) -> None:
    """Prints the table of regularizations."""
    splits = []
    for split, limit in (("train", PHOTOS_PER_CLASS), ("val", TEST_PHOTOS_PER_CLASS)):
        photos, names = labeled_photos(DATASETS["imagenette"](data, data) / split, limit)
        splits.append((features_of(photos, names, weights, 1)[:, 0], labels_of(photos)))
    print("| classes x photos | best C for each draw | chosen | lowest cross-entropy | always 0.01 |")
    print("|---|---:|---:|---:|---:|")
    for classes, photos in ((3, 5), (3, 10), (10, 5), (10, 10)):
        draws = [Draw(splits[0], splits[1], classes, photos, seed) for seed in range(DRAWS)]
        rows = [
            (max(draw.top1((c,)) for c in linear_head.C_GRID), draw.top1(linear_head.C_GRID),
             draw.top1((draw.lowest_loss_c(),)), draw.top1((FIXED_C,)))
            for draw in draws
        ]  # fmt: skip
        print(f"| {classes} x {photos} | " + " | ".join(f"{mean:.1f}" for mean in np.mean(rows, 0)) + " |", flush=True)


def augmentation(data: pathlib.Path, out: pathlib.Path, weights: str) -> None:
    """Prints the table of mirrored and cropped photos."""
    print("| photos | unchanged | mirrored | cropped |\n|---|---:|---:|---:|")
    for name, dataset in DATASETS.items():
        photos, names = labeled_photos(dataset(data, out) / "train", 50)
        features = features_of(photos, names, weights, 3)
        hits = linear_head.hits_when_left_out(features, labels_of(photos), len(names))
        print(f"| {name} | " + " | ".join(f"{100 * share:.1f}" for share in hits.mean(0)) + " |", flush=True)


def teachers(data: pathlib.Path, out: pathlib.Path) -> None:
    """Prints the table of teachers."""
    networks = [(0.25, None), (0.5, None), *((0.5, size) for size in TEACHER_SIZES)]
    titles = [f"{alpha}x" + (f" at {size}" if size else "") for alpha, size in networks]
    print(f"| photos | {' | '.join(titles)} |\n|---" + "|---:" * len(titles) + "|")
    for name, dataset in DATASETS.items():
        photos, names = labeled_photos(dataset(data, out) / "train", 50)
        row = []
        for alpha, size in networks:
            features = features_of(photos, names, str(data / "weights" / WEIGHTS[alpha]), 1, alpha, size)
            row.append(linear_head.hits_when_left_out(features, labels_of(photos), len(names)).mean())
        print(f"| {name} | " + " | ".join(f"{100 * share:.1f}" for share in row) + " |", flush=True)


def main() -> None:
    """Prints the three tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default=os.environ.get("FD_KERAS_DATA"), help="default: FD_KERAS_DATA")
    parser.add_argument("--output_dir", required=True, help="folder for the digits and the objects of VOC")
    args = parser.parse_args()
    data = pathlib.Path(args.data)
    weights = str(data / "weights" / WEIGHTS[ALPHA])
    regularization(data, weights)
    augmentation(data, pathlib.Path(args.output_dir), weights)
    teachers(data, pathlib.Path(args.output_dir))


if __name__ == "__main__":
    main()
