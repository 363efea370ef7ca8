"""One run at a time on a device, and a device that is left as it was however the run ends.

A script on the device holds a lock while its standard input, which is this process, is open. At its end, whether this
process closed it, was killed, or the connection broke, the script ends the benchmark tool of this run, releases the
clocks and removes the lock. So no ending needs code of its own here, and no tool of another run is touched.
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
_NAME = "android_bench_guard"  # is in the script's command line, by which others see that it is alive
_GRAPH = "'--grap[h]='"  # is in the tool's command line, and by its brackets not in that of the script
_MARK = "android_bench guard: "
# The lock is a link, since making one is atomic and it can hold text: process, token and owner. A script of our own
# that still runs, of a connection that broke, must have ended before the clocks are held again, as it releases them.
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
    if ! seen=$(readlink "$lock"); then  # it went away meanwhile, or no lock can be made
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
    """Holds a device for one run.

    Args:
        shell: The device. This machine is not locked, but its tool is ended too.

    Attributes:
        tool_file: File on the device for the process of the benchmark tool; see `command`.
    """

    def __init__(self, shell: Shell) -> None:
        self._shell, self._token = shell, uuid.uuid4().hex[:12]
        self._lock = f"{shell.folder}.lock" if shell.folder else f"{tempfile.gettempdir()}/{_NAME}.{self._token}"
        self._process: subprocess.Popen | None = None
        self._answers: queue.Queue[str] = queue.Queue()
        self.tool_file = f"{self._lock}.{self._token}"

    def acquire(self) -> None:
        """Locks the device, or locks it again after the connection broke.

        Raises:
            ConnectionLostError: If the connection broke.
            BenchError: If another run holds the device, or the lock cannot be written there.
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
            raise BenchError(f"{self._shell.serial}: another run is measuring on it, {answer}: wait for it or end it")
        if answer.startswith("cannot"):
            raise BenchError(f"{self._shell.serial}: {answer}: free some space there, or check who owns the folder")
        raise ConnectionLostError(f"{self._shell.serial}: the connection broke: {answer or 'no answer'}")

    def hold_clocks(self) -> None:
        """Has the clocks released at the end, however it comes; call it before they are held."""
        self._send("hold")

    def free_clocks(self) -> None:
        """Takes `hold_clocks` back, after they were released."""
        self._send("free")

    def command(self, tool: str) -> str:
        """Returns a command that runs the benchmark tool, and notes its process so that it can be ended."""
        return f"sh -c {shlex.quote(f'echo $$ > {shlex.quote(self.tool_file)}; exec {tool}')}"

    def end_tool(self) -> None:
        """Ends the benchmark tool of this run if it still runs, as after a timeout."""
        path = shlex.quote(self.tool_file)
        self._shell.run(
            f"p=$(cat {path} 2>/dev/null) && grep -q -e {_GRAPH} /proc/$p/cmdline 2>/dev/null && "
            f"{{ pkill -9 -P $p; kill -9 $p; }}; rm -f {path}"
        )

    def close(self) -> None:
        """Lets the script end, and waits until it has, so that the device is free when this returns."""
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
        """Returns what the script says next, or what the client of a connection that broke says."""
        try:
            return self._answers.get(timeout=QUICK_SECS)
        except queue.Empty:
            return ""

    def _send(self, word: str) -> None:
        if self._process and self._process.stdin:
            with contextlib.suppress(OSError):  # the connection broke, which ended the script
                self._process.stdin.write(f"{word}\n".encode())
                self._process.stdin.flush()

    @staticmethod
    def _close_stdin(process: subprocess.Popen) -> None:
        if process.stdin:
            with contextlib.suppress(OSError):
                process.stdin.close()

    def _abandon(self) -> None:
        """Ends the client of the connection."""
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
    with contextlib.suppress(OSError, ValueError):  # closed meanwhile
        for line in process.stdout or ():
            text = line.decode("utf-8", "replace").strip()
            if text.startswith(_MARK):
                lines.put(text.removeprefix(_MARK))
            else:
                others.append(text)
    lines.put(one_line(" ".join(others)))
