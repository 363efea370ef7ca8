import os
import signal
import struct
import subprocess
import sys
import tarfile
import zipfile

import pytest

from fd_keras.errors import ProgramError, Stopped, UsageError, run_and_exit
from tests import needs


def status_of(work) -> int:
    with pytest.raises(SystemExit) as ended:
        run_and_exit(work, "fd-keras train")
    return ended.value.code


def raising(error):
    def work():
        raise error

    return work


@pytest.mark.parametrize("status", [None, 0, 1, 3])
def test_the_exit_status_is_the_returned_value(status):
    assert status_of(lambda: status) == status


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (ValueError("a.txt: not a number"), 1, "error: a.txt: not a number"),
        (OSError("disk full"), 1, "error: disk full"),
        (ImportError("needs x"), 1, "error: needs x"),
        (ProgramError("loss became NaN"), 1, "error: loss became NaN"),
        (zipfile.BadZipFile("bad magic"), 1, "error: a file is damaged or truncated (bad magic)"),
        (tarfile.ReadError("unexpected end"), 1, "error: a file is damaged or truncated (unexpected end)"),
        (struct.error("too short"), 1, "error: a file is damaged or truncated (too short)"),
        (UsageError("--a contradicts --b"), 2, "error: --a contradicts --b (see fd-keras train --help)"),
        (Stopped("saved step 3", signal.SIGTERM), 143, "saved step 3"),
        (KeyboardInterrupt(), 130, "stopped"),
    ],
)
def test_an_error_is_one_line(capsys, error, status, line):
    assert status_of(raising(error)) == status
    assert capsys.readouterr() == ("", f"{line}\n")


def test_an_error_of_a_tensorflow_op_is_one_line(capsys):
    tf = needs.package("tensorflow")
    assert status_of(lambda: tf.io.read_file("no/such/file")) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert "no/such/file" in line


def test_a_bug_keeps_its_traceback():
    with pytest.raises(TypeError, match="ours"):
        run_and_exit(raising(TypeError("ours")), "fd-keras train")


INTERRUPTED_FINALIZER = """
import signal, sys
from fd_keras.errors import run_and_exit

class Finalizer:
    def __del__(self):
        signal.raise_signal(signal.SIGINT)

def work():
    Finalizer()
    while True:
        pass

run_and_exit(work, "p")
"""


def test_an_interrupt_in_a_finalizer_stops_the_program():
    """Python ignores exceptions in finalizers."""
    done = subprocess.run([sys.executable, "-c", INTERRUPTED_FINALIZER], capture_output=True, text=True, timeout=600)
    assert (done.returncode, done.stdout, done.stderr) == (128 + signal.SIGINT, "", "stopped\n")


def test_other_exceptions_in_finalizers_are_still_printed():
    script = INTERRUPTED_FINALIZER.replace("signal.raise_signal(signal.SIGINT)", "1 / 0").replace("while True", "if 0")
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0
    assert "ZeroDivisionError" in done.stderr


def test_a_closed_pipe_is_not_an_error():
    script = "from fd_keras.errors import run_and_exit; run_and_exit(lambda: print('x\\n' * 200_000), 'p')"
    with subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=os.getcwd()
    ) as program:
        assert program.stdout is not None
        program.stdout.readline()
        program.stdout.close()
        assert program.wait() == 128 + signal.SIGPIPE
        assert program.stderr is not None
        assert program.stderr.read() == b""
