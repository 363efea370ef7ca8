"""The host target: the LiteRT interpreter on this machine.

The numbers are this machine's, not a phone's. The delegate is LiteRT's default for a CPU, XNNPACK. A latency
is that of `Interpreter.invoke()`, which adds about a microsecond of Python to the network's own time.
"""

import gc
import os
import platform
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from . import host_profiler
from .plan import BenchError, Job, Model, Plan, Visit, choose_baseline, find_models, read_models
from .rows import Row, describe, summarise
from .run_progress import tell

_CPUINFO = Path("/proc/cpuinfo")
_MEMINFO = Path("/proc/meminfo")
_GOVERNOR = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
_DISTURBED = 0.1  # of the time, waiting for the core
_COPIES = 3  # of a model's weights: the mapped file, XNNPACK's packed ones, and room for activations


def time_models(
    paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    *,
    threads: int | Iterable[int] = Plan.threads,
    rounds: int = Plan.rounds,
    runs: int = Plan.runs,
    min_secs: float = Plan.min_secs,
    warmup: int = Plan.warmup,
    seed: int = Plan.seed,
    baseline: str | None = None,
    on_row: Callable[[Row], object] = lambda row: None,
) -> list[dict[str, Any]]:
    """Times models on this machine, side by side, for use by another program.

    Args:
        paths: What `plan.find_models` takes: a folder, a file, or several.
        threads: Number of interpreter threads, or several numbers.
        rounds, runs, min_secs, warmup, seed: See `plan.Plan`.
        baseline: Name of the model to compare with; see `plan.choose_baseline`.
        on_row: Is called with each row as soon as it is measured.

    Returns:
        The summary, one dict per model and number of threads; see `rows.summarise`.

    Raises:
        BenchError: If a model is missing or broken, an option is out of range, or LiteRT is not installed.
    """
    models, failures = read_models(find_models(paths))
    threads = (threads,) if isinstance(threads, int) else tuple(threads)
    options = {"rounds": rounds, "runs": runs, "min_secs": min_secs, "warmup": warmup, "seed": seed}
    host = HostTarget(Plan(tuple(models), threads, **options), failures)
    if host.failures:
        raise BenchError("\n".join(host.failures))
    reference = choose_baseline(host.plan.models, baseline).label
    rows = []
    for row in host.measure():
        rows.append(row)
        on_row(row)
    return summarise(rows, reference)


class HostTarget:
    """This machine, with the models of a plan loaded.

    All interpreters stay loaded over the rounds. Where memory does not allow it, each is loaded for its turn.

    Args:
        plan: What to measure.
        failures: Messages about models that did not even get into the plan.

    Attributes:
        target, device: Go into the rows.
        run: Likewise; name of the run, given by who calls `measure`.
        keep_log: Unused: the interpreter prints nothing.
        identity: See `plan.Plan.identity`.
        plan: The plan, without the models that LiteRT could not load or run, and without repetitions: of the
            many rounds of a host, what others disturb is flagged.
        failures: The messages given, and one for each of those.
        warnings: What makes the times doubtful from the start.
        environment: What this machine is; None for what could not be found out.

    Raises:
        BenchError: If LiteRT is not installed.
    """

    target = "host"

    def __init__(self, plan: Plan, failures: Iterable[str] = ()) -> None:
        _refuse(plan)
        self.environment = _environment(_litert_version())
        self.device = platform.node() or "this machine"
        self.run = "unnamed"
        self.failures = list(failures)
        self.warnings = _warnings(plan, self.environment["cores"])
        plan = replace(plan, repeats=0)
        self._keep = _fits(plan)
        if not self._keep:
            self.warnings.append("the models do not fit into memory together: each is loaded in every round")
        self._loaded: dict[Job, Any] = {}
        self.plan = replace(plan, models=tuple(model for model in plan.models if self._runs(plan, model)))

    @property
    def identity(self) -> str:
        """What a run must have in common with this one to be continued."""
        return self.plan.identity(self.target, self.device, self.environment["engine"])

    def measure(self, stop: Callable[[], bool] = lambda: False, done: Iterable[Row] = ()) -> Iterator[Row]:
        """Yields a row for each visit of the plan's schedule.

        Args:
            stop: Is asked between invocations; once it returns True, the visit under way is dropped.
            done: Rows of this run that are there already: it is continued.

        Raises:
            BenchError: If a model fails that ran before.
        """
        ready = {row.key for row in done}
        for visit in self.plan.schedule():
            if visit.key in ready:
                continue
            started, load = datetime.now(UTC).isoformat(timespec="seconds"), self.load_average()
            found = None if stop() else self._time(visit.job, stop) if visit.kind == "time" else self._look(visit)
            if stop():
                return
            if found is not None:
                found |= {"started": started, "load": load, "kind": visit.kind}
                yield self._row(visit.job, round=visit.round, place=visit.place, **found)

    @staticmethod
    def load_average() -> float | None:
        """Returns the load average over the last minute, None where the system does not tell."""
        try:
            return round(os.getloadavg()[0], 2)
        except (OSError, AttributeError):
            return None

    def _runs(self, plan: Plan, model: Model) -> bool:
        """Loads a model for all numbers of threads; notes the failure if it does not run."""
        try:
            for job in replace(plan, models=(model,)).jobs:
                self._interpreter(job)
        except BenchError as error:
            self.failures.append(str(error))
            return False
        return True

    def _interpreter(self, job: Job) -> Any:
        if job in self._loaded:
            return self._loaded[job]
        interpreter = _load(job)
        if self._keep:
            self._loaded[job] = interpreter
        return interpreter

    def _time(self, job: Job, stop: Callable[[], bool]) -> dict[str, Any]:
        """Returns the latencies of one round of a model, in ns, and why they cannot be trusted."""
        interpreter = self._interpreter(job)
        with _blaming(job.model), _no_collection():
            for _ in range(self.plan.warmup):  # the caches still hold the model before
                interpreter.invoke()
            start = time.thread_time_ns()
            samples = _timed(interpreter.invoke, self.plan, stop)
            flags = _disturbances(job, time.thread_time_ns() - start, sum(samples))
            return {"samples_ns": samples, "flags": flags}

    def _look(self, visit: Visit) -> dict[str, Any] | None:
        """Returns what an extra launch found, None if it failed."""
        try:
            return host_profiler.look(visit.job, visit.kind, self.plan.runs)
        except BenchError as error:
            self.failures.append(str(error))
            tell("error", [error])
            return None

    def _row(self, job: Job, samples_ns: list[int], **visit: Any) -> Row:
        model = job.model
        return Row(
            run=self.run,
            target=self.target,
            machine=self.environment["kind"],
            device=self.device,
            engine=self.environment["engine"],
            model=model.name,
            recipe=model.recipe,
            file=str(model.path),
            sha256=model.sha256,
            size_bytes=model.size_bytes,
            facts=model.facts,
            threads=job.threads,
            samples_ns=samples_ns,
            **visit,
            **describe(samples_ns),
        )


def _refuse(plan: Plan) -> None:
    """Refuses what the interpreter cannot do from Python."""
    for name, default in {"delegates": Plan.delegates, "cores": Plan.cores}.items():
        if getattr(plan, name) != default:
            asked = ", ".join(getattr(plan, name))
            raise BenchError(f"--target=host without --benchmark_binary cannot do {name} {asked}: give it the tool")


def _disturbances(job: Job, cpu_ns: int, wall_ns: int) -> list[str]:
    """Returns a flag if a single thread had to wait for its core; of several, waiting for each other is no sign."""
    waited = 1 - cpu_ns / wall_ns if job.threads == 1 and wall_ns else 0
    return [f"other work had the core for {waited:.0%} of the time"] if waited > _DISTURBED else []


def _timed(invoke: Callable[[], object], plan: Plan, stop: Callable[[], bool]) -> list[int]:
    """Returns the latencies, in ns, of `plan.runs` times or `plan.min_secs` seconds, whichever is longer."""
    clock, samples, total = time.perf_counter_ns, [], 0
    while (len(samples) < plan.runs or total < plan.min_secs * 1e9) and not stop():
        start = clock()
        invoke()
        samples.append(clock() - start)
        total += samples[-1]
    return samples


def _load(job: Job) -> Any:
    """Returns an interpreter that has run once, its input set for good."""
    from ai_edge_litert.interpreter import Interpreter

    with _blaming(job.model):
        interpreter = Interpreter(model_path=str(job.model.path), num_threads=job.threads)
        _check_inputs(interpreter, job.model)
        interpreter.allocate_tensors()
        fill(interpreter)
        interpreter.invoke()
    return interpreter


def _check_inputs(interpreter: Any, model: Model) -> None:
    """Refuses an image of any size: LiteRT would take one of a single pixel. A free batch size becomes 1."""
    for detail in interpreter.get_input_details():
        shape = detail["shape_signature"].tolist()
        if min(shape[1:], default=0) < 0:
            raise BenchError(f"{model.path}: input shape {shape} is not fixed: export it with a static shape")


def fill(interpreter: Any) -> None:
    """Sets the inputs to the same random pixels for every model and call."""
    import numpy as np

    rng = np.random.default_rng(0)
    for detail in interpreter.get_input_details():
        interpreter.set_tensor(detail["index"], _pixels(rng, detail["shape"], np.dtype(detail["dtype"])))


def _pixels(rng: Any, shape: Any, dtype: Any) -> Any:
    """Returns an array of 0 to 255 (floats) or of the whole range (8- and 16-bit integers).

    Wider integers count or index something, so that only small ones are safe.
    """
    if dtype.kind == "f":
        return rng.uniform(0, 255, shape).astype(dtype)
    if dtype.kind not in "iu":
        raise ValueError(f"an input of type {dtype} is not supported")
    bits = 8 * dtype.itemsize
    low, high = (0, 1 << bits) if dtype.kind == "u" else (-(1 << bits - 1), 1 << bits - 1)
    return rng.integers(*((low, high) if bits <= 16 else (0, 2)), shape, dtype)


@contextmanager
def _blaming(model: Model) -> Iterator[None]:
    """Turns what LiteRT raises into an error that names the file."""
    try:
        yield
    except (ValueError, RuntimeError, MemoryError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        way_out = "if it was cut short, convert or copy it again"
        raise BenchError(f"{model.path}: LiteRT cannot run it: {reason.rstrip('.')}: {way_out}") from error


@contextmanager
def _no_collection() -> Iterator[None]:
    """Keeps the garbage collector out of the latencies."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _litert_version() -> str:
    try:
        import ai_edge_litert.interpreter
    except ImportError as error:
        raise BenchError(f"the host target needs LiteRT ({error}): pip install ai-edge-litert") from error
    return getattr(ai_edge_litert, "__version__", "of unknown version")


def _environment(version: str) -> dict[str, Any]:
    return {
        "device": _cpu_name(),
        "kind": "host",
        "cores": _cores(),
        "governor": _first_line(_GOVERNOR),
        "engine": f"LiteRT {version}",
        "delegate": "LiteRT's default (XNNPACK)",
        "python": platform.python_version(),
        "os": platform.platform(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _warnings(plan: Plan, cores: int) -> list[str]:
    found = []
    if max(plan.threads) > cores:
        found.append(f"{max(plan.threads)} threads on {cores} cores: threads wait for each other")
    load = HostTarget.load_average()
    if load is not None and load + max(plan.threads) > cores + 0.5:
        found.append(f"load average {load} on {cores} cores at the start: other work may disturb the times")
    return found


def _fits(plan: Plan) -> bool:
    """Tells whether all interpreters fit into half of the memory that is available; True where unknown."""
    needed = _COPIES * sum(job.model.size_bytes for job in plan.jobs)
    kilobytes = _field(_MEMINFO, "MemAvailable").removesuffix("kB").strip()
    return not kilobytes.isdigit() or needed < int(kilobytes) * 1024 / 2


def _cpu_name() -> str:
    return _field(_CPUINFO, "model name") or platform.processor() or platform.machine() or "unknown"


def _cores() -> int:
    """Returns the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _field(path: Path, name: str) -> str:
    """Returns the first value of a `name : value` file, empty if there is none."""
    for line in _read(path).splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return ""


def _first_line(path: Path) -> str | None:
    return next(iter(_read(path).splitlines()), None)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
