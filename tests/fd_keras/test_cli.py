import importlib.util
import os
import subprocess
import sys

import pytest

from fd_keras import cli
from fd_keras.version import __version__

every_command = pytest.mark.parametrize("name", list(cli.every_command()))


def run(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-m", "fd_keras.cli", *arguments], capture_output=True, text=True)


def end(capsys, *arguments: str) -> tuple[int, str, str]:
    """Status, standard output and standard error of a command that exits before a program starts."""
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    return ended.value.code or 0, *capsys.readouterr()


@pytest.mark.parametrize("arguments", [(), ("--help",), ("-h",), ("help",)])
def test_the_commands_are_listed_in_the_order_of_use(capsys, arguments):
    status, out, _ = end(capsys, *arguments)
    assert status == 0
    listed = [line.split()[0] for line in out.splitlines() if line.startswith("  ")]
    assert listed == list(cli.COMMANDS)


def test_the_commands_of_detectors_are_listed(capsys):
    _, out, _ = end(capsys, "detect")
    assert [line.split()[0] for line in out.splitlines() if line.startswith("  ")] == list(cli.DETECT)


def test_a_tilde_in_a_flag_is_the_home_folder(tmp_path):
    """Shells do not expand it in --flag=~/folder."""
    command = [sys.executable, "-m", "fd_keras.cli", "profile", "--model=fd_mobilenet", "--plot=~/costs.svg"]
    done = subprocess.run(command, env={**os.environ, "HOME": str(tmp_path)}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "costs.svg").exists()
    assert cli.in_home("--head=a~/b") == "--head=a~/b"
    assert cli.in_home("photo=~/b") == "photo=~/b"


def test_the_version_is_printed(capsys):
    assert end(capsys, "--version")[1] == f"fd-keras {__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["tran"], "fd-keras has no command 'tran'; did you mean train? (see fd-keras --help)"),
        (["xyzzy"], "fd-keras has no command 'xyzzy' (see fd-keras --help)"),
        (
            ["detect", "trian"],
            "fd-keras detect has no command 'trian'; did you mean train? (see fd-keras detect --help)",
        ),
    ],
)
def test_the_nearest_command_is_suggested(capsys, arguments, message):
    assert end(capsys, *arguments) == (2, "", f"error: {message}\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "--epohcs=3"], "unknown flag --epohcs; did you mean --epochs? (see fd-keras train --help)"),
        (["classify", "--jsn", "x"], "unknown flag --jsn; did you mean --json? (see fd-keras classify --help)"),
        (["bench", "--thread=1"], "unknown flag --thread; did you mean --threads? (see fd-keras bench --help)"),
    ],
)
def test_the_nearest_flag_is_suggested(arguments, message):
    done = run(*arguments)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"error: {message}\n")


@every_command
def test_the_module_of_each_command_exists(name):
    assert importlib.util.find_spec(cli.every_command()[name].module)


HELP = """
import sys
from fd_keras import cli
try:
    cli.main([*sys.argv[1].split(), "--help"])
finally:
    print(sorted({"tensorflow", "keras", "ai_edge_litert", "matplotlib"} & sys.modules.keys()), file=sys.stderr)
"""


@every_command
def test_the_help_of_each_command_does_not_load_tensorflow(name):
    command = cli.every_command()[name]
    done = subprocess.run([sys.executable, "-c", HELP, name], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "[]\n")
    assert f"usage: fd-keras {name}" in done.stdout
    assert command.module.startswith("fd_keras.")


def test_a_warning_of_a_program_with_argparse_is_one_line_with_a_prefix():
    code = "import logging; from fd_keras import cli; cli.run_module(lambda _: logging.warning('left out: 1'))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "warning: left out: 1\n")


def test_a_missing_package_is_named_with_the_install_command():
    error = ModuleNotFoundError("No module named 'cv2'", name="cv2")
    message = str(cli.missing_package(error, "fd_keras.training.train"))
    assert message == 'cv2 is not installed: pip install "fd-keras[train]"'
    assert 'pip install "fd-keras[all]"' in str(cli.missing_package(error, "fd_keras.somewhere.else"))
    keras_cv = ModuleNotFoundError("No module named 'keras_cv'", name="keras_cv")
    assert 'pip install "fd-keras[keras-cv]"' in str(cli.missing_package(keras_cv, "fd_keras.training.voc.train"))


def test_a_missing_module_of_this_project_raises_the_original_error():
    error = ModuleNotFoundError("No module named 'fd_keras.x'", name="fd_keras.x")
    with pytest.raises(ModuleNotFoundError, match=r"fd_keras\.x"):
        cli.missing_package(error, "fd_keras.training.train")
