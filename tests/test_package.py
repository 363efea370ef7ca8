"""Contents of the wheel, and that it works without a clone."""

import os
import pathlib
import shutil
import subprocess
import sys
import zipfile

import pytest

from fd_keras import cli
from fd_keras.version import __version__
from tests import needs

ROOT = pathlib.Path(__file__).parents[1]
FOLDERS = ("fd_keras", "training", "tflite", "android_bench", "web")


@pytest.fixture(scope="module")
def dist(tmp_path_factory) -> pathlib.Path:
    """A folder with the sdist and the wheel built from it, from a copy, so that no files are left in the tree."""
    needs.package("build")
    copy, out = tmp_path_factory.mktemp("tree") / "copy", tmp_path_factory.mktemp("dist")
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, names.split("\0")):
        if os.path.lexists(ROOT / name):
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, copy / name, follow_symlinks=False)
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(copy)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return out


@pytest.fixture(scope="module")
def wheel(dist) -> zipfile.ZipFile:
    (path,) = dist.glob("*.whl")
    return zipfile.ZipFile(path)


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> pathlib.Path:
    """A folder with the unpacked wheel, for the path."""
    folder = tmp_path_factory.mktemp("site")
    wheel.extractall(folder)
    return folder


def run(installed: pathlib.Path, *command: str) -> subprocess.CompletedProcess:
    """Runs Python outside the clone, with the unpacked wheel on the path."""
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    return subprocess.run(
        [sys.executable, *command], cwd=installed.parent, env=environment, capture_output=True, text=True
    )


def test_the_wheel_has_one_top_level_package(wheel):
    folders = {name.split("/")[0] for name in wheel.namelist()}
    assert {folder for folder in folders if not folder.endswith(".dist-info")} == {"fd_keras"}
    assert len(folders) == 2


def test_the_wheel_contains_all_modules_and_data_files(wheel):
    files = [path.relative_to(ROOT) for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")]
    expected = {str(file if file.parts[0] == "fd_keras" else "fd_keras" / file) for file in files}
    expected |= {"fd_keras/imagenet_classes.tsv", "fd_keras/py.typed"}
    expected |= {f"fd_keras/web/app/{path.name}" for path in (ROOT / "web" / "app").iterdir()}
    templates = (ROOT / "tflite" / "mcu" / "templates").rglob("*")
    expected |= {f"fd_keras/{path.relative_to(ROOT)}" for path in templates if path.is_file()}
    assert {name for name in wheel.namelist() if name.startswith("fd_keras/")} == expected


def test_the_wheel_has_name_version_license_and_extras(wheel):
    (name,) = (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
    metadata = wheel.read(name).decode()
    for line in ("Name: fd-keras", f"Version: {__version__}", "License-Expression: Apache-2.0"):
        assert f"\n{line}\n" in metadata
    for extra in {
        extra for command in cli.every_command().values() for extra in filter(None, command.extra.split(","))
    }:
        assert f"\nProvides-Extra: {extra}\n" in metadata


def test_the_package_is_imported_from_the_wheel(installed):
    done = run(installed, "-c", "import fd_keras.training; print(fd_keras.training.__file__)")
    assert done.stdout.strip() == str(installed / "fd_keras" / "training" / "__init__.py"), done.stderr


def test_the_installed_command_lists_the_programs(installed):
    done = run(installed, "-m", "fd_keras.cli")
    assert done.returncode == 0, done.stderr
    assert all(f"  {name} " in done.stdout for name in cli.COMMANDS)


def test_programs_run_by_their_installed_module_names(installed):
    """`python -m tflite.convert` in a clone is `python -m fd_keras.tflite.convert` when installed."""
    done = run(installed, "-m", "fd_keras.tflite.convert", "--help")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[2] == "usage: python -m fd_keras.tflite.convert [FLAGS]"
