"""Compares finished runs with table 2 of the paper.

    fd-keras table2 --runs=RUNS --curves=curves.png

Runs on all of ImageNet are shown beside the paper's figures, and runs on other data below the table. Runs that differ
only in their seed share a row.
"""

import csv
import json
import os
import statistics

from absl import flags

from fd_keras import zoo
from fd_keras.io import check_figure
from fd_keras.program import Program
from fd_keras.training import reporting, run_record, shards

_RUNS = flags.DEFINE_list("runs", ["."], "Folders to search for runs.")
_CURVES = flags.DEFINE_string("curves", None, "Figure of validation top-1 over the epochs: a .png, .svg or .pdf file.")


def table(runs: list[dict]) -> str:
    """Formats table 2 with the runs; "-" means that the paper has no figure, or that there is no run."""
    whole = [run for run in runs if run["data"]["val"]["photos"] == shards.VAL_PHOTOS and run["classes"] == 1000]
    lines = [f"{'network':22} {'MFLOPs':>6} {'paper top-1':>11}  ours on ImageNet"]
    for row in zoo.PAPER_TABLE2:
        ours = [run for run in whole if (run["config"]["model"], run["config"]["alpha"]) == (row.arch, row.alpha)]
        cell = "  ".join(f"{_top1(run):.1f} ({run['config']['name']})" for run in ours) or "-"
        title = f"{zoo.get_arch(row.arch).title} {row.alpha:g}x"
        lines.append(f"{title:22} {row.mflops:>6} {'-' if row.top1 is None else row.top1:>11}  {cell}")
    others = grouped([run for run in runs if run not in whole])
    if others:
        lines += ["", "on other data, not comparable with the table:"]
    for group in others:
        lines.append(f"  {_title(group):38} {_spread(group):28} {group[0]['data']['val']['name']}")
    return "\n".join(lines)


def grouped(runs: list[dict]) -> list[list[dict]]:
    """Groups runs with the same configuration and data but other seeds, the most accurate first."""
    groups = {}
    for run in runs:
        config = {key: value for key, value in run["config"].items() if key != "seed"}
        groups.setdefault(json.dumps([config, run["data"]["val"]["fingerprint"]], sort_keys=True), []).append(run)
    return sorted(groups.values(), key=lambda group: -statistics.mean(map(_top1, group)))


def _title(group: list[dict]) -> str:
    return f"{group[0]['name']} ({group[0]['config']['name']})"


def _spread(group: list[dict]) -> str:
    """Formats mean, range and number of top-1 accuracies, for example "65.4 (65.1-65.8, 3 seeds)"."""
    scores = sorted(map(_top1, group))
    mean = f"{statistics.mean(scores):5.1f}"
    return mean if len(scores) == 1 else f"{mean} ({scores[0]:.1f}-{scores[-1]:.1f}, {len(scores)} seeds)"


def history_of(run: dict) -> list[dict[str, float]]:
    """Reads the rows of a run's history.csv."""
    with open(os.path.join(run["folder"], "history.csv"), encoding="utf-8", newline="") as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


def check_place(path: str) -> None:
    """Raises ValueError if the figure of --curves has an unknown format, or its folder does not exist."""
    check_figure(path)
    if not os.path.isdir(os.path.dirname(path) or "."):
        raise ValueError(f"--curves={path}: folder {os.path.dirname(path)} does not exist; create it first.")


def _top1(run: dict) -> float:
    return 100 * run["result"]["last"]["val_top1"]


def main(argv: list[str]) -> None:
    """Prints the table and plots the curves."""
    if _CURVES.value:
        check_place(_CURVES.value)
    runs = [run for run in run_record.runs_below(_RUNS.value) if "val" in run["data"]]  # detectors have none
    print(table(runs))
    if _CURVES.value:
        curves = {_title(group): [history_of(run) for run in group] for group in grouped(runs)}
        reporting.plot_runs(_CURVES.value, curves)


PROGRAM = Program(main)

if __name__ == "__main__":
    PROGRAM.run()
