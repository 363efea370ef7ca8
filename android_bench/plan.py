"""The plan of a benchmark: which models to run, with how many threads, how often and in which order."""

import hashlib
import json
import random
import re
from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

from .errors import BenchError
from .models import ModelFile

MOST_SECS = 10_000_000  # four months; timeouts overflow if they are much longer
_MOST_ROUNDS, _MOST_RUNS, _LARGEST = 100_000, 1_000_000_000, (1 << 63) - 1
MAX_THREADS = 256  # many thousands crash the interpreter
DELEGATES = ("xnnpack", "none", "gpu", "npu", "nnapi")
EXTRAS = ("profile", "memory", "energy")
ANY_CORE = "any"


class Job(NamedTuple):
    """One model in one configuration.

    Attributes:
        model: The model to run.
        threads: Number of interpreter threads.
        delegate: One of `DELEGATES`; `none` uses TFLite's own kernels.
        core: Cores to run on: `big`, `little`, a hexadecimal mask, or `any`.
    """

    model: ModelFile
    threads: int = 1
    delegate: str = "xnnpack"
    core: str = ANY_CORE


class Launch(NamedTuple):
    """One run of a model as scheduled by a plan; it may take several attempts.

    Attributes:
        round: Number of the round, from 1.
        place: Position in the round, from 1.
        job: The model and its configuration.
        kind: `time`, `sustained`, or one of `EXTRAS`.
    """

    round: int
    place: int
    job: Job
    kind: str = "time"

    @property
    def key(self) -> tuple:
        """Identifies this launch within the plan."""
        return (self.kind, self.round, self.job.model.label, *self.job[1:])


@dataclass(frozen=True)
class BenchPlan:
    """Every model in every configuration, once per round.

    Attributes:
        models: The models to compare.
        threads: Numbers of interpreter threads, each from 1 to `MAX_THREADS`.
        delegates: Some of `DELEGATES`.
        cores: Cores to run on; see `Job.core`.
        extras: Some of `EXTRAS`: launches after the rounds that measure other quantities and may disturb the times.
        rounds: Number of rounds.
        runs: Minimum number of timed invocations of a model per round.
        min_secs: Minimum seconds of timed invocations of a model per round.
        warmup: Untimed invocations before the timed ones, in each round.
        repeats: Maximum number of repetitions of a launch with an unreliable time.
        seed: Seed of the order within the rounds.

    Raises:
        BenchError: If a value is out of range.
    """

    models: tuple[ModelFile, ...]
    threads: tuple[int, ...] = (1,)
    delegates: tuple[str, ...] = ("xnnpack",)
    cores: tuple[str, ...] = (ANY_CORE,)
    extras: tuple[str, ...] = ()
    rounds: int = 10
    runs: int = 10
    min_secs: float = 0.3
    warmup: int = 3
    repeats: int = 2
    seed: int = 0

    def __post_init__(self) -> None:
        check_range(1, _MOST_ROUNDS, rounds=self.rounds)
        check_range(1, _MOST_RUNS, threads=min(self.threads, default=0), runs=self.runs)
        if max(self.threads) > MAX_THREADS:
            raise BenchError(f"threads must be at most {MAX_THREADS}, not {max(self.threads)}")
        check_range(0, _MOST_RUNS, warmup=self.warmup)
        check_range(0, MOST_SECS, min_secs=self.min_secs)
        check_range(0, _MOST_ROUNDS, repeats=self.repeats)
        check_range(-_LARGEST, _LARGEST, seed=self.seed)
        _check_known("delegate", self.delegates, DELEGATES)
        _check_known("extra launch", self.extras, EXTRAS)
        for core in self.cores:
            if not re.fullmatch(rf"big|little|{ANY_CORE}|(0x)?[0-9a-fA-F]+", core) or not core.strip("0x"):
                raise BenchError(f"core must be big, little, {ANY_CORE} or a hexadecimal mask such as 80, not {core!r}")

    @property
    def jobs(self) -> list[Job]:
        """The jobs of one round."""
        unique = dict.fromkeys
        return [
            Job(model, threads, delegate, core)
            for model in unique(self.models)
            for threads in unique(self.threads)
            for delegate in unique(self.delegates)
            for core in unique(self.cores)
        ]

    def schedule(self) -> Iterator[Launch]:
        """Yields all launches, in a new order in each round.

        A machine drifts (clock, heat, other processes). Interleaving spreads the drift over all models, and changing
        the order keeps a model from always running after the same other model.
        """
        rng = random.Random(self.seed)
        for number in range(1, self.rounds + 1):
            jobs = self.jobs
            rng.shuffle(jobs)
            for place, job in enumerate(jobs, 1):
                yield Launch(number, place, job)
        yield from self._extra_launches()

    def _extra_launches(self) -> Iterator[Launch]:
        for kind in self.extras:
            for place, job in enumerate(self.jobs, 1):
                yield Launch(self.rounds + 1, place, job, kind)

    def remaining(self, completed: Container[tuple], stop: Callable[[], bool]) -> Iterator[Launch]:
        """Yields the remaining launches, until `stop()` is true.

        Args:
            completed: Keys of the launches to skip.
            stop: Called before each launch.
        """
        for launch in self.schedule():
            if launch.key in completed:
                continue
            if stop():
                return
            yield launch

    def options(self) -> dict[str, Any]:
        """Returns all options except the models, for the results."""
        return {option.name: getattr(self, option.name) for option in fields(self) if option.name != "models"}

    def identity(self, *where: str) -> str:
        """Returns a short hash; a run can continue another run with the same hash.

        Args:
            where: Other things that must be the same, such as device and interpreter.
        """
        content = [self.options(), sorted((model.label, model.sha256) for model in self.models), where]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:12]


def split_list(text: str) -> tuple[str, ...]:
    """Returns the items of a comma-separated list."""
    return tuple(word.strip() for word in text.split(",") if word.strip())


def parse_threads(text: str) -> tuple[int, ...]:
    """Returns the integers of a comma-separated list.

    Raises:
        BenchError: If the list contains anything else.
    """
    try:
        return tuple(int(number) for number in text.split(","))
    except ValueError:
        raise BenchError(f"threads must be integers separated by commas, not {text!r}") from None


def check_range(least: float, most: float, **values: float) -> None:
    """Raises BenchError unless all values are numbers from `least` to `most`."""
    for name, value in values.items():
        if not least <= value <= most:  # NaN is not either
            raise BenchError(f"{name} must be a number of at least {least} and at most {most}, not {value}")


def _check_known(what: str, values: Sequence[str], known: Sequence[str]) -> None:
    for value in values:
        if value not in known:
            raise BenchError(f"unknown {what} {value!r}: choose from {', '.join(known)}")
