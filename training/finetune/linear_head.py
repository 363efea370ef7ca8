"""A linear classifier on pooled features: what fine-tuning starts from, and has to beat."""

import dataclasses
import warnings
from collections.abc import Sequence

import numpy as np
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

C_GRID = tuple(10.0**power for power in np.arange(-4, 1.01, 0.5))  # inverse of the regularization
_USUAL_C = 0.01
_FOLDS = 5
_MANY = 2500  # photos from which on one fold tells enough, and five would take minutes
_NEVER = 10  # by how much the logit of a class without photos is lower than all others
_ITERATIONS = 300  # the weakest regularizations may need more, and are hardly ever the best


@dataclasses.dataclass(frozen=True)
class LinearHead:
    """A classifier on features.

    Attributes:
        kernel: float32 of shape (features, classes).
        bias: float32 of shape (classes,).
        c: Inverse of the regularization, chosen by cross-validation.
        tested: Index of each photo that was left out in turn, (tested,): all photos, or a fifth of many.
        logits_when_left_out: Scores of those photos, by fits that they took no part in, (tested, classes).
    """

    kernel: np.ndarray
    bias: np.ndarray
    c: float
    tested: np.ndarray
    logits_when_left_out: np.ndarray

    def logits(self, features: np.ndarray) -> np.ndarray:
        """Scores of shape (photos, classes) for features of shape (photos, features)."""
        return features @ self.kernel + self.bias


def fit(features: np.ndarray, labels: np.ndarray, classes: int, grid: Sequence[float] = C_GRID) -> LinearHead:
    """Fits a logistic regression; cross-validation chooses its regularization.

    Args:
        features: Pooled features of every view of every photo, (photos, views, features).
        labels: Label of each photo, (photos,); every class has at least one.
        classes: Number of classes.
        grid: Values of C to choose among, in ascending order.
    """
    scale = features.reshape(-1, features.shape[-1]).std(0) + 1e-6
    scaled = features / scale
    photos, views, channels = scaled.shape
    with threadpool_limits(1):  # the products are so small that threads wait for each other most of the time
        c, tested, left_out = _best_c(scaled[:, 0], labels, classes, grid)
        path = _Path(scaled.reshape(photos * views, channels), np.repeat(labels, views), classes)
        kernel, bias = path.at(c / views)
    return LinearHead((kernel / scale[:, None]).astype("float32"), bias.astype("float32"), c, tested, left_out)


def _best_c(scaled: np.ndarray, labels: np.ndarray, classes: int, grid: Sequence[float]):
    """The chosen C, the indices of the photos that were left out in turn, and their logits."""
    folds = _folds(labels)
    chosen = _folds_to_fit(labels)
    paths = [_Path(scaled[folds != fold], labels[folds != fold], classes) for fold in chosen]
    tested = np.concatenate([np.flatnonzero(folds == fold) for fold in chosen])

    def logits(c: float) -> np.ndarray:
        fits = [path.at(c) for path in paths]
        return np.concatenate(
            [scaled[folds == fold] @ kernel + bias for fold, (kernel, bias) in zip(chosen, fits, strict=True)]
        )

    scores = {c: logits(c) for c in grid}
    best = _simplest({c: found.argmax(-1) == labels[tested] for c, found in scores.items()})
    return best, tested, scores[best]


def _simplest(hits: dict[float, np.ndarray]) -> float:
    """The value nearest to the usual one that is not worse, by more than a standard error, than the best one.

    With few photos the best value of a cross-validation is mostly noise, and the usual one better
    (`python -m benchmarks.head_choices`).
    """
    best = max(hits.values(), key=np.sum)

    def is_worse(found: np.ndarray) -> bool:
        lost, gained = int((best & ~found).sum()), int((found & ~best).sum())
        return lost - gained > (lost + gained) ** 0.5

    fine = [c for c, found in hits.items() if not is_worse(found)]
    return min(fine, key=lambda c: abs(np.log(c / _USUAL_C)))


def hits_when_left_out(features: np.ndarray, labels: np.ndarray, classes: int) -> np.ndarray:
    """Whether each view of each photo is named right by a fit on the first views of other photos.

    Args:
        features: Features, (photos, views, channels).
        labels: Label of each photo, (photos,).
        classes: Number of classes.

    Returns:
        bool of shape (photos, views); of many photos only for a fifth.
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
    """Number of the fold of each photo: those of a class are dealt out in turn, in a shuffled order."""
    order = np.random.default_rng(0).permutation(len(labels))
    folds = np.zeros(len(labels), int)
    for label in np.unique(labels):
        mine = order[labels[order] == label]
        folds[mine] = (np.arange(len(mine)) + label) % _FOLDS  # or classes of few photos would all miss the last fold
    return folds


class _Path:
    """Logistic regressions on the same rows; each starts from the one before, which has a stronger regularization."""

    def __init__(self, rows: np.ndarray, labels: np.ndarray, classes: int):
        self._rows, self._labels, self._classes = rows, labels, classes
        self._model = LogisticRegression(warm_start=True, max_iter=_ITERATIONS, tol=1e-3)

    def at(self, c: float) -> tuple[np.ndarray, np.ndarray]:
        """Kernel (features, classes) and bias (classes,); a class without photos is never first."""
        kernel, bias = np.zeros((self._rows.shape[-1], self._classes)), np.full(self._classes, -np.inf)
        present = np.unique(self._labels)
        if len(present) == 1:  # of two classes of a photo each, one is left out
            bias[:] = np.where(np.arange(self._classes) == present, 0, -_NEVER)
            return kernel, bias
        model = self._model.set_params(C=c)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about the number of iterations
            model.fit(self._rows, self._labels)
        # Of two classes scikit-learn keeps the difference.
        shares = np.array([[-0.5], [0.5]]) if len(model.classes_) == 2 else 1.0
        kernel[:, model.classes_], bias[model.classes_] = (shares * model.coef_).T, np.ravel(shares * model.intercept_)
        bias[np.isneginf(bias)] = bias[np.isfinite(bias)].min() - _NEVER
        return kernel, bias
