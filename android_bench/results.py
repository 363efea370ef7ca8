"""The folder of results: rows, events of each run, and the benchmark tool's output."""

import contextlib
import errno
import json
import os
import re
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from . import schema
from .atomic import write_atomically
from .errors import BenchError
from .plan import BenchPlan
from .rows import Row, completed_keys

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

ROWS, RUNS, LOGS = "rows.jsonl", "runs.jsonl", "logs"
REPORTS = ("report.html", "report.md", "report.csv")
_LOCK = ".lock"
_LONGEST_LINE = 16 << 20  # bytes; a row of a million samples has half as many
_TOO_LONG = b"too long"

# Stores the output of a launch under a name; returns its path relative to the folder of results, None if not stored.
LogWriter = Callable[[str, str], str | None]


_Parsed = TypeVar("_Parsed")


class ResultsWriteError(BenchError):
    """The folder of results cannot be written, so measuring further is useless."""


class Results:
    """A folder of results.

    A line is appended to `rows.jsonl` as soon as a row is measured, and to `runs.jsonl` at the start and end of each
    run. Lines of earlier runs, other devices and other targets are kept. `logs/<run>/` has the benchmark tool's output.

    Args:
        folder: The folder; created if it does not exist.

    Raises:
        ResultsWriteError: If the folder cannot be written.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder).expanduser()
        self._lock = threading.Lock()  # several devices write at once
        self._created = not self.folder.exists()
        with self._writing():
            self.folder.mkdir(parents=True, exist_ok=True)
            self._check_names()
            with tempfile.TemporaryFile(dir=self.folder):
                pass
            for name in (ROWS, RUNS):
                _end_last_line(self.folder / name)

    def _check_names(self) -> None:
        """Raises an OSError if a file that a run writes is a folder, or the other way around."""
        for name in REPORTS:
            if (self.folder / name).is_dir():
                raise IsADirectoryError(errno.EISDIR, f"{name} is a folder")
        if (self.folder / LOGS).exists() and not (self.folder / LOGS).is_dir():
            raise NotADirectoryError(errno.ENOTDIR, f"{LOGS} is not a folder")

    def remove_if_unused(self) -> None:
        """Removes the folder if it was created here and contains no results, for example after a failed start."""
        if not self._created:
            return
        with contextlib.suppress(OSError):
            for name in (ROWS, RUNS, _LOCK):
                path = self.folder / name
                if path.exists() and not path.stat().st_size:
                    path.unlink()
            self.folder.rmdir()

    def append_row(self, row: Row) -> None:
        """Appends a row and flushes it to the disk, so that it survives a crash or a power cut.

        Raises:
            ResultsWriteError: If it cannot be written, for example because the disk is full.
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
        """Locks the folder, since two processes would continue the same plan.

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
                    raise BenchError(f"{self.folder}: another run is writing to this folder; {way_out}") from None
            yield

    def unfinished_rows(self, identity: str, plan: BenchPlan) -> list[Row]:
        """Returns the rows of the latest run with this identity, or none if it was finished and reported.

        The rows may be complete: if a run was killed after its last row, only its summary and report are missing.
        """
        runs = read_runs(self.folder)
        name = next((name for name, run in reversed(runs.items()) if run.get("identity") == identity), None)
        if name is None:
            return []
        rows = [row for row in read_rows(self.folder) if row.run == name]
        left = {launch.key for launch in plan.schedule()} - completed_keys(rows, plan.repeats)
        closed = runs[name].get("state") == "complete" and runs[name].get("reported", True)
        return [] if closed and not left else rows

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
            raise ResultsWriteError(f"{self.folder}: cannot be written: {error.strerror}; {way_out}") from error


def discard_log(name: str, text: str) -> None:
    """A `LogWriter` that discards the output."""


def read_rows(folder: Path, damage: list[str] | None = None) -> list[Row]:
    """Reads all rows of a folder; skips and reports lines that are damaged or not rows.

    Args:
        folder: The folder.
        damage: List to append a message to for each skipped line.

    Raises:
        BenchError: If there is no rows.jsonl.
    """
    return list(_parsed(folder / ROWS, Row.from_json, damage))


def read_runs(folder: Path, damage: list[str] | None = None) -> dict[str, dict[str, Any]]:
    """Reads the runs of a folder by name: the merged events of each, where later values replace earlier ones.

    Args:
        folder: The folder.
        damage: List to append a message to for each skipped line, which is damaged or not an event.

    Raises:
        BenchError: If there is no runs.jsonl.
    """
    runs: dict[str, dict[str, Any]] = {}
    for event in _parsed(folder / RUNS, _check_event, damage):
        runs.setdefault(event["run"], {}).update(event)
    return runs


def _parsed(path: Path, parse: Callable[[dict[str, Any]], _Parsed], damage: list[str] | None) -> Iterator[_Parsed]:
    """Yields the parsed lines of a file; appends a message to `damage` for each line that cannot be parsed."""
    for number, line in enumerate(_lines(path), 1):
        if not line.strip():
            continue
        try:
            yield parse(_json(line))
        except ValueError as error:
            if damage is not None:
                damage.append(f"{path}, line {number}: {error}; skipped")


def _lines(path: Path) -> Iterator[bytes]:
    """Yields the lines of a file; `_TOO_LONG` for a line of more than `_LONGEST_LINE` bytes."""
    try:
        with path.open("rb") as file:
            while line := file.readline(_LONGEST_LINE):
                rest = line
                while not rest.endswith(b"\n") and (rest := file.readline(_LONGEST_LINE)):
                    line = _TOO_LONG
                yield line
    except OSError as error:
        way_out = "run the benchmark with this --output_dir first"
        raise BenchError(f"{path}: cannot be read: {error.strerror}; {way_out}") from error


def _json(line: bytes) -> dict[str, Any]:
    """Parses a line that contains a JSON object.

    Raises:
        ValueError: If it contains anything else.
    """
    if line is _TOO_LONG:
        raise ValueError(f"longer than {_LONGEST_LINE} bytes")
    try:
        content = json.loads(line.decode("utf-8"), parse_constant=_no_constant)
    except UnicodeDecodeError as error:
        raise ValueError("not valid UTF-8") from error
    except RecursionError as error:
        raise ValueError("not valid JSON (too deep)") from error
    except json.JSONDecodeError as error:
        cut = not line.endswith(b"\n")
        raise ValueError("cut off" if cut else f"not valid JSON ({error.msg}, column {error.colno})") from error
    if not isinstance(content, dict):
        raise ValueError(f"not a JSON object: {schema.shown(content)}")
    return content


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _check_event(event: dict[str, Any]) -> dict[str, Any]:
    """Returns an event of a run.

    Raises:
        ValueError: If it has no run, or a value is invalid for its key.
    """
    if "run" not in event:
        raise ValueError("the key run is missing")
    if wrong := schema.absurdity(event) or schema.mismatch(event, schema.EVENT):
        raise ValueError(wrong)
    return event


def _end_last_line(path: Path) -> None:
    """Ends a line that a killed run left incomplete, so that the next row starts on a new line."""
    with path.open("ab+") as file:
        if file.tell():
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":
                file.write(b"\n")
