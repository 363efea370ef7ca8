"""A linear classifier on pooled features: what fine-tuning starts from, and has to beat."""

import dataclasses
from collections.abc import Sequence

import numpy as np

C_GRID = tuple(10.0**power for power in np.arange(-4, 1.01, 0.5))  # inverse of the regularization
_FOLDS = 5
_ITERATIONS = 1000


@dataclasses.dataclass(frozen=True)
class LinearHead:
    """A classifier on features.

    Attributes:
        kernel: float32 of shape (features, classes).
        bias: float32 of shape (classes,).
        c: Inverse of the regularization, chosen by cross-validation.
        accuracy: Top-1 in cross-validation, as a share of 1.
    """

    kernel: np.ndarray
    bias: np.ndarray
    c: float
    accuracy: float

    def logits(self, features: np.ndarray) -> np.ndarray:
        """Scores of shape (photos, classes) for features of shape (photos, features)."""
        return features @ self.kernel + self.bias


def fit(features: np.ndarray, labels: np.ndarray, classes: int, grid: Sequence[float] = C_GRID) -> LinearHead:
    """Fits a logistic regression, regularized as cross-validation says.

    Args:
        features: Pooled features of every view of every photo, (photos, views, features).
        labels: Label of each photo, (photos,); every class has at least one.
        classes: Number of classes.
        grid: Values of C to choose among.
    """
    scale = features.reshape(-1, features.shape[-1]).std(0) + 1e-6
    scaled = features / scale
    c, accuracy = _best_c(scaled, labels, classes, grid)
    kernel, bias = _regression(scaled, labels, classes, c)
    return LinearHead((kernel / scale[:, None]).astype("float32"), bias.astype("float32"), c, accuracy)


def _best_c(scaled: np.ndarray, labels: np.ndarray, classes: int, grid: Sequence[float]) -> tuple[float, float]:
    """The value with the least cross-entropy on photos left out, and the accuracy there."""
    folds = _folds(labels)
    scores = []
    for c in grid:
        losses, hits = [], []
        for fold in np.unique(folds):
            inside = folds != fold
            kernel, bias = _regression(scaled[inside], labels[inside], classes, c)
            logits = scaled[~inside, 0] @ kernel + bias
            losses.append(_cross_entropy(logits, labels[~inside]))
            hits.append(logits.argmax(-1) == labels[~inside])
        scores.append((float(np.concatenate(losses).mean()), -float(np.concatenate(hits).mean()), c))
    _, misses, c = min(scores)
    return c, -misses


def _folds(labels: np.ndarray) -> np.ndarray:
    """Number of the fold of each photo: those of a class are dealt out in turn, in a shuffled order."""
    order = np.random.default_rng(0).permutation(len(labels))
    folds = np.zeros(len(labels), int)
    for label in np.unique(labels):
        mine = order[labels[order] == label]
        folds[mine] = np.arange(len(mine)) % _FOLDS
    return folds


def _cross_entropy(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    shifted = logits - logits.max(-1, keepdims=True)
    return np.log(np.exp(shifted).sum(-1)) - shifted[np.arange(len(labels)), labels]


def _regression(scaled: np.ndarray, labels: np.ndarray, classes: int, c: float) -> tuple[np.ndarray, np.ndarray]:
    """Kernel (features, classes) and bias (classes,) of a logistic regression; a class without photos gets none."""
    from sklearn.linear_model import LogisticRegression

    photos, views, channels = scaled.shape
    model = LogisticRegression(C=c / views, max_iter=_ITERATIONS)
    model.fit(scaled.reshape(photos * views, channels), np.repeat(labels, views))
    kernel, bias = np.zeros((channels, classes)), np.full(classes, -np.inf)
    if len(model.classes_) == 2:  # scikit-learn keeps the difference of two classes
        halves = np.array([-0.5, 0.5])
        kernel[:, model.classes_], bias[model.classes_] = model.coef_.T * halves, model.intercept_ * halves
    else:
        kernel[:, model.classes_], bias[model.classes_] = model.coef_.T, model.intercept_
    bias[np.isneginf(bias)] = bias[np.isfinite(bias)].min() - 10
    return kernel, bias
