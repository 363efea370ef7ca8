"""Measures the accuracy that quantized files lose, on eight views of each photo (shifted and mirrored crops).

    python -m benchmarks.quantization_loss float32.tflite int8.tflite int4.tflite --images=val --labels=val_labels.txt

A shift by a single pixel changes the top-1 of 650 photos by up to a point, for the float network and its files alike.
The mean over the views varies less, so that smaller losses can be measured than with `fd-keras verify`.
"""

import argparse
from collections.abc import Iterator, Sequence

import numpy as np

from fd_keras.litert import Runner
from fd_keras.tflite.verification.compare import Comparison, compare, tflite_classifier
from fd_keras.tflite.verification.evaluation_set import EvaluationSet

SHIFTS = range(4)  # pixels from the left, and from the bottom
VIEWS = tuple((shift, mirrored) for shift in SHIFTS for mirrored in (False, True))


class View:
    """The photos of a set, shifted and perhaps mirrored.

    Args:
        photos: Photos that are `max(SHIFTS)` pixels wider and higher than the network's input.
        shift: Columns to remove on the left; the crop moves up by as many rows.
        mirrored: Whether to mirror the photos.
    """

    def __init__(self, photos: EvaluationSet, shift: int, mirrored: bool):
        self._photos, self._shift, self._mirrored = photos, shift, mirrored

    def batches(self) -> Iterator[tuple[np.ndarray, np.ndarray | None]]:
        """Yields (images, labels), see `EvaluationSet.batches`."""
        for images, labels in self._photos.batches():
            rest = max(SHIFTS) - self._shift
            rows = slice(rest, images.shape[1] - self._shift)
            columns = slice(self._shift, images.shape[2] - rest)
            crop = images[:, rows, columns]
            yield crop[:, :, ::-1] if self._mirrored else crop, labels


def losses(results: Sequence[Comparison]) -> tuple[float, float]:
    """Mean decrease of top-1 over the views in points, and half the width of its 95% confidence interval.

    Args:
        results: Comparison of each view, over the same photos.
    """
    per_photo = np.mean([_lost(result) for result in results], axis=0)
    return 100 * float(per_photo.mean()), 196 * float(per_photo.std()) / len(per_photo) ** 0.5


def _lost(result: Comparison) -> np.ndarray:
    """1 for photos that only the reference classifies correctly, -1 for those that only the file does, otherwise 0."""
    assert result.hits is not None
    assert result.expected_hits is not None
    return result.expected_hits.astype(float) - result.hits


def row(name: str, results: Sequence[Comparison]) -> str:
    """Formats the results of a file as a line of the table."""
    lost, margin = losses(results)
    top1, agreement = (
        100 * float(np.mean([getattr(result, key) / result.images for result in results]))
        for key in ("top1", "agreeing")
    )
    return f"| {name} | {top1:.2f} | {lost:.2f} +- {margin:.2f} | {agreement:.1f} |"


def main() -> None:
    """Parses the command line, runs the files and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("reference", help="float32 .tflite file")
    parser.add_argument("files", nargs="+", help="quantized .tflite files, with the same input size")
    parser.add_argument("--images", required=True, help="folder of photos")
    parser.add_argument("--labels", required=True, help="text file of lines `image-name label`")
    parser.add_argument("--noresize", action="store_true", help="do not resize photos before the crop")
    parser.add_argument("--threads", type=int, default=1, help="number of threads")
    args = parser.parse_args()
    runner = Runner(args.reference)
    size = [side + max(SHIFTS) for side in runner.input_shape[:2]]
    photos = EvaluationSet.load(args.images, args.labels, size, runner.classes, resize=not args.noresize)
    reference, *files = (tflite_classifier(path, args.threads) for path in (args.reference, *args.files))
    results = [compare(reference, files, View(photos, *view).batches()) for view in VIEWS]
    print(f"| {len(photos.paths)} photos, {len(VIEWS)} views | top-1 | points lost (95%) | agreement |")
    print("|---|---:|---:|---:|")
    for name, of_file in zip((args.reference, *args.files), zip(*results, strict=True), strict=True):
        print(row(name, of_file))


if __name__ == "__main__":
    main()
