"""LiteRT.js's packages: found, checked, and explained where they are not."""

import functools
import http.server
import io
import pathlib
import tarfile
import threading

import pytest

from fd_keras.errors import ProgramError
from fd_keras.web import runtime


@pytest.fixture(autouse=True)
def alone(monkeypatch, tmp_path):
    """No cache, no settings of npm's and no npm of this machine's."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    for name in ("npm_config_registry", "NPM_CONFIG_REGISTRY"):
        monkeypatch.delenv(name, raising=False)


def installed(folder: pathlib.Path, version: str = runtime.VERSION) -> pathlib.Path:
    """A folder as `npm install` leaves it, with other content."""
    for package in runtime.PACKAGES:
        root = folder / "node_modules" / package.name
        for path in package.files:
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_text(path)
        (root / "package.json").write_text(f'{{"version": "{version}"}}')
    return folder


def test_installed_packages_are_taken(tmp_path):
    found = runtime.files(str(installed(tmp_path)))
    assert found.keys() == set(runtime.FILES)
    assert found["core.js"] == b"dist/index.js"


def test_another_release_is_refused(tmp_path):
    with pytest.raises(ProgramError, match=r"--runtime_dir=.*has no @litertjs/core 2\.\d+\.\d+; run `npm install"):
        runtime.files(str(installed(tmp_path, "2.0.0")))


def test_a_package_with_another_hash_is_refused(tmp_path):
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w:gz"):
        pass
    (tmp_path / f"litertjs-core-{runtime.VERSION}.tgz").write_bytes(archive.getvalue())
    with pytest.raises(ProgramError, match=r"not @litertjs/core .* \(its sha512 differs from the pinned one\)"):
        runtime.files(str(tmp_path))


def test_what_a_registry_sends_is_checked_before_it_is_kept(tmp_path, monkeypatch):
    package = runtime.PACKAGES[0]
    place = tmp_path / "registry" / package.name / "-"
    place.mkdir(parents=True)
    (place / package.archive).write_bytes(b"something else")
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path / "registry"))
    monkeypatch.setattr(http.server.SimpleHTTPRequestHandler, "log_message", lambda *a: None)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("NPM_CONFIG_REGISTRY", f"http://127.0.0.1:{server.server_port}/")
        with pytest.raises(ProgramError, match="core-.*tgz of the npm registry: not @litertjs/core"):
            runtime.files(None)
        server.shutdown()
    assert not (tmp_path / "cache" / "fd_keras").exists()
    with pytest.raises(ProgramError, match=r"cannot be downloaded .*pass --runtime_dir=FOLDER"):
        runtime.files(None)  # nobody listens now


def test_the_registry_is_the_one_that_npm_is_set_up_with(tmp_path, monkeypatch):
    with pytest.raises(ProgramError, match=r"the address of the npm registry is not known.*--runtime_dir=FOLDER"):
        runtime.registry()
    (tmp_path / ".npmrc").write_text("fund=false\nregistry = http://127.0.0.1:1/npm/\n")
    assert runtime.registry() == "http://127.0.0.1:1/npm"
    monkeypatch.setenv("npm_config_registry", "http://127.0.0.1:2")
    assert runtime.registry() == "http://127.0.0.1:2"


def test_the_pinned_packages_have_the_files(runtime_files):
    assert runtime_files["wasm/litert_wasm_internal.wasm"][:4] == b"\0asm"
    assert b"loadLiteRt" in runtime_files["core.js"]
