"""Packages of LiteRT.js: sources, and errors if they are missing or wrong."""

import base64
import contextlib
import functools
import hashlib
import http.server
import io
import tarfile
import threading
from collections.abc import Sequence

import pytest

from fd_keras.errors import ProgramError
from fd_keras.web import runtime
from tests.web.conftest import write_packages


@pytest.fixture(autouse=True)
def alone(monkeypatch, tmp_path):
    """Hides this machine's cache, npm and npm settings."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    for name in ("npm_config_registry", "NPM_CONFIG_REGISTRY"):
        monkeypatch.delenv(name, raising=False)


def test_installed_packages_are_used(tmp_path):
    found = runtime.files(str(write_packages(tmp_path)))
    assert found.keys() == {name for package in runtime.PACKAGES for name in package.files.values()}
    assert found["core.js"] == b"dist/index.js"


def test_another_release_is_rejected(tmp_path):
    with pytest.raises(ProgramError, match=r"--runtime_dir=.*has no @litertjs/core 2\.\d+\.\d+; run `npm pack"):
        runtime.files(str(write_packages(tmp_path, "2.0.0")))


@pytest.mark.parametrize("prefix", ["litertjs-", ""])
def test_a_package_with_another_hash_is_rejected(tmp_path, prefix):
    path = tmp_path / "cache" / "fd_keras" / f"{prefix}core-{runtime.VERSION}.tgz"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"something else")
    for folder in (None, str(path.parent)):
        with pytest.raises(
            ProgramError, match=r"tgz: not @litertjs/core .* \(its sha512 differs from the pinned one\)"
        ):
            runtime.files(folder)


@pytest.fixture
def registry(tmp_path, monkeypatch):
    """A function that starts a local registry with the given content for each package."""

    @contextlib.contextmanager
    def serve(packages: Sequence[runtime.Package], contents: Sequence[bytes]):
        for package, content in zip(packages, contents, strict=True):
            path = tmp_path / "registry" / package.name / "-" / package.archive
            path.parent.mkdir(parents=True)
            path.write_bytes(content)
        handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path / "registry"))
        with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            monkeypatch.setenv("NPM_CONFIG_REGISTRY", f"http://127.0.0.1:{server.server_port}/")
            yield
            server.shutdown()

    monkeypatch.setattr(http.server.SimpleHTTPRequestHandler, "log_message", lambda *a: None)
    return serve


def test_a_download_is_verified_before_it_is_cached(registry, tmp_path):
    refused = pytest.raises(ProgramError, match="core-.*tgz from the npm registry: not @litertjs/core")
    with registry(runtime.PACKAGES[:1], [b"something else"]), refused:
        runtime.files(None)
    assert not (tmp_path / "cache" / "fd_keras").exists()
    with pytest.raises(ProgramError, match=r"cannot be downloaded .*run `npm pack @litertjs/core.*--runtime_dir"):
        runtime.files(None)  # the registry is no longer running


def packed(package: runtime.Package) -> bytes:
    """A .tgz with the files of a package; each file contains its own path."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as archive:
        for path in package.files:
            member = tarfile.TarInfo(f"package/{path}")
            member.size = len(path)
            archive.addfile(member, io.BytesIO(path.encode()))
    return content.getvalue()


def test_a_package_is_downloaded_once(registry, monkeypatch):
    contents = [packed(package) for package in runtime.PACKAGES]
    hashes = [base64.b64encode(hashlib.sha512(content).digest()).decode() for content in contents]
    pinned = [package._replace(integrity=hash) for package, hash in zip(runtime.PACKAGES, hashes, strict=True)]
    monkeypatch.setattr(runtime, "PACKAGES", pinned)
    with registry(pinned, contents):
        downloaded = runtime.files(None)
    assert downloaded["wasm/litert_wasm_internal.js"] == b"wasm/litert_wasm_internal.js"
    assert runtime.files(None) == runtime.files(str(runtime.cache_dir())) == downloaded


def test_the_registry_is_that_of_npms_configuration(tmp_path, monkeypatch):
    with pytest.raises(ProgramError, match=r"the URL of the npm registry is unknown.*--runtime_dir"):
        runtime.registry()
    (tmp_path / ".npmrc").write_text("fund=false\nregistry = http://127.0.0.1:1/npm/\n")
    assert runtime.registry() == "http://127.0.0.1:1/npm"
    monkeypatch.setenv("npm_config_registry", "http://127.0.0.1:2")
    assert runtime.registry() == "http://127.0.0.1:2"


def test_the_pinned_packages_have_the_expected_files(runtime_files):
    assert runtime_files["wasm/litert_wasm_internal.wasm"][:4] == b"\0asm"
    assert b"loadLiteRt" in runtime_files["core.js"]
