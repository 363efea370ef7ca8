import os
import shutil
import signal

import keras
import numpy as np
import pytest

from fd_keras import io
from fd_keras.training import run_lifecycle


def test_a_folder_is_created_cleaned_and_locked(tmp_path):
    run, below = str(tmp_path / "run"), str(tmp_path / "run" / "checkpoints")
    os.makedirs(below)
    (tmp_path / "run" / "checkpoints" / f"{io.TEMPORARY}x").write_text("left by a killed process")
    with run_lifecycle.locked_folder(run, [below]):
        assert os.listdir(below) == []
        with pytest.raises(OSError, match=f"--run_dir={run}.*another process"), run_lifecycle.locked_folder(run):
            pytest.fail("two processes have the folder")
    with run_lifecycle.locked_folder(run):
        pass


def test_other_processes_do_not_write(tmp_path):
    run = str(tmp_path / "run")
    with run_lifecycle.locked_folder(run), run_lifecycle.locked_folder(run, leads=False):
        assert os.listdir(run) == [".lock"]


def test_an_unwritable_folder_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="--run_dir=.*cannot write"), run_lifecycle.locked_folder(f"{tmp_path}/file/run"):
        pytest.fail("a file is not a folder")


def test_checkpoints_must_fit_on_the_disk(tmp_path, monkeypatch):
    variables = [keras.Variable(np.zeros((1 << 18, 4), "float32"))]  # 4 MB
    free = [0]
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(0, 0, free[0]))
    with pytest.raises(OSError, match="0 MB free, but the run needs 84 MB"):
        run_lifecycle.check_disk(str(tmp_path), variables, keep=3)
    free[0] = 84 << 20
    run_lifecycle.check_disk(str(tmp_path), variables, keep=3)


def test_the_first_signal_is_handled_and_the_second_has_its_default_effect():
    told, before = [], signal.getsignal(signal.SIGINT)
    with run_lifecycle.Signals(told.append):
        os.kill(os.getpid(), signal.SIGINT)
        assert told == [signal.SIGINT]
        assert signal.getsignal(signal.SIGINT) is before
    with run_lifecycle.Signals(told.append):
        pass
    assert signal.getsignal(signal.SIGINT) is before
