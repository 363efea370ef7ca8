"""An ARM core emulated by qemu as a target: counts the instructions that a model executes, without timing it.

qemu runs LiteRT for ARM, and its plugin emulator_plugin.c counts. `make emulator` in a clone builds both.
"""

import json
import os
import subprocess
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from . import schema
from .emulated_cores import CORES, CycleModel
from .errors import BenchError
from .messages import log
from .plan import BenchPlan, Launch
from .results import LogWriter, discard_log
from .rows import COUNT, NOT_TIMED, Conditions, Details, Origin, Row, utc_now

FOLDER = Path(".emulator")
_PYTHON = "python3.13"
_TIMEOUT = 3600  # seconds
_MAKE = "run `make emulator` in a clone of fd_keras and pass its .emulator folder as --emulator"


@dataclass(frozen=True)
class Emulator:
    """The folder that `make emulator` builds: qemu, the plugin, and LiteRT for ARM with its own Python.

    Attributes:
        folder: Folder with `qemu-aarch64`, `counts.so`, `root/` (an aarch64 Debian), `packages/` and `versions.json`.
        qemu: Version of qemu.
        litert: Version of LiteRT.
    """

    folder: Path
    qemu: str
    litert: str

    @classmethod
    def find(cls, folder: Path) -> "Emulator":
        """Finds the emulator in a folder.

        Raises:
            BenchError: If a part of it is missing, or qemu cannot use the path.
        """
        folder = folder.expanduser().absolute()
        if set(str(folder)) & set(" ,:;"):  # qemu and the linker treat them as separators
            raise BenchError(
                f"--emulator={folder}: the path contains a space, comma, colon or semicolon; move the folder"
            )
        try:
            for part in ("qemu-aarch64", "counts.so", "packages", f"root/usr/bin/{_PYTHON}"):
                (folder / part).stat()
            versions = json.loads((folder / "versions.json").read_text())
            return cls(folder, str(versions["qemu"]), str(versions["litert"]))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise BenchError(f"--emulator={folder}: not a complete emulator folder; {_MAKE}") from error

    def command(self, core: str, *arguments: str) -> list[str]:
        """Returns the command that runs `emulated_counting.main` on a core.

        Args:
            core: One of `CORES`.
            arguments: Arguments of `main`.
        """
        described, plugin = CORES[core], self.folder / "counts.so"
        here = Path(__file__).resolve().parent
        code = f"import sys; sys.path.append({str(here.parent)!r}); from {here.name} import emulated_counting; "
        code += f"emulated_counting.main(*{list(arguments)!r})"
        return [
            *(str(self.folder / "qemu-aarch64"), "-cpu", described.cpu, "-L", str(self.folder / "root")),
            # Keep addresses and random numbers the same in every run.
            *("-R", "0x1000000000", "-seed", "0"),
            *("-plugin", f"{plugin},l1={described.l1.argument},l2={described.l2.argument}"),
            *("-E", f"PYTHONPATH={self.folder / 'packages'}", "-E", "PYTHONHASHSEED=0", "-U", "LD_PRELOAD"),
            *(str(self.folder / "root/usr/bin" / _PYTHON), "-X", "utf8", "-B", "-c", code),
        ]

    def count(self, core: str, model: Path, ops: bool) -> dict[str, Any]:
        """Runs a model on a core; returns the parsed output of `emulated_counting.main`.

        Args:
            core: One of `CORES`.
            model: The .tflite file.
            ops: Whether to count each op.

        Raises:
            BenchError: If the emulator failed.
        """
        command = self.command(core, str(model.absolute()), *(["ops"] if ops else []))
        environment = {"LD_PRELOAD": str(self.folder / "counts.so"), "PATH": os.defpath, "LC_ALL": "C.UTF-8"}
        try:
            done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=_TIMEOUT)
        except OSError as error:
            raise BenchError(f"{command[0]}: cannot be run: {error.strerror}; {_MAKE}") from error
        except subprocess.TimeoutExpired:
            raise BenchError(f"{model}: the emulator took more than {_TIMEOUT} s") from None
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["no output"])[-1]
            raise BenchError(f"{model}: the emulator failed with status {done.returncode}: {last}")
        return parse(done.stdout, model)


_OUTPUT = {
    "counts": schema.COUNTS,
    "invocations": schema.COUNT,
    "unstable": [schema.TEXT],
    "ops": [schema.COUNTED_OP],
}


def parse(output: str, model: Path) -> dict[str, Any]:
    """Parses the output of `emulated_counting.main`.

    Args:
        output: The output; warnings of LiteRT may come before the last line.
        model: The model, for messages.

    Raises:
        BenchError: If the last line does not contain counts.
    """
    try:
        found = json.loads(output.splitlines()[-1])
    except (ValueError, IndexError):
        found = {}
    if wrong := schema.mismatch(found, _OUTPUT) or _missing(found):
        raise BenchError(f"{model}: the emulator did not print counts ({wrong}); {_MAKE}")
    return found


def _missing(found: dict[str, Any]) -> str | None:
    missing = [key for key in _OUTPUT if key not in found]
    return f"missing keys {', '.join(missing)}" if missing else None


class CountPlan(BenchPlan):
    """A plan in which each model is counted once, since counts do not change from round to round."""

    def schedule(self) -> Iterator[Launch]:
        """Yields one launch of each job."""
        for place, job in enumerate(self.jobs, 1):
            yield Launch(1, place, job, COUNT)


class EmulatorTarget:
    """An emulated core.

    Args:
        plan: What to count. Each model is counted once, with its ops if `profile` is among the extras.
        core: One of `CORES`.
        emulator: The emulator.
        failures: Messages about models that could not be added to the plan.

    Attributes:
        See `session.Target`.

    Raises:
        BenchError: If the plan has an option that only devices support.
    """

    target = "emulator"

    def __init__(self, plan: BenchPlan, core: str, emulator: Emulator, failures: Iterable[str] = ()) -> None:
        _check_supported(plan)
        self._core, self._emulator = core, emulator
        self._with_ops = "profile" in plan.extras
        self.plan: BenchPlan = CountPlan(plan.models, extras=plan.extras, rounds=1, repeats=0)
        self.device = core
        self.run = "unnamed"
        self.write_log: LogWriter = discard_log
        self.failures = list(failures)
        self.warnings: list[str] = []
        self.environment = _environment(core, emulator)

    @property
    def identity(self) -> str:
        """See `plan.BenchPlan.identity`."""
        return self.plan.identity(self.target, self.device, self.environment["engine"])

    def measure(self, stop: Callable[[], bool] = lambda: False, done: Iterable[Row] = ()) -> Iterator[Row]:
        """Yields a row for each model; adds models on which the emulator fails to `failures`.

        Args:
            stop: Called before each model.
            done: Existing rows of this run, which is continued.
        """
        for launch in self.plan.remaining({row.key for row in done}, stop):
            try:
                yield self._row(launch)
            except BenchError as error:
                if stop():  # Ctrl-C also ends the emulator
                    return
                self.failures.append(str(error))
                log("error", error)

    @staticmethod
    def load_average() -> float | None:
        """Returns None, since counts do not depend on the load."""
        return None

    def _row(self, launch: Launch) -> Row:
        started = utc_now()
        found = self._emulator.count(self._core, launch.job.model.path, self._with_ops)
        return Row(
            run=self.run,
            origin=Origin(self.target, self.device, self.environment["engine"], self.environment["kind"]),
            launch=launch,
            started=started,
            latency=replace(NOT_TIMED, runs=found["invocations"]),
            flags=[f"the count of {name} did not stabilize" for name in found["unstable"]],
            details=Details(counts=found["counts"], counted_ops=found["ops"]),
            conditions=Conditions(),
        )


def _check_supported(plan: BenchPlan) -> None:
    for name, flag, default in (
        ("threads", "--threads", BenchPlan.threads),
        ("delegates", "--delegates", BenchPlan.delegates),
        ("cores", "--core", BenchPlan.cores),
    ):
        if getattr(plan, name) != default:
            asked = ",".join(map(str, getattr(plan, name)))
            raise BenchError(f"{flag}={asked}: --target=emulator only counts one thread with XNNPACK; remove the flag")
    if "memory" in plan.extras:
        raise BenchError("--memory: --target=emulator does not measure memory; remove the flag")


def _estimate(timing: CycleModel) -> str:
    return (
        f"at {timing.ghz:g} GHz: the larger of instructions / {timing.issue} and {timing.simd:g} x SIMD, in cycles; "
        f"{timing.l2} cycles for each L1 miss; {timing.memory_ns:g} ns for each L2 miss. {timing.source}"
    )


def _environment(core: str, emulator: Emulator) -> dict[str, Any]:
    described = CORES[core]
    return {
        "device": f"{core}, caches of {described.chip}",
        "kind": "core",
        "cores": 1,
        "engine": f"LiteRT {emulator.litert} on qemu {emulator.qemu}",
        "delegate": "LiteRT's default (XNNPACK)",
        "caches": f"L1: {described.l1}; L2: {described.l2}; least recently used lines are replaced",
        "source": described.source,
        **({"estimate": _estimate(described.timing)} if described.timing else {}),
        "date": utc_now(),
    }
