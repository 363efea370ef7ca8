"""How far the outputs of a network are from a reference's, relative to how much the reference's vary."""

import numpy as np

_FLOOR = 1e-5  # of the outputs' size: an output that varies less is constant but for rounding
_SHARE = 0.05  # of the largest spread: integers resolve outputs of less spread badly, and they matter little


class Deviation:
    """Sums over batches, output by output.

    Attributes:
        images: Number of images seen.
    """

    def __init__(self):
        self.images = 0
        self._shift = self._sums = np.zeros(0)
        self._absolute = 0.0

    def update(self, outputs: np.ndarray, reference: np.ndarray) -> None:
        """Adds a batch; both of shape (batch, outputs)."""
        outputs, reference = outputs.astype("float64"), reference.astype("float64")
        if not self.images:
            self._shift, self._sums = reference.mean(axis=0), np.zeros((6, reference.shape[1]))
        self.images += len(outputs)
        self._absolute += float(np.abs(outputs - reference).sum())
        x, y = outputs - self._shift, reference - self._shift  # so that small variances do not drown in rounding
        self._sums += [part.sum(axis=0) for part in (x, y, x * x, y * y, x * y, (x - y) ** 2)]

    @property
    def mean_error(self) -> float:
        """Mean absolute difference."""
        return self._absolute / (self.images * len(self._shift))

    @property
    def spread(self) -> np.ndarray:
        """Standard deviation of each of the reference's outputs over the images."""
        _, y, _, yy, _, _ = self._sums / self.images
        return np.sqrt(np.maximum(yy - y * y, 0))

    @property
    def correlation(self) -> float | None:
        """Pearson's correlation of the output where it is lowest; None if an output of either does not vary."""
        x, y, xx, yy, xy, _ = self._sums / self.images
        product = (xx - x * x) * (yy - y * y)
        return float(((xy - x * y) / np.sqrt(product)).min()) if (product > 0).all() else None

    def relative_error(self, *, pooled: bool, even: bool, step: float = 0.0) -> float:
        """Root mean square of the difference, relative to the standard deviation of the reference's outputs.

        A file that always answers the same has 1 or more, one that answers the opposite 2.

        Args:
            pooled: Whether of all outputs together; otherwise of the output where it is largest.
            even: Whether all outputs count, however little they vary next to others.
            step: Distance of the file's levels if its outputs are integers; it cannot show a smaller spread.
        """
        squares, variances = self._sums[5] / self.images, self.spread**2
        size = np.mean((self._sums[1] / self.images + self._shift) ** 2) + variances.mean()
        if pooled:
            squares, variances = squares.mean(), variances.mean()
        elif not even:
            variances = np.maximum(variances, _SHARE**2 * variances.max())
        # The smallest number keeps an output that is always 0 from a division by 0.
        floor = max(_FLOOR**2 * size, step**2, np.finfo("float64").tiny)
        return float(np.sqrt(np.max(squares / np.maximum(variances, floor))))
