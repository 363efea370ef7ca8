"""Rules for the whole tree: imports, class names, and a test file per module."""

import ast
import collections
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]

# Folders that each folder may import: fd_keras <- training <- tflite <- web. android_bench imports no others; web uses
# it to store measurements.
MAY_IMPORT = {
    "fd_keras": {"fd_keras"},
    "training": {"fd_keras", "training"},
    "tflite": {"fd_keras", "training", "tflite"},
    "android_bench": {"android_bench"},
    "web": {"fd_keras", "training", "tflite", "android_bench", "web"},
}
HEAVY = {
    "ai_edge_litert", "cv2", "flatbuffers", "jax", "keras", "keras_cv", "keras_hub", "matplotlib", "tensorflow",
    "tf_keras",
}  # fmt: skip


def python_files(folder: str) -> list[pathlib.Path]:
    """The Python files of a top-level folder, without those behind symbolic links."""
    return sorted(path.relative_to(ROOT) for path in (ROOT / folder).rglob("*.py"))


def installed_name(file: pathlib.Path) -> str:
    """The dotted name under which a file is imported."""
    parts = file.with_suffix("").parts
    return ".".join(parts if parts[0] == "fd_keras" else ("fd_keras", *parts)).removesuffix(".__init__")


FILES = [file for folder in MAY_IMPORT for file in python_files(folder)]
MODULES = {installed_name(file): file for file in FILES}
every_file = pytest.mark.parametrize("file", FILES, ids=str)


def tree_of(file: pathlib.Path) -> ast.Module:
    return ast.parse((ROOT / file).read_text("utf-8"))


def at_import_time(tree: ast.Module):
    """The nodes that run at import: all except bodies of functions and of `if TYPE_CHECKING`."""
    waiting: list[ast.AST] = list(tree.body)
    while waiting:
        node = waiting.pop()
        yield node
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            continue
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            waiting.extend(ast.iter_child_nodes(node))


def imports(nodes, file: pathlib.Path) -> set[str]:
    """Dotted names of the modules that the nodes import; relative imports are resolved."""
    found = set()
    package = installed_name(file).split(".")
    package = package if file.name == "__init__.py" else package[:-1]
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = [*package[: len(package) - node.level + 1], *filter(None, [node.module])] if node.level else []
            base = ".".join(base) if node.level else node.module or ""
            found |= {f"{base}.{alias.name}" if f"{base}.{alias.name}" in MODULES else base for alias in node.names}
    return found


def folder_of(module: str) -> str:
    """The top-level folder of a dotted module name."""
    parts = module.split(".")
    return parts[1] if parts[0] == "fd_keras" and parts[1:2] and parts[1] in MAY_IMPORT else parts[0]


def test_all_folders_have_files():
    assert {file.parts[0] for file in FILES} == MAY_IMPORT.keys()
    assert {"fd_keras.spec", "fd_keras.training.voc.metric", "fd_keras.tflite.int8.fold"} <= MODULES.keys()


# --- imports -----------------------------------------------------------------------------------------------


@every_file
def test_folders_import_in_one_direction(file):
    wrong = {
        module
        for module in imports(ast.walk(tree_of(file)), file)
        if folder_of(module) in MAY_IMPORT and folder_of(module) not in MAY_IMPORT[file.parts[0]]
    }
    assert not wrong


@every_file
def test_modules_are_imported_by_their_installed_names(file):
    names = {module.split(".")[0] for module in imports(ast.walk(tree_of(file)), file)}
    assert not names & {"training", "tflite", "android_bench", "tests", "demo", "benchmarks"}


@pytest.mark.parametrize("file", python_files("android_bench"), ids=str)
def test_android_bench_imports_only_the_standard_library(file):
    others = imports(at_import_time(tree_of(file)), file)
    assert {folder_of(module) for module in others} <= sys.stdlib_module_names | {"android_bench"}


@pytest.mark.parametrize("file", python_files("fd_keras"), ids=str)
def test_networks_import_no_backend(file):
    backends = {"tensorflow", "tf_keras", "jax", "torch"}
    if file.name == "io.py":
        backends -= {"tensorflow"}  # for paths such as gs://bucket/name
    assert not {module.split(".")[0] for module in imports(ast.walk(tree_of(file)), file)} & backends


def import_graph() -> dict[str, set[str]]:
    """The modules that each module imports, at import time or later."""
    return {name: imports(ast.walk(tree_of(file)), file) & MODULES.keys() for name, file in MODULES.items()}


def import_cycle(graph: dict[str, set[str]]) -> list[str]:
    """A cycle of modules that import each other, or an empty list."""
    done: set[str] = set()

    def visit(name: str, path: list[str]) -> list[str]:
        if name in path:
            return path[path.index(name) :]
        if name in done:
            return []
        for other in sorted(graph[name]):
            if cycle := visit(other, [*path, name]):
                return cycle
        done.add(name)
        return []

    return next(filter(None, (visit(name, []) for name in sorted(graph))), [])


def test_there_are_no_import_cycles():
    assert import_cycle(import_graph()) == []


def test_an_import_cycle_is_found():
    assert import_cycle({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": set()}) == ["b", "c"]
    assert import_cycle({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []


@pytest.mark.parametrize(
    ("source", "file", "found"),
    [
        ("import fd_keras.tflite.export", "fd_keras/x.py", "fd_keras.tflite.export"),
        ("def f():\n    from fd_keras.training import crops", "fd_keras/x.py", "fd_keras.training.crops"),
        ("from fd_keras.spec import lower", "training/x.py", "fd_keras.spec"),
        ("from . import plan", "android_bench/x.py", "fd_keras.android_bench.plan"),
        ("from .plan import Plan", "android_bench/x.py", "fd_keras.android_bench.plan"),
        ("from .. import spec", "fd_keras/sub/x.py", "fd_keras.spec"),
    ],
)
def test_imports_are_resolved(source, file, found):
    assert imports(ast.walk(ast.parse(source)), pathlib.Path(file)) == {found}


def loaded_by(*modules: str) -> set[str]:
    """Top-level packages that are loaded by importing our modules in a new process."""
    script = f"import sys, {', '.join(modules)}; print(*{{name.split('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def test_android_bench_loads_without_other_packages():
    modules = [installed_name(file) for file in python_files("android_bench") if file.name != "__main__.py"]
    # -I -S: without site-packages and environment variables; only the tree is on the path.
    for names in (modules, [name.removeprefix("fd_keras.") for name in modules]):
        script = f"import sys; sys.path.insert(0, {str(ROOT)!r}); import {', '.join(names)}"
        done = subprocess.run([sys.executable, "-I", "-S", "-c", script], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


def test_importing_the_package_and_its_command_loads_no_large_packages():
    assert not loaded_by("fd_keras", "fd_keras.cli", "fd_keras.android_bench.run") & {*HEAVY, "numpy", "absl"}


# --- names and tests ---------------------------------------------------------------------------------------


def public_classes() -> dict[str, list[str]]:
    """The modules that define each public class, by class name."""
    found = collections.defaultdict(list)
    for module, file in MODULES.items():
        for node in tree_of(file).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                found[node.name].append(module)
    return found


def test_no_two_public_classes_have_the_same_name():
    assert {name: modules for name, modules in public_classes().items() if len(modules) > 1} == {}


def has_logic(file: pathlib.Path) -> bool:
    """Whether a module defines a function of more than three lines."""
    functions = [node for node in ast.walk(tree_of(file)) if isinstance(node, ast.FunctionDef)]
    return any(len(ast.unparse(ast.Module(node.body, [])).splitlines()) > 3 for node in functions)


@pytest.mark.parametrize("file", [file for file in FILES if has_logic(file) and file.name != "__init__.py"], ids=str)
def test_each_module_with_logic_has_a_test_file(file):
    name = "main" if file.name == "__main__.py" else file.stem
    assert (ROOT / "tests" / file.parent / f"test_{name}.py").is_file()
