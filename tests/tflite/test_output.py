import json
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from fd_keras.io import TEMPORARY
from fd_keras.tflite.output import check_folder, write_pair, writing

ROOT = Path(__file__).parents[2]
KILLED = """
import os, signal, sys
from fd_keras.tflite import output
output.write_json = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
output.write_pair(sys.argv[1], b"new", {"sha256": "of new"})
"""


@pytest.fixture
def pair(tmp_path) -> Path:
    path = tmp_path / "a.tflite"
    write_pair(str(path), b"old", {"sha256": "of old"})
    return path


def test_pair_is_written(pair, tmp_path):
    assert pair.read_bytes() == b"old"
    assert json.loads(pair.with_suffix(".json").read_text()) == {"sha256": "of old"}
    assert len(list(tmp_path.iterdir())) == 2


def test_file_of_a_killed_process_has_no_json_of_an_older_file(pair, tmp_path):
    (tmp_path / f"{TEMPORARY}of a killed process").touch()
    done = subprocess.run([sys.executable, "-c", KILLED, str(pair)], cwd=ROOT)
    assert done.returncode == -signal.SIGKILL
    assert pair.read_bytes() == b"new"
    assert not pair.with_suffix(".json").exists()
    check_folder(str(tmp_path))
    assert list(tmp_path.iterdir()) == [pair]


def test_unfinished_file_of_a_running_process_is_kept(pair, tmp_path):
    unfinished = tmp_path / f"{TEMPORARY}of a process at work"
    with writing(str(pair), replaced=str(pair.with_suffix(".json"))):
        unfinished.touch()
        check_folder(str(tmp_path))
        assert unfinished.exists()
    check_folder(str(tmp_path))
    assert not unfinished.exists()


@pytest.mark.parametrize("room", [100, 5000])
def test_full_disk_names_the_folder_and_leaves_no_files(tmp_path, room):
    """The system rejects files longer than `room`: first the .tflite, then its .json."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, before[1]))
        with pytest.raises(OSError, match=r"out: cannot be written to \(.*\); free space there"):
            write_pair(str(tmp_path / "out" / "a.tflite"), bytes(1000), {"text": "x" * 10000})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert list((tmp_path / "out").iterdir()) == []


def test_impossible_folder_is_named_and_not_created(tmp_path):
    (tmp_path / "file").touch()
    check_folder(str(tmp_path / "new" / "below"))
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(OSError, match=f"{folder}: cannot be written to"):
            check_folder(str(folder))
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_read_only_folder_is_named(tmp_path):
    tmp_path.chmod(0o500)
    folder = str(tmp_path / "new")
    if os.geteuid():
        assert is_denied(folder)
        return
    child = os.fork()  # root can write everywhere, so this process switches to the user nobody
    if not child:
        os.setuid(NOBODY)
        os._exit(0 if is_denied(folder) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


NOBODY = 65534


def is_denied(folder: str) -> bool:
    try:
        check_folder(folder)
    except OSError as error:
        return folder in str(error) and "Permission denied" in str(error)
    return False
