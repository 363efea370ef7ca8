"""Error of a network's outputs relative to the variation of a reference's outputs."""

import numpy as np

_FLOOR = 1e-5  # relative to the outputs' size; an output that varies less is constant except for rounding
_SHARE = 0.05  # of the largest spread; outputs with less spread matter little, and integers resolve them poorly


class Deviation:
    """Error statistics per output, accumulated over batches.

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
        x, y = outputs - self._shift, reference - self._shift  # so that small variances are not lost to rounding
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
        """Lowest Pearson correlation over the outputs; None if an output of either network is constant."""
        x, y, xx, yy, xy, _ = self._sums / self.images
        product = (xx - x * x) * (yy - y * y)
        return float(((xy - x * y) / np.sqrt(product)).min()) if (product > 0).all() else None

    def relative_error(self, *, pooled: bool, even: bool, step: float = 0.0) -> float:
        """Root mean square error, relative to the standard deviation of the reference's outputs.

        It is 1 or more for constant outputs, and 2 for outputs that are exactly opposite.

        Args:
            pooled: Whether to pool all outputs; otherwise, the largest error of an output is returned.
            even: Whether all outputs count, even those that vary much less than others.
            step: Quantization step of the file's outputs if they are integers, which cannot show a smaller spread.
        """
        squares, variances = self._sums[5] / self.images, self.spread**2
        size = np.mean((self._sums[1] / self.images + self._shift) ** 2) + variances.mean()
        if pooled:
            squares, variances = squares.mean(), variances.mean()
        elif not even:
            variances = np.maximum(variances, _SHARE**2 * variances.max())
        # The smallest positive number avoids a division by 0 if an output is always 0.
        floor = max(_FLOOR**2 * size, step**2, np.finfo("float64").tiny)
        return float(np.sqrt(np.max(squares / np.maximum(variances, floor))))
