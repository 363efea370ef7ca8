"""A benchmark session: measure on all targets, store the rows, summarize."""

import os
import threading
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, Protocol

from .count_summary import summarize_counts
from .errors import BenchError
from .messages import log
from .models import choose_baseline
from .plan import BenchPlan
from .results import LogWriter, Results
from .rows import Row, completed_keys, last_attempts
from .run_progress import RunProgress
from .stop_signal import StopSignal
from .summary import reliability_warnings, summarize
from .sustained import summarize_sustained


class Target(Protocol):
    """A device or machine that measures.

    Attributes:
        target, device: See `rows.Origin`.
        run: Name of the run, which goes into the rows; set before `measure`.
        plan: The plan, without the models that cannot run there.
        failures: Messages about the models that could not be timed.
        warnings: Reasons to doubt the times from the start.
        environment: Facts about the device; None for what could not be found out.
        write_log: Stores the output of the benchmark tool; set before `measure`.
        identity: See `plan.BenchPlan.identity`.
    """

    target: str
    device: str
    run: str
    plan: BenchPlan
    failures: list[str]
    warnings: list[str]
    environment: dict[str, Any]
    write_log: LogWriter

    @property
    def identity(self) -> str: ...  # noqa: D102  (an attribute, see above)

    def measure(self, stop: Callable[[], bool], done: Iterable[Row] = ()) -> Iterable[Row]:
        """Yields a row for each launch of the plan until `stop()` is true.

        Args:
            stop: Is asked between launches.
            done: Rows of this run that exist already: it is continued.

        Raises:
            BenchError: If a model or the device fails for good.
        """
        ...

    def load_average(self) -> float | None:
        """Returns the load average over the last minute, None if unknown."""
        ...


def measure_all(
    targets: Sequence[Target], results: Results, stop: StopSignal, baseline: str | None = None, fresh: bool = False
) -> list[dict[str, Any]]:
    """Measures on all targets side by side, and stores the rows.

    A failure on the way (of a device, of the disk) ends the measurement there and is added to `failures`; what was
    measured by then is summarized like a whole run. Failures and warnings are logged to standard error.

    Args:
        targets: The targets, each a device of its own.
        results: Where to write.
        stop: Ends the measurement early.
        baseline: Name of the model to compare with; see `models.choose_baseline`.
        fresh: Whether to start anew where an earlier run of the same plan was interrupted.

    Returns:
        For each target the events of its run, and its summaries: `models`, `sustained` and `counts`.

    Raises:
        BenchError: If a target has no model left, or there is no such baseline.
    """
    references = [choose_baseline(target.plan.models, baseline).label for target in targets]
    with RunProgress(sum(len(list(target.plan.schedule())) for target in targets)) as progress:
        runs = [
            _TargetRun(target, results, stop, progress, reference, fresh)
            for target, reference in zip(targets, references, strict=True)
        ]
        _measure_side_by_side(runs)
    return [run.close() for run in runs]


class _TargetRun:
    """The run of a plan on one target."""

    def __init__(
        self,
        target: Target,
        results: Results,
        stop: StopSignal,
        progress: RunProgress,
        baseline: str,
        fresh: bool,
    ) -> None:
        self._target, self._results, self._stop, self._progress = target, results, stop, progress
        self._rows = [] if fresh else results.unfinished_rows(target.identity, target.plan)
        target.run = self._rows[0].run if self._rows else new_run_name(target.device)
        target.write_log = lambda name, text: results.write_log(target.run, name, text)
        self._failures: list[str] = []
        self._announce()
        self._start = self._start_event(baseline)
        self._baseline = baseline
        results.append_event(**self._start)

    def measure(self) -> None:
        """Measures; a failure is stored for the end."""
        try:
            for row in self._target.measure(self._stop, tuple(self._rows)):
                self._rows.append(row)
                self._results.append_row(row)
                self._progress.add(row)
        except (BenchError, TimeoutError) as error:
            self._failures.append(str(error))
            log("error", error)

    def close(self) -> dict[str, Any]:
        """Summarizes; returns an item of what `measure_all` returns."""
        target = self._target
        models = summarize(self._rows, self._baseline)
        log("warning", *reliability_warnings(models))
        end = {
            "run": target.run,
            "state": self._state(),
            "reported": False,  # until the report is written
            "load_after": target.load_average(),
            "failures": target.failures + self._failures,
        }
        try:
            self._results.append_event(**end)
        except BenchError as error:
            end["failures"].append(str(error))
            log("error", error)
        others = {
            "sustained": summarize_sustained(self._rows, self._baseline),
            "counts": summarize_counts(self._rows, self._baseline),
        }
        return self._start | end | {"models": models} | others

    def _announce(self) -> None:
        target = self._target
        log("error", *target.failures)
        log("warning", *target.warnings)
        if self._rows:
            done = len(completed_keys(self._rows, target.plan.repeats))
            planned = len(list(target.plan.schedule()))
            how = "closing" if done == planned else "continuing"
            log("note", f"{target.device}: {how} run {target.run}, {done} launches are done (--fresh: start anew)")
            self._progress.skip(done)

    def _start_event(self, baseline: str) -> dict[str, Any]:
        target = self._target
        return {
            "run": target.run,
            "target": target.target,
            "device": target.device,
            "identity": target.identity,
            "baseline": baseline,
            "options": target.plan.options(),
            "environment": target.environment,
            "load_before": target.load_average(),
            "state": "interrupted",
            "failures": target.failures,
            "warnings": target.warnings,
        }

    def _state(self) -> str:
        planned = len(list(self._target.plan.schedule()))
        done = len(last_attempts(self._rows))
        if done == planned:
            return "complete"
        if self._stop.signal:
            return f"stopped by {self._stop.signal.name} after {done} of {planned} launches"
        return f"failed after {done} of {planned} launches"


def _measure_side_by_side(runs: Sequence[_TargetRun]) -> None:
    """Runs one device here, or several in threads of their own."""
    if len(runs) == 1:
        return runs[0].measure()
    # Daemons, so that a second Ctrl-C ends at once.
    threads = [threading.Thread(target=run.measure, daemon=True) for run in runs]
    for thread in threads:
        thread.start()
    for thread in threads:
        while thread.is_alive():
            thread.join(0.2)  # with a timeout, signals get through
    return None


def new_run_name(device: str) -> str:
    """Returns a name for a run on a device: its start, this process and the device."""
    device = "".join(letter if letter.isalnum() else "-" for letter in device[:80])
    return f"{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}-{os.getpid()}-{device}"
