"""Locks a device, so that only one run measures on it, and restores the device however the run ends.

A script on the device holds a lock while its standard input, a pipe from this process, is open. When the pipe closes,
because this process closed it or was killed or the connection broke, the script kills the benchmark tool of this run,
releases the clocks and removes the lock. So all endings share one code path, and the tools of other runs are not
touched.
"""

import contextlib
import getpass
import os
import platform
import queue
import shlex
import subprocess
import tempfile
import threading
import uuid
from datetime import UTC, datetime

from .errors import BenchError
from .shell import QUICK_SECS, ConnectionLostError, Shell, one_line

FIXED_PERFORMANCE = "cmd power set-fixed-performance-mode-enabled"
_NAME = "android_bench_guard"  # in the script's command line, so that other runs can see that it is alive
_GRAPH = "'--grap[h]='"  # matches the tool's command line, but, because of the brackets, not the script's
_MARK = "android_bench guard: "
# The lock is a symbolic link, since creating one is atomic and its target can store text: process, token and owner. If
# a script of this run survived a broken connection, it must end before the clocks are fixed again, as it releases them.
_SCRIPT = """\
: {name}
lock={lock}; token={token}; clocks=; tries=0
end_tool() {{
    tool=$(cat "$1" 2>/dev/null)
    if [ -n "$tool" ] && grep -q -e {graph} "/proc/$tool/cmdline" 2>/dev/null; then
        pkill -9 -P "$tool" 2>/dev/null
        kill -9 "$tool" 2>/dev/null
    fi
    rm -f "$1"
}}
finish() {{
    trap '' HUP INT TERM PIPE
    end_tool "$lock.$token"
    [ -z "$clocks" ] || {release} false >/dev/null 2>&1
    [ "$(readlink "$lock")" = "$mine" ] && rm -f "$lock"
    exit 0
}}
mine="$$ $token "{owner}
until ln -s "$mine" "$lock" 2>/dev/null; do
    if ! seen=$(readlink "$lock"); then  # the lock was just removed, or cannot be created
        tries=$((tries + 1)); [ $tries -lt 5 ] && continue
        echo "{mark}cannot write $lock"; exit 0
    fi
    rest=${{seen#* }}; holder=${{seen%% *}}; other=${{rest%% *}}
    if grep -q {name} "/proc/$holder/cmdline" 2>/dev/null; then
        if [ "$other" != "$token" ]; then echo "{mark}held by ${{rest#* }}"; exit 0; fi
        kill "$holder"
        tries=$((tries + 1)); [ $tries -gt 10 ] && kill -9 "$holder"
        sleep 1; continue
    fi
    mv "$lock" "$lock.$$" 2>/dev/null || continue
    moved=$(readlink "$lock.$$")
    [ "$moved" = "$seen" ] || ln -s "$moved" "$lock"
    rm -f "$lock.$$"
    end_tool "$lock.$other"
done
trap finish HUP INT TERM PIPE
echo "{mark}locked"
while read -r word; do
    case "$word" in
    ask*) echo "{mark}locked" ;;
    hold*) clocks=1 ;;
    free*) clocks= ;;
    end*) break ;;
    esac
done
finish
"""


class DeviceGuard:
    """Locks a device for one run.

    Args:
        shell: The device. This machine is not locked, but the tool is killed at the end here too.

    Attributes:
        tool_file: File on the device with the process ID of the benchmark tool; see `command`.
    """

    def __init__(self, shell: Shell) -> None:
        self._shell, self._token = shell, uuid.uuid4().hex[:12]
        self._lock = f"{shell.folder}.lock" if shell.folder else f"{tempfile.gettempdir()}/{_NAME}.{self._token}"
        self._process: subprocess.Popen | None = None
        self._answers: queue.Queue[str] = queue.Queue()
        self.tool_file = f"{self._lock}.{self._token}"

    def acquire(self) -> None:
        """Locks the device, or locks it again after a broken connection.

        Raises:
            ConnectionLostError: If the connection broke.
            BenchError: If another run holds the lock, or the lock cannot be written to the device.
        """
        if self._process and self._ask() == "locked":
            return
        self._abandon()
        self._process = self._shell.start(self._script())
        self._answers = queue.Queue()
        threading.Thread(target=_read_answers, args=(self._process, self._answers), daemon=True).start()
        answer = self._answer()
        if answer == "locked":
            return
        self._abandon()
        if answer.startswith("held"):
            raise BenchError(f"{self._shell.serial}: another run is measuring on it, {answer}; wait for it or stop it")
        if answer.startswith("cannot"):
            raise BenchError(
                f"{self._shell.serial}: {answer}; free some space on the device, or check who owns the folder"
            )
        raise ConnectionLostError(f"{self._shell.serial}: the connection broke: {answer or 'no answer'}")

    def hold_clocks(self) -> None:
        """Makes the script release the clocks when it ends; call this before fixing them."""
        self._send("hold")

    def free_clocks(self) -> None:
        """Undoes `hold_clocks`, after the clocks were released."""
        self._send("free")

    def command(self, tool: str) -> str:
        """Returns a command that runs the benchmark tool and records its process ID, so that it can be killed."""
        return f"sh -c {shlex.quote(f'echo $$ > {shlex.quote(self.tool_file)}; exec {tool}')}"

    def end_tool(self) -> None:
        """Kills the benchmark tool of this run if it is still running, for example after a timeout."""
        path = shlex.quote(self.tool_file)
        self._shell.run(
            f"p=$(cat {path} 2>/dev/null) && grep -q -e {_GRAPH} /proc/$p/cmdline 2>/dev/null && "
            f"{{ pkill -9 -P $p; kill -9 $p; }}; rm -f {path}"
        )

    def close(self) -> None:
        """Ends the script and waits for it, so that the device is free when this returns."""
        if self._process is None:
            return
        self._send("end")
        self._close_stdin(self._process)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(QUICK_SECS)
        self._abandon()

    def _script(self) -> str:
        who = f"{_user()}@{platform.node()}, process {os.getpid()}"
        return _SCRIPT.format(
            name=_NAME,
            graph=_GRAPH,
            mark=_MARK,
            lock=shlex.quote(self._lock),
            token=self._token,
            owner=shlex.quote(f"{who}, since {datetime.now(UTC):%Y-%m-%d %H:%M} UTC"),
            release=FIXED_PERFORMANCE,
        )

    def _ask(self) -> str:
        self._send("ask")
        return self._answer()

    def _answer(self) -> str:
        """Returns the script's next line, or the client's output if the connection broke."""
        try:
            return self._answers.get(timeout=QUICK_SECS)
        except queue.Empty:
            return ""

    def _send(self, word: str) -> None:
        if self._process and self._process.stdin:
            with contextlib.suppress(OSError):  # the connection broke, which ends the script
                self._process.stdin.write(f"{word}\n".encode())
                self._process.stdin.flush()

    @staticmethod
    def _close_stdin(process: subprocess.Popen) -> None:
        if process.stdin:
            with contextlib.suppress(OSError):
                process.stdin.close()

    def _abandon(self) -> None:
        """Kills the client of the connection."""
        if self._process is None:
            return
        self._close_stdin(self._process)
        self._process.kill()
        self._process.wait()
        if self._process.stdout:
            self._process.stdout.close()
        self._process = None


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):  # a user without a name
        return "someone"


def _read_answers(process: subprocess.Popen, lines: "queue.Queue[str]") -> None:
    others = []
    with contextlib.suppress(OSError, ValueError):  # closed by another thread
        for line in process.stdout or ():
            text = line.decode("utf-8", "replace").strip()
            if text.startswith(_MARK):
                lines.put(text.removeprefix(_MARK))
            else:
                others.append(text)
    lines.put(one_line(" ".join(others)))
