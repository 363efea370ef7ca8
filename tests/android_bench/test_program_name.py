import sys

import pytest

from fd_keras.android_bench import report, run
from fd_keras.android_bench.program_name import program_name


@pytest.mark.parametrize("called", ["fd-keras bench", "/home/me/my clone/android_bench/run.py", "pytest"])
def test_the_program_is_named_as_the_user_typed_it(monkeypatch, called):
    monkeypatch.setattr(sys, "argv", [called])
    own = "python -m fd_keras.android_bench.run"
    assert program_name("run") == (called if called == "fd-keras bench" else own)


@pytest.mark.parametrize(("program", "called"), [(run, "fd-keras bench"), (report, "fd-keras report")])
def test_the_help_shows_the_typed_name(monkeypatch, program, called):
    monkeypatch.setattr(sys, "argv", [called])
    assert program.parser().format_usage().startswith(f"usage: {called} ")
