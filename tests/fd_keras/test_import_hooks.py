import contextlib
import importlib
import sys

import pytest

from fd_keras.import_hooks import around_import


@pytest.fixture
def package(tmp_path, monkeypatch) -> str:
    """Name of a package that is not imported yet."""
    (tmp_path / "rarely_imported").mkdir()
    (tmp_path / "rarely_imported" / "__init__.py").write_text("import log\nlog.lines.append('loaded')\n")
    (tmp_path / "log.py").write_text("lines = []\n")
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("rarely_imported", "log"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    importlib.invalidate_caches()
    return "rarely_imported"


def test_the_context_surrounds_the_first_import(package):
    log = importlib.import_module("log")

    @contextlib.contextmanager
    def around(module):
        log.lines.append(f"before {module.__name__}")
        yield
        log.lines.append("after")

    finders = list(sys.meta_path)
    around_import(package, around)
    assert log.lines == []
    module = importlib.import_module(package)
    importlib.import_module(package)
    assert log.lines == ["before rarely_imported", "loaded", "after"]
    assert sys.meta_path == finders
    assert module.__spec__.loader.get_source(package).startswith("import log")


def test_a_missing_package_raises_the_usual_error():
    around_import("not_there_at_all", lambda module: contextlib.nullcontext())
    with pytest.raises(ModuleNotFoundError, match="not_there_at_all"):
        importlib.import_module("not_there_at_all")
