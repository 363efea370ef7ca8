"""A linear classifier on pooled features: the start of fine-tuning, and its baseline."""

import dataclasses
import warnings
from collections.abc import Sequence

import numpy as np
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

C_GRID = tuple(10.0**power for power in np.arange(-4, 1.01, 0.5))  # inverse regularization strengths
_USUAL_C = 0.01
_FOLDS = 5
_MANY = 2500  # photos from which on a single fold is accurate enough; five would take minutes
_NEVER = 10  # difference between the logit of a class without photos and the lowest other one
_ITERATIONS = 300  # the weakest regularizations may need more, but are rarely the best


@dataclasses.dataclass(frozen=True)
class LinearHead:
    """A linear classifier on features.

    Attributes:
        kernel: Weights, float32 of shape (features, classes).
        bias: Biases, float32 of shape (classes,).
        c: Inverse regularization strength, chosen by cross-validation.
        tested: Indices of the photos tested in cross-validation, (tested,): all, or a fifth if there are many.
        logits_when_left_out: Logits of those photos from heads that were not fitted on them, (tested, classes).
    """

    kernel: np.ndarray
    bias: np.ndarray
    c: float
    tested: np.ndarray
    logits_when_left_out: np.ndarray

    def logits(self, features: np.ndarray) -> np.ndarray:
        """Computes logits of shape (photos, classes) from features of shape (photos, features)."""
        return features @ self.kernel + self.bias


def fit(
    features: np.ndarray,
    labels: np.ndarray,
    classes: int,
    grid: Sequence[float] = C_GRID,
    weights: np.ndarray | None = None,
) -> LinearHead:
    """Fits a logistic regression; cross-validation chooses its regularization.

    Args:
        features: Pooled features of all views of all photos, (photos, views, features).
        labels: Label of each photo, (photos,); each class has at least one.
        classes: Number of classes.
        grid: Values of C to choose from, in ascending order.
        weights: Weight of each photo, (photos,), with a mean of 1; None for equal weights.
    """
    scale = features.reshape(-1, features.shape[-1]).std(0) + 1e-6
    scaled = features / scale
    photos, views, channels = scaled.shape
    weights = np.ones(len(labels)) if weights is None else weights
    with threadpool_limits(1):  # the products are so small that threads would mostly wait for each other
        c, tested, left_out = _best_c(scaled[:, 0], labels, weights, classes, grid)
        rows = scaled.reshape(photos * views, channels)
        path = _Path(rows, np.repeat(labels, views), classes, np.repeat(weights, views))
        kernel, bias = path.at(c / views)
    return LinearHead((kernel / scale[:, None]).astype("float32"), bias.astype("float32"), c, tested, left_out)


def _best_c(scaled: np.ndarray, labels: np.ndarray, weights: np.ndarray, classes: int, grid: Sequence[float]):
    """Returns the best C, the indices of the tested photos, and their logits."""
    folds = _folds(labels)
    chosen = _folds_to_fit(labels)
    paths = [_Path(scaled[kept], labels[kept], classes, weights[kept]) for kept in (folds != fold for fold in chosen)]
    tested = np.concatenate([np.flatnonzero(folds == fold) for fold in chosen])

    def logits(c: float) -> np.ndarray:
        fits = [path.at(c) for path in paths]
        return np.concatenate(
            [scaled[folds == fold] @ kernel + bias for fold, (kernel, bias) in zip(chosen, fits, strict=True)]
        )

    scores = {c: logits(c) for c in grid}
    best = _simplest({c: found.argmax(-1) == labels[tested] for c, found in scores.items()}, weights[tested])
    return best, tested, scores[best]


def _simplest(hits: dict[float, np.ndarray], weights: np.ndarray) -> float:
    """Returns the value closest to the usual one that is at most one standard error worse than the best.

    With few photos, the best value of a cross-validation is mostly noise, and the usual one is better
    (`python -m benchmarks.head_choices`).
    """
    best = max(hits.values(), key=lambda found: weights[found].sum())

    def is_worse(found: np.ndarray) -> bool:
        return weights[best].sum() - weights[found].sum() > (weights[best != found] ** 2).sum() ** 0.5

    fine = [c for c, found in hits.items() if not is_worse(found)]
    return min(fine, key=lambda c: abs(np.log(c / _USUAL_C)))


def hits_when_left_out(features: np.ndarray, labels: np.ndarray, classes: int) -> np.ndarray:
    """Tests each view of each photo with a head that was fitted on the first views of other photos.

    Args:
        features: Features, (photos, views, channels).
        labels: Label of each photo, (photos,).
        classes: Number of classes.

    Returns:
        Whether each view is recognized, bool of shape (photos, views); for a fifth of the photos if there are many.
    """
    scaled, folds = features / (features[:, 0].std(0) + 1e-6), _folds(labels)
    hits = []
    with threadpool_limits(1):
        for fold in _folds_to_fit(labels):
            kernel, bias = _Path(scaled[folds != fold, 0], labels[folds != fold], classes).at(_USUAL_C)
            found = (scaled[folds == fold] @ kernel + bias).argmax(-1)
            hits.append(found == labels[folds == fold][:, None])
    return np.concatenate(hits)


def _folds_to_fit(labels: np.ndarray) -> range:
    return range(1 if len(labels) >= _MANY else _FOLDS)


def _folds(labels: np.ndarray) -> np.ndarray:
    """Assigns a fold to each photo; the shuffled photos of each class are distributed evenly."""
    order = np.random.default_rng(0).permutation(len(labels))
    folds = np.zeros(len(labels), int)
    for label in np.unique(labels):
        mine = order[labels[order] == label]
        folds[mine] = (
            np.arange(len(mine)) + label
        ) % _FOLDS  # + label: else small classes would all miss the last fold
    return folds


class _Path:
    """Logistic regressions on the same rows, each started from the previous one with a stronger regularization."""

    def __init__(self, rows: np.ndarray, labels: np.ndarray, classes: int, weights: np.ndarray | None = None):
        self._rows, self._labels, self._classes, self._weights = rows, labels, classes, weights
        self._model = LogisticRegression(warm_start=True, max_iter=_ITERATIONS, tol=1e-3)

    def at(self, c: float) -> tuple[np.ndarray, np.ndarray]:
        """Fits with C and returns kernel (features, classes) and bias (classes,); classes without photos never win."""
        kernel, bias = np.zeros((self._rows.shape[-1], self._classes)), np.full(self._classes, -np.inf)
        present = np.unique(self._labels)
        if len(present) == 1:  # with two photos, one of each class, one is left out
            bias[:] = np.where(np.arange(self._classes) == present, 0, -_NEVER)
            return kernel, bias
        model = self._model.set_params(C=c)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about the number of iterations
            model.fit(self._rows, self._labels, self._weights)
        # With two classes, scikit-learn only has the difference.
        shares = np.array([[-0.5], [0.5]]) if len(model.classes_) == 2 else 1.0
        kernel[:, model.classes_], bias[model.classes_] = (shares * model.coef_).T, np.ravel(shares * model.intercept_)
        bias[np.isneginf(bias)] = bias[np.isfinite(bias)].min() - _NEVER
        return kernel, bias
