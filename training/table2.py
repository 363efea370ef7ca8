"""Prints table 2 of the paper with what has been trained beside it; runs that differ by their seed alone are one row.

python -m training.table2 --runs=RUNS --curves=curves.png
"""

import csv
import json
import os
import statistics
import sys

from absl import app, flags

from fd_keras import zoo
from fd_keras.training import reporting, run_record, shards

_RUNS = flags.DEFINE_list("runs", ["."], "Folders below which there are run folders.")
_CURVES = flags.DEFINE_string("curves", None, "Where to draw validation top-1 over the epochs, as a PNG.")


def runs_below(folders: list[str]) -> list[dict]:
    """The records of all runs that ended, from their run.json."""
    found = []
    for folder in folders:
        if not os.path.isdir(folder):
            raise FileNotFoundError(f"--runs={folder}: no such folder.")
        for root, _, names in sorted(os.walk(folder)):
            if run_record.FILE in names:
                with open(os.path.join(root, run_record.FILE), encoding="utf-8") as file:
                    run = json.load(file)
                if "result" in run:
                    found.append(run | {"folder": root})
    return found


def table(runs: list[dict]) -> str:
    """Table 2 as text; "-" is what the paper's text at hand does not quote, or what was not trained."""
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
    """Runs of one configuration on the same data, whatever their seeds, the most accurate first."""
    groups = {}
    for run in runs:
        config = {key: value for key, value in run["config"].items() if key != "seed"}
        groups.setdefault(json.dumps([config, run["data"]["val"]["fingerprint"]], sort_keys=True), []).append(run)
    return sorted(groups.values(), key=lambda group: -statistics.mean(map(_top1, group)))


def _title(group: list[dict]) -> str:
    return f"{group[0]['name']} ({group[0]['config']['name']})"


def _spread(group: list[dict]) -> str:
    """For example "65.4 (65.1-65.8, 3 seeds)"."""
    scores = sorted(map(_top1, group))
    mean = f"{statistics.mean(scores):5.1f}"
    return mean if len(scores) == 1 else f"{mean} ({scores[0]:.1f}-{scores[-1]:.1f}, {len(scores)} seeds)"


def history_of(run: dict) -> list[dict[str, float]]:
    """The rows of a run's history.csv."""
    with open(os.path.join(run["folder"], "history.csv"), encoding="utf-8", newline="") as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


def check_place(path: str | None) -> None:
    """Raises ValueError if --curves cannot be written, before anything is read."""
    if path is None:
        return
    if not path.lower().endswith(".png"):
        raise ValueError(f"--curves={path}: a PNG is drawn; give it a name that ends in .png.")
    if not os.path.isdir(os.path.dirname(path) or "."):
        raise ValueError(f"--curves={path}: there is no folder {os.path.dirname(path)}; make it first.")


def _top1(run: dict) -> float:
    return 100 * run["result"]["last"]["val_top1"]


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"Unexpected argument {argv[1]!r}; everything is given by flags.")
    try:
        check_place(_CURVES.value)
        runs = runs_below(_RUNS.value)
        print(table(runs))
        if _CURVES.value:
            curves = {_title(group): [history_of(run) for run in group] for group in grouped(runs)}
            if not reporting.plot_runs(_CURVES.value, curves):
                sys.exit("error: --curves needs matplotlib: pip install matplotlib")
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    app.run(main)
