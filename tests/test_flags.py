"""Every flag of every program rejects invalid values before anything is loaded or written."""

import json
import pathlib
import subprocess
import sys

import pytest

from fd_keras import cli

ROOT = pathlib.Path(__file__).parents[1]


@pytest.mark.parametrize("name", cli.every_command())
def test_every_flag_rejects_invalid_values(name, tmp_path):
    module = cli.every_command()[name].module
    done = subprocess.run(
        [sys.executable, str(ROOT / "tests" / "walk_flags.py"), module],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "PATH": ""},
    )
    if "No module named 'tensorflow_model_optimization'" in done.stderr:
        pytest.skip('needs tensorflow_model_optimization: pip install "fd-keras[qat]"')
    assert done.returncode == 0, done.stderr
    starts = [json.loads(line) for line in done.stdout.splitlines()]
    for flag, value, status, out, err in starts:
        line = err.splitlines()[-1] if err else ""
        assert (status, out) == (2, ""), f"--{flag}={value}: {status} {out} {err}"
        assert "error: " in line, f"--{flag}={value}: {err}"
        assert flag in line, f"--{flag}={value}: {err}"
    assert not list(tmp_path.iterdir())
