"""The folder of results: rows as they come, the events of each run, and the output of the benchmark tool."""

import json
import os
import re
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .atomic import write_atomically
from .errors import BenchError
from .plan import BenchPlan
from .rows import Row, completed_keys

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

ROWS, RUNS, LOGS = "rows.jsonl", "runs.jsonl", "logs"
_LOCK = ".lock"

# Stores the output of a launch under a name; returns the path relative to the folder of results, None if it is nowhere.
LogWriter = Callable[[str, str], str | None]


class ResultsWriteError(BenchError):
    """The folder of results cannot be written: a measurement that cannot be stored is useless."""


class Results:
    """A folder of results.

    `rows.jsonl` gains a line per row, at once; `runs.jsonl` one at the start of each run and one at its end. Both keep
    what earlier runs, other devices and other targets wrote. `logs/<run>/` has the output of the benchmark tool.

    Args:
        folder: The folder; created if it does not exist.

    Raises:
        ResultsWriteError: If the folder cannot be written.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder).expanduser()
        self._lock = threading.Lock()  # several devices write at once
        with self._writing():
            self.folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.folder):
                pass
            for name in (ROWS, RUNS):
                _end_last_line(self.folder / name)

    def append_row(self, row: Row) -> None:
        """Appends a row and flushes it to the disk, so that it survives this process and a power cut.

        Raises:
            ResultsWriteError: If it cannot be written, such as on a full disk.
        """
        self._append(ROWS, row.to_json())

    def append_event(self, **event: Any) -> None:
        """Appends an event of a run; see `read_runs`.

        Raises:
            ResultsWriteError: If it cannot be written.
        """
        self._append(RUNS, event)

    def write_log(self, run: str, name: str, text: str) -> str:
        """Writes the output of a launch; returns the path relative to the folder.

        Raises:
            ResultsWriteError: If it cannot be written.
        """
        path = Path(LOGS) / run / f"{re.sub(r'[^A-Za-z0-9._-]', '_', name)}.txt"
        with self._writing():
            (self.folder / path).parent.mkdir(parents=True, exist_ok=True)
        self.write(str(path), text)
        return str(path)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keeps other processes from measuring into this folder meanwhile: both would continue the same plan.

        Raises:
            BenchError: If another process holds the lock.
        """
        with self._writing():
            file = (self.folder / _LOCK).open("w")
        with file:
            if fcntl:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    way_out = "wait for it, or choose another --output_dir"
                    raise BenchError(f"{self.folder}: another run is writing here: {way_out}") from None
            yield

    def unfinished_rows(self, identity: str, plan: BenchPlan) -> list[Row]:
        """Returns the rows of the latest run of this identity if it did not finish; else none."""
        runs = [event["run"] for event in read_lines(self.folder / RUNS) if event.get("identity") == identity]
        if not runs:
            return []
        rows = [row for row in read_rows(self.folder) if row.run == runs[-1]]
        left = {launch.key for launch in plan.schedule()} - completed_keys(rows, plan.repeats)
        return rows if left else []

    def write(self, name: str, text: str) -> None:
        """Writes a file atomically.

        Raises:
            ResultsWriteError: If it cannot be written.
        """
        with self._writing():
            write_atomically(self.folder / name, text.encode())

    def _append(self, name: str, content: dict[str, Any]) -> None:
        line = json.dumps(content, separators=(",", ":"), allow_nan=False)
        with self._lock, self._writing(), (self.folder / name).open("a", encoding="utf-8") as file:
            file.write(line + "\n")
            file.flush()
            os.fsync(file.fileno())

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            way_out = "fix that, or choose another --output_dir"
            raise ResultsWriteError(f"{self.folder}: cannot be written: {error.strerror}: {way_out}") from error


def discard_log(name: str, text: str) -> None:
    """A `LogWriter` that stores nothing."""


def read_rows(folder: Path) -> list[Row]:
    """Reads all rows of a folder.

    Raises:
        BenchError: If there are none, or they are of another version.
    """
    path = folder / ROWS
    try:
        return [Row.from_json(line) for line in read_lines(path)]
    except ValueError as error:
        raise BenchError(f"{path}: written by another version ({error}): choose another --output_dir") from error


def read_runs(folder: Path) -> dict[str, dict[str, Any]]:
    """Reads the runs of a folder, by name: the events of each, later entries replacing earlier."""
    runs: dict[str, dict[str, Any]] = {}
    for event in read_lines(folder / RUNS):
        runs.setdefault(event["run"], {}).update(event)
    return runs


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Reads the complete lines of a file: a crash can cut one.

    Raises:
        BenchError: If the file cannot be read.
    """
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as error:
        way_out = "time some models into this folder first"
        raise BenchError(f"{path}: cannot be read: {error.strerror}: {way_out}") from error
    found = []
    for line in lines:
        try:
            content = json.loads(line)
        except ValueError:
            continue
        if isinstance(content, dict):
            found.append(content)
    return found


def _end_last_line(path: Path) -> None:
    """Ends a line that an earlier run was killed in, so that the next row does not continue it."""
    with path.open("ab+") as file:
        if file.tell():
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":
                file.write(b"\n")
