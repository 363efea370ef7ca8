"""A small program that is run as users run it, each time in a separate process."""

import subprocess
import sys

import pytest

PROGRAM = '''\
"""Greets, to test what programs share.

    greet --name=World
"""
import logging, sys
from absl import flags
from fd_keras.program import Program, Stopped, UsageError, define_positive, flag_group

with flag_group("Who"):
    _NAME = flags.DEFINE_string("name", None, "Whom to greet.", required=True)
_STYLE = flags.DEFINE_enum("style", "short", ["short", "long"], "How to greet.")
with flag_group("How often"):
    _TIMES = flags.DEFINE_integer("times", None, "Number of greetings.", lower_bound=1)
    _PITCH = flags.DEFINE_float("pitch", 1.0, "Of the voice.", lower_bound=0)
    _SHARE = define_positive("share", None, "Of the people.", 1)
    _OTHERS = flags.DEFINE_list("others", [], "Whom else.")
    _LOUD = flags.DEFINE_bool("loud", False, "Whether to shout.")


def main(argv):
    if _NAME.value == "usage":
        raise UsageError("--name contradicts --style")
    if _NAME.value == "stopped":
        raise Stopped("saved", 15)
    if _NAME.value == "warned":
        logging.warning("%s is tired", _NAME.value)
    if _NAME.value == "traced":
        logging.warning("5 out of the last 5 calls triggered tf.function retracing. Tracing is expensive.")
    if _NAME.value == "missing":
        import not_there_at_all
    print("hello", _NAME.value, *argv)
    return 3 if _LOUD.value else None


PROGRAM = Program(main, positional=POSITIONAL, values=lambda: {"times": 1 if _STYLE.value == "short" else 10})
if __name__ == "__main__":
    PROGRAM.run()
'''


@pytest.fixture
def run(tmp_path):
    """A function that runs the program; `positional` describes its positional arguments."""

    def run(*arguments: str, positional: str = "") -> subprocess.CompletedProcess:
        (tmp_path / "greet.py").write_text(PROGRAM.replace("POSITIONAL", repr(positional)))
        command = [sys.executable, str(tmp_path / "greet.py"), *arguments]
        return subprocess.run(command, capture_output=True, text=True)

    return run


def test_flags_reach_main_and_its_status_is_returned(run):
    done = run("--name=World")
    assert (done.returncode, done.stdout, done.stderr) == (0, "hello World\n", "")
    assert run("--name=World", "--loud").returncode == 3


def test_positional_arguments_reach_main_if_it_accepts_them(run):
    assert run("a", "--name=World", "b", positional="WORD...").stdout == "hello World a b\n"


@pytest.mark.parametrize(
    ("arguments", "status", "line"),
    [
        (["--nam=x"], 2, "error: unknown flag --nam; did you mean --name? (see "),
        (["--xyzzy"], 2, "error: unknown flag --xyzzy (see "),
        ([], 2, "error: --name is required: Whom to greet. (see "),
        (["--name=x", "--times=0"], 2, "error: flag --times=0: "),
        (["--name=x", "--style=none"], 2, "error: flag --style=none: "),
        (["--name="], 2, "error: --name is empty; "),
        (["--name=x", "--others="], 2, "error: --others is empty; "),
        (["--name=x", "--others=a,,b"], 2, "error: --others is empty; "),
        (["--name=x", "--pitch=high"], 2, "error: flag --pitch=high: must be a number (see "),
        (["--name=x", "--times=two"], 2, "error: flag --times=two: must be a whole number (see "),
        (["--name=x", "--pitch=nan"], 2, "error: --pitch=nan: must be a finite number"),
        (["--name=x", "--pitch=inf"], 2, "error: --pitch=inf: must be a finite number"),
        (["--name=x", "--times=3000000000"], 2, "error: --times=3000000000: must be at most 2147483647"),
        (["--name=x", "--share=0"], 2, "error: flag --share=0.0: must be between 0 and 1"),
        (["--name=x", "--share=1"], 2, "error: flag --share=1.0: must be between 0 and 1"),
        (["--name=x", "stray"], 2, "error: unexpected argument 'stray'; this program takes only flags (see "),
        (["--name=usage"], 2, "error: --name contradicts --style (see "),
        (["--name=stopped"], 143, "saved"),
        (["--name=missing"], 1, "error: not_there_at_all is not installed: pip install"),
    ],
)
def test_errors_are_one_line(run, arguments, status, line):
    done = run(*arguments)
    assert (done.returncode, done.stdout) == (status, "")
    assert done.stderr.startswith(line)
    assert len(done.stderr.splitlines()) == 1


def test_a_warning_is_one_line_with_a_prefix(run):
    assert run("--name=warned").stderr == "warning: warned is tired\n"


def test_hints_of_tensorflow_about_tracing_are_not_printed(run):
    assert run("--name=traced").stderr == ""


def test_the_help_has_summary_usage_examples_and_the_flags_by_group(run):
    done = run("--help", positional="WORD...")
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0] == "Greets, to test what programs share."
    assert lines[2].startswith("usage: ")
    assert lines[2].endswith("greet.py [FLAGS] WORD...")
    assert "    greet --name=World" in lines
    assert [line for line in lines if line.endswith(":") and not line.startswith(" ")] == [
        "Who:",
        "Flags:",
        "How often:",
    ]
    assert "  --name                      Whom to greet. (required)" in lines
    assert "  --[no]loud=no               Whether to shout." in lines
    assert "  --share                     Of the people." in lines


@pytest.mark.parametrize(("style", "times"), [("short", 1), ("long", 10)])
def test_the_help_shows_defaults_that_depend_on_other_flags(run, style, times):
    for arguments in (["--help", f"--style={style}"], [f"--style={style}", "--help"]):
        assert f"  --times={times} " in run(*arguments).stdout
    assert "  --times=7 " in run("--help", f"--style={style}", "--times=7").stdout
