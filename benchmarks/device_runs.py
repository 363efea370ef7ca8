"""Prints a table of runs of `benchmarks.train_on_device` and `fd-keras train`, and draws their curves.

    python -m benchmarks.device_runs RUNS --curves=tiny.png

RUNS contains a folder for each run, named TITLE_SEED; runs of the same title share a row and a color.
"""

import argparse
import csv
import statistics
from pathlib import Path

from benchmarks.device_files import HISTORY
from fd_keras.training import reporting

History = list[dict[str, float]]


def histories_of(runs: Path) -> dict[str, list[History]]:
    """Reads the evaluated epochs of all runs, by title."""
    found: dict[str, list[History]] = {}
    for folder in sorted(path.parent for path in runs.glob(f"*/{HISTORY}")):
        with open(folder / HISTORY, encoding="utf-8", newline="") as file:
            rows = [row for row in csv.DictReader(file) if row["val_top1"]]
        history = [{name: float(value) for name, value in row.items()} for row in rows]
        found.setdefault(folder.name.rpartition("_")[0], []).append(history)
    return found


def table(runs: Path) -> str:
    """Formats top-1 of the last epoch as Markdown: the mean (minimum-maximum) over the seeds."""
    lines = ["| run | epochs | top-1 | seeds | training top-1 |", "|---|---:|---:|---:|---:|"]
    for title, found in histories_of(runs).items():
        last = [history[-1] for history in found]
        ours, trained = ([100 * row[name] for row in last] for name in ("val_top1", "top1"))
        spread = f" ({min(ours):.1f}-{max(ours):.1f})" if len(ours) > 1 else ""
        lines.append(
            f"| {title} | {last[0]['epoch']:.0f} | {statistics.mean(ours):.1f}{spread} | {len(ours)} | "
            f"{statistics.mean(trained):.1f} |"
        )
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> None:
    """Prints the table and draws the curves."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, help="folder of the runs")
    parser.add_argument("--curves", help="figure of validation top-1 over the epochs: a .png, .svg or .pdf file")
    args = parser.parse_args(arguments)
    print(table(args.runs))
    if args.curves:
        reporting.plot_runs(args.curves, histories_of(args.runs))


if __name__ == "__main__":
    main()
