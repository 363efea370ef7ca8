"""Rules that hold for the whole tree: which folder imports which, and what the wheel holds."""

import ast
import pathlib
import shutil
import subprocess
import sys
import zipfile

import pytest

ROOT = pathlib.Path(__file__).parents[1]

# What each folder may import of the others: fd_keras <- training <- tflite, and android_bench stands alone.
MAY_IMPORT = {
    "fd_keras": {"fd_keras"},
    "training": {"fd_keras", "training"},
    "tflite": {"fd_keras", "training", "tflite"},
    "android_bench": {"android_bench"},
}
FILES = [path.relative_to(ROOT) for folder in MAY_IMPORT for path in sorted((ROOT / folder).rglob("*.py"))]
every_file = pytest.mark.parametrize("file", FILES, ids=str)


def imports(nodes, package: str) -> set[str]:
    """The modules that import statements among the nodes name, dotted; relative ones resolved."""
    found = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(f"{package}.{node.module or ''}" if node.level else node.module)
    return found


def tree_of(file: pathlib.Path) -> ast.Module:
    return ast.parse((ROOT / file).read_text("utf-8"))


def at_import_time(tree: ast.Module):
    """The nodes that run when a module is imported: all but the bodies of functions."""
    waiting = list(tree.body)
    while waiting:
        node = waiting.pop()
        yield node
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            waiting.extend(ast.iter_child_nodes(node))


def top(modules: set[str]) -> set[str]:
    return {module.split(".")[0] for module in modules}


def test_the_rules_are_about_files_that_exist():
    assert {"fd_keras", "android_bench", "tflite"} <= {file.parts[0] for file in FILES}


@every_file
def test_folders_import_in_one_direction(file):
    folder = file.parts[0]
    wrong = (top(imports(ast.walk(tree_of(file)), folder)) & MAY_IMPORT.keys()) - MAY_IMPORT[folder]
    assert not wrong, f"{file} imports {', '.join(sorted(wrong))}"


@every_file
def test_nothing_in_the_tree_imports_the_tests_or_the_programs(file):
    assert not top(imports(ast.walk(tree_of(file)), file.parts[0])) & {"tests", "demo", "benchmarks"}


@pytest.mark.parametrize("file", [file for file in FILES if file.parts[0] == "android_bench"], ids=str)
def test_the_bench_imports_the_standard_library_alone(file):
    others = top(imports(at_import_time(tree_of(file)), file.parts[0])) - sys.stdlib_module_names
    assert others <= {"android_bench"}


@pytest.mark.parametrize("file", [file for file in FILES if file.parts[0] == "fd_keras"], ids=str)
def test_the_wheel_knows_neither_tensorflow_nor_flags(file):
    assert not top(imports(ast.walk(tree_of(file)), "fd_keras")) & {"tensorflow", "tf_keras", "absl", "jax", "torch"}


@pytest.mark.parametrize(
    ("source", "folder", "wrong"),
    [
        ("import tflite.export", "fd_keras", {"tflite"}),
        ("def f():\n    from training import loop", "fd_keras", {"training"}),
        ("import fd_keras", "android_bench", {"fd_keras"}),
        ("from . import spec", "fd_keras", set()),
        ("import fd_keras.spec, training", "tflite", set()),
    ],
)
def test_the_rule_would_notice(source, folder, wrong):
    assert (top(imports(ast.walk(ast.parse(source)), folder)) & MAY_IMPORT.keys()) - MAY_IMPORT[folder] == wrong


def test_importing_the_bench_needs_no_other_package():
    modules = [".".join(file.with_suffix("").parts) for file in FILES if file.parts[0] == "android_bench"]
    modules = [module.removesuffix(".__init__") for module in modules if not module.endswith("__main__")]
    # -I -S: neither site-packages nor the environment; the tree itself is put on the path.
    script = f"import sys; sys.path.insert(0, {str(ROOT)!r}); import {', '.join(modules)}"
    done = subprocess.run([sys.executable, "-I", "-S", "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> zipfile.ZipFile:
    """The wheel, built from a copy of the tree so that nothing is left behind in it."""
    pytest.importorskip("build", reason="needs the wheel's builder: pip install build")
    copy, out = tmp_path_factory.mktemp("tree") / "copy", tmp_path_factory.mktemp("wheel")
    files = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    ).stdout
    for name in filter(None, files.split("\0")):
        if (ROOT / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, copy / name)
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(copy)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = out.glob("*.whl")
    return zipfile.ZipFile(path)


def test_the_wheel_holds_fd_keras_alone(wheel):
    names = wheel.namelist()
    folders = {name.split("/")[0] for name in names}
    assert {folder for folder in folders if not folder.endswith(".dist-info")} == {"fd_keras"}
    assert len(folders) == 2


def test_the_wheel_holds_all_of_fd_keras(wheel):
    expected = {str(path.relative_to(ROOT)) for path in (ROOT / "fd_keras").rglob("*.py")}
    expected.add("fd_keras/imagenet_classes.tsv")
    assert {name for name in wheel.namelist() if name.startswith("fd_keras/")} == expected


def test_the_wheel_is_named_and_versioned(wheel):
    version = {}
    exec((ROOT / "fd_keras" / "version.py").read_text(), version)
    (name,) = (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
    metadata = wheel.read(name).decode()
    assert "\nName: fd-keras\n" in metadata
    assert f"\nVersion: {version['__version__']}\n" in metadata
