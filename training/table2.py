"""Prints table 2 of the paper with what has been trained beside it.

python -m training.table2 --runs=RUNS
"""

import json
import os
import sys

from absl import app, flags

from fd_keras import zoo
from training import record, shards

_RUNS = flags.DEFINE_list("runs", ["."], "Folders below which there are run folders.")


def runs_below(folders: list[str]) -> list[dict]:
    """The records of all runs that ended, from their run.json."""
    found = []
    for folder in folders:
        if not os.path.isdir(folder):
            raise FileNotFoundError(f"--runs={folder}: no such folder.")
        for root, _, names in sorted(os.walk(folder)):
            if record.FILE in names:
                with open(os.path.join(root, record.FILE), encoding="utf-8") as file:
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
    others = [run for run in runs if run not in whole]
    if others:
        lines += ["", "on other data, not comparable with the table:"]
    for run in others:
        lines.append(
            f"  {run['name']:28} {_top1(run):5.1f}  {run['data']['val']['name']} (recipe {run['config']['name']})"
        )
    return "\n".join(lines)


def _top1(run: dict) -> float:
    return 100 * run["result"]["last"]["val_top1"]


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"Unexpected argument {argv[1]!r}; everything is given by flags.")
    try:
        print(table(runs_below(_RUNS.value)))
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    app.run(main)
