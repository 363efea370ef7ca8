import os
import subprocess
import sys

import pytest

from fd_keras import startup

pytestmark = pytest.mark.tensorflow_only(reason="the logs are TensorFlow's")

NOTES = b"""\
WARNING: All log messages before absl::InitializeLog() is called are written to STDERR
I0000 00:00:1795665490.501575   29901 port.cc:153] oneDNN custom operations are on. You may see slightly different
I0000 00:00:1795665490.571120   29901 cpu_feature_guard.cc:227] This TensorFlow binary is optimized to use available CPU
To enable the following instructions: AVX2 AVX512F, in other operations, rebuild TensorFlow with the appropriate flags.
E0000 00:00:1795665500.782819   29910 cuda_platform.cc:52] failed call to cuInit: INTERNAL: CUDA error: Failed call
"""
OTHERS = b"""\
E0000 00:00:1795665500.782819   29910 gpu_process_state.cc:201] out of memory
Illegal instruction
/site-packages/x.py:1: UserWarning: I0000 is not a note
"""


def test_only_startup_notes_are_hidden(capfd):
    with startup.without_notes():
        os.write(2, NOTES + OTHERS + NOTES)
    os.write(2, b"later\n")
    assert capfd.readouterr().err.encode() == OTHERS + b"later\n"


def test_output_before_an_error_is_shown(capfd):
    def fail():
        os.write(2, b"first\n")
        raise ValueError("oops")

    with pytest.raises(ValueError, match="oops"), startup.without_notes():
        fail()
    assert capfd.readouterr().err == "first\n"


def run(script: str, **environment: str) -> str:
    """The standard error output of a script."""
    clean = {name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"}
    done = subprocess.run([sys.executable, "-c", script], env={**clean, **environment}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stderr


IMPORT = "from fd_keras import startup; startup.hide_tensorflow_notes(); import tensorflow as tf; tf.constant(1.0) + 1"


def test_tensorflow_starts_without_output():
    assert run(f"{IMPORT}; import sys; print('mine', file=sys.stderr)") == "mine\n"


def test_notes_are_shown_if_tf_cpp_min_log_level_is_set():
    assert "InitializeLog" in run(IMPORT, TF_CPP_MIN_LOG_LEVEL="0")
