"""Measures the accuracy that quantized files lose, on eight views of each photo (shifted and mirrored crops).

    python -m benchmarks.quantization_loss float32.tflite int8.tflite int4.tflite --images=val --labels=val_labels.txt

On 650 photos, the top-1 of the float network itself varies by about two points between the views. The mean over the
views varies less, so that smaller losses can be measured than with `fd-keras verify`.
"""

import argparse
from collections.abc import Iterator, Sequence

import numpy as np

from fd_keras.errors import run_and_exit
from fd_keras.litert import Runner
from fd_keras.tflite.verification.compare import Comparison, compare, tflite_classifier
from fd_keras.tflite.verification.evaluation_set import EvaluationSet

SHIFTS = range(4)  # pixels from the left, and from the bottom
VIEWS = tuple((shift, mirrored) for shift in SHIFTS for mirrored in (False, True))


def view(photos: EvaluationSet, shift: int, mirrored: bool) -> Iterator[tuple[np.ndarray, np.ndarray | None]]:
    """Yields batches of (images, labels) like `EvaluationSet.batches`, shifted and perhaps mirrored.

    Args:
        photos: Photos that are `max(SHIFTS)` pixels wider and higher than the network's input.
        shift: Columns to remove on the left; the crop moves up by as many rows.
        mirrored: Whether to mirror the photos.
    """
    rest = max(SHIFTS) - shift
    for images, labels in photos.batches():
        crop = images[:, rest : images.shape[1] - shift, shift : images.shape[2] - rest]
        yield crop[:, :, ::-1] if mirrored else crop, labels


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
    top1, agreement = (
        [100 * getattr(result, key) / result.images for result in results] for key in ("top1", "agreeing")
    )
    lost, margin = losses(results)
    return (
        f"| {name} | {np.mean(top1):.2f} ({min(top1):.1f}-{max(top1):.1f}) | {lost:.2f} +- {margin:.2f} | "
        f"{np.mean(agreement):.1f} |"
    )


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
    results = [compare(reference, files, view(photos, *each)) for each in VIEWS]
    print(f"| {len(photos.paths)} photos, {len(VIEWS)} views | top-1 (range) | points lost (95%) | agreement |")
    print("|---|---:|---:|---:|")
    for name, of_file in zip((args.reference, *args.files), zip(*results, strict=True), strict=True):
        print(row(name, of_file))


if __name__ == "__main__":
    run_and_exit(main, "python -m benchmarks.quantization_loss")
