"""The output folder: rows one by one as they come, what is known of the runs, and the tool's own words."""

import json
import os
import re
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .plan import BenchError, Plan
from .rows import Row, settled

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

ROWS, RUNS, LOGS = "rows.jsonl", "runs.jsonl", "logs"
_LOCK = ".lock"


class CannotWrite(BenchError):
    """The folder of results cannot be written: a measurement that cannot be kept is no use."""


class Results:
    """A folder of results.

    `rows.jsonl` gains one line per row, at once; `runs.jsonl` one at the start of each run and one at its end. Both
    keep what earlier runs, other devices and other targets wrote. `logs/<run>/` holds what the benchmark tool printed.

    Args:
        folder: Where to write; made if it does not exist.

    Raises:
        BenchError: If the folder cannot be written.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder).expanduser()
        self.rows_file = self.folder / ROWS
        self._lock = threading.Lock()  # several devices write at once
        with self._writing():
            self.folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.folder):
                pass
            for name in (ROWS, RUNS):
                _end_last_line(self.folder / name)

    def keep(self, row: Row) -> None:
        """Appends a row and has the disk hold it, so that it outlives this process and a power cut.

        Raises:
            BenchError: If it cannot be written, such as on a full disk.
        """
        self._append(ROWS, vars(row))

    def note(self, **event: Any) -> None:
        """Appends an event of a run; see `runs`.

        Raises:
            BenchError: If it cannot be written.
        """
        self._append(RUNS, event)

    def keep_log(self, run: str, name: str, text: str) -> str:
        """Writes what a launch printed; returns the path relative to the folder.

        Raises:
            BenchError: If it cannot be written.
        """
        path = Path(LOGS) / run / f"{re.sub(r'[^A-Za-z0-9._-]', '_', name)}.txt"
        with self._writing():
            (self.folder / path).parent.mkdir(parents=True, exist_ok=True)
            self.replace(str(path), text)
        return str(path)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keeps other processes from measuring into this folder meanwhile: both would continue the same plan.

        Raises:
            BenchError: If another one does.
        """
        with self._writing():
            file = (self.folder / _LOCK).open("w")
        with file:
            if fcntl:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    way_out = "wait for it, or name another --output_dir"
                    raise BenchError(f"{self.folder}: another run is writing here: {way_out}") from None
            yield

    def unfinished(self, identity: str, plan: Plan) -> list[Row]:
        """Returns the rows of the latest run of this identity, if it did not get to its end; else none."""
        runs = [event["run"] for event in read_lines(self.folder / RUNS) if event.get("identity") == identity]
        if not runs:
            return []
        rows = [row for row in read_rows(self.folder) if row.run == runs[-1]]
        left = {visit.key for visit in plan.schedule()} - settled(rows, plan.repeats)
        return rows if left else []

    def replace(self, name: str, text: str) -> None:
        """Writes a file as a whole or not at all.

        Raises:
            BenchError: If it cannot be written.
        """
        path = self.folder / name
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        with self._writing():
            try:
                temporary.write_text(text, encoding="utf-8")
                temporary.replace(path)
            finally:
                temporary.unlink(missing_ok=True)

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
            way_out = "mend that, or name another --output_dir"
            raise CannotWrite(f"{self.folder}: cannot be written: {error.strerror}: {way_out}") from error


def read_rows(folder: Path) -> list[Row]:
    """Reads all rows of a folder.

    Raises:
        BenchError: If there are none, or they are of another version.
    """
    path = folder / ROWS
    try:
        return [Row(**line) for line in read_lines(path)]
    except TypeError as error:
        raise BenchError(f"{path}: written by another version ({error}): name another --output_dir") from error


def read_runs(folder: Path) -> dict[str, dict[str, Any]]:
    """Reads what is known of the runs of a folder, by name: the events of each, later entries replacing earlier."""
    runs: dict[str, dict[str, Any]] = {}
    for event in read_lines(folder / RUNS):
        runs.setdefault(event["run"], {}).update(event)
    return runs


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Reads the lines of a file that are whole: a crash can cut one.

    Raises:
        BenchError: If the file cannot be read.
    """
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as error:
        raise BenchError(
            f"{path}: cannot be read: {error.strerror}: time some models into this folder first"
        ) from error
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
    """Ends a line that an earlier run was killed in, lest the next row be glued to it."""
    with path.open("ab+") as file:
        if file.tell():
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":
                file.write(b"\n")
