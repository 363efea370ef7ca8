"""A run: measure, keep the rows, sum up, whatever the targets are and however many."""

import os
import threading
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, Protocol

from .plan import BenchError, Plan, choose_baseline
from .results import Results
from .rows import Row, doubts, final, settled, summarise
from .run_progress import Progress, Stop, tell


class Target(Protocol):
    """What measures; `host.HostTarget` describes the members."""

    target: str
    device: str
    run: str
    plan: Plan
    failures: list[str]
    warnings: list[str]
    environment: dict[str, Any]
    identity: str
    keep_log: Callable[[str, str], str | None]

    def measure(self, stop: Stop, done: Iterable[Row]) -> Iterable[Row]:
        """Yields rows until the plan is done or `stop()` is true."""

    def load_average(self) -> float | None:
        """Returns how busy the device is."""


def bench(
    targets: Sequence[Target], results: Results, stop: Stop, baseline: str | None = None, fresh: bool = False
) -> list[dict[str, Any]]:
    """Measures on all targets side by side, and keeps the rows.

    A failure on the way (of a device, of the disk) ends the measurement there and is added to `failures`; what was
    measured by then is summed up like a whole run. Standard error hears of failures and warnings.

    Args:
        targets: What measures, each a device of its own.
        results: Where to write.
        stop: Ends the measurement early.
        baseline: Name of the model to compare with; see `plan.choose_baseline`.
        fresh: Whether to start anew where an earlier run of the same plan was interrupted.

    Returns:
        For each target what was noted of its run, and `models`, its summary.

    Raises:
        BenchError: If a target has no model left, or there is no such baseline.
    """
    references = [choose_baseline(target.plan.models, baseline).label for target in targets]
    with Progress(sum(len(list(target.plan.schedule())) for target in targets)) as progress:
        runs = [
            _Run(target, results, stop, progress, reference, fresh)
            for target, reference in zip(targets, references, strict=True)
        ]
        _side_by_side(runs)
    return [run.close() for run in runs]


class _Run:
    """The run of a plan on one target."""

    def __init__(
        self, target: Target, results: Results, stop: Stop, progress: Progress, baseline: str, fresh: bool
    ) -> None:
        self._target, self._results, self._stop, self._progress = target, results, stop, progress
        self._baseline = baseline
        self._rows = [] if fresh else results.unfinished(target.identity, target.plan)
        target.run = self._rows[0].run if self._rows else _new_run(target)
        target.keep_log = lambda name, text: results.keep_log(target.run, name, text)
        self._failures: list[str] = []
        self._begin()

    def __call__(self) -> None:
        """Measures; a failure is kept for the end."""
        try:
            for row in self._target.measure(self._stop, tuple(self._rows)):
                self._rows.append(row)
                self._results.keep(row)
                self._progress(row)
        except (BenchError, TimeoutError) as error:
            self._failures.append(str(error))
            tell("error", [error])

    def close(self) -> dict[str, Any]:
        """Sums up; returns what `bench` does."""
        target = self._target
        models = summarise(self._rows, self._baseline)
        tell("warning", doubts(models))
        end = {
            "run": target.run,
            "state": self._state(),
            "load_after": target.load_average(),
            "failures": target.failures + self._failures,
        }
        try:
            self._results.note(**end)
        except BenchError as error:
            end["failures"].append(str(error))
            tell("error", [error])
        return self._start | end | {"models": models}

    def _begin(self) -> None:
        target = self._target
        tell("error", target.failures)
        tell("warning", target.warnings)
        if self._rows:
            ready = len(settled(self._rows, target.plan.repeats))
            tell(
                "note", [f"{target.device}: going on with run {target.run}, {ready} launches are there (--fresh: anew)"]
            )
            self._progress.skip(ready)
        self._start = {
            "run": target.run,
            "target": target.target,
            "device": target.device,
            "identity": target.identity,
            "baseline": self._baseline,
            "options": target.plan.options(),
            "environment": target.environment,
            "load_before": target.load_average(),
            "state": "interrupted",
            "failures": target.failures,
            "warnings": target.warnings,
        }
        self._results.note(**self._start)

    def _state(self) -> str:
        planned = len(list(self._target.plan.schedule()))
        done = len(final(self._rows))
        if done == planned:
            return "complete"
        if self._stop.signal:
            return f"stopped by {self._stop.signal.name} after {done} of {planned} launches"
        return f"failed after {done} of {planned} launches"


def _side_by_side(runs: Sequence[_Run]) -> None:
    """Runs one device here, or several in threads of their own."""
    if len(runs) == 1:
        return runs[0]()
    threads = [threading.Thread(target=run, daemon=True) for run in runs]  # daemons: a second Ctrl-C ends at once
    for thread in threads:
        thread.start()
    for thread in threads:
        while thread.is_alive():
            thread.join(0.2)  # with a time-out, signals get through


def _new_run(target: Target) -> str:
    device = "".join(letter if letter.isalnum() else "-" for letter in target.device)
    return f"{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}-{os.getpid()}-{device}"
