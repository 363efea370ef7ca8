"""LiteRT.js, the runtime of the page: downloaded from the npm registry once, and checked against hashes given here."""

import base64
import hashlib
import http.client
import io
import os
import pathlib
import shutil
import ssl
import subprocess
import tarfile
import urllib.parse
import urllib.request
from collections.abc import Mapping
from typing import NamedTuple

from fd_keras.errors import ProgramError
from fd_keras.io import write_atomically

VERSION = "2.5.3"
NOTICE = f"""LiteRT.js {VERSION} (the npm packages @litertjs/core and @litertjs/wasm-utils), unchanged.
Copyright Google LLC. Licensed under the Apache License, Version 2.0: https://www.apache.org/licenses/LICENSE-2.0
"""
_LARGEST = 64 << 20  # bytes, of a package or of a file in it
_TIMEOUT = 60.0
_WAY_OUT = (
    "or download the packages elsewhere (`npm pack {0}`), unpack each into node_modules/NAME/ of a folder, and pass "
    "--runtime_dir=FOLDER"
)


class Package(NamedTuple):
    """A package of the npm registry.

    Attributes:
        name: Name with its scope.
        integrity: sha512 of its .tgz in base64, as the registry publishes it.
        files: Files of the page, by their path in the package.
    """

    name: str
    integrity: str
    files: Mapping[str, str]

    @property
    def archive(self) -> str:
        """File name of the .tgz."""
        return f"{self.name.rpartition('/')[2]}-{VERSION}.tgz"


_WASM = ("litert_wasm_internal", "litert_wasm_compat_internal")  # the second for browsers without relaxed SIMD
PACKAGES = (
    Package(
        "@litertjs/core",
        "PlGmbMOq9WitX7FO0jhbdJw9GthatsyuCQXjTt/wJZo0FLaw48q4tz8IwqgqCIkviYGr9OFDL1kCnN4nzWoyJQ==",
        {
            "dist/index.js": "core.js",
            **{f"wasm/{name}.{suffix}": f"wasm/{name}.{suffix}" for name in _WASM for suffix in ("js", "wasm")},
        },
    ),
    Package(
        "@litertjs/wasm-utils",
        "4fJiw6tBQnIs+0jH/OQ16nYOiSl8/+zZnn5h2ul8aTKHi05sVqZW580Tmk78pC2kT39A9OYBVdFawteZ/sI1kQ==",
        {"dist/index.js": "wasm-utils.js"},
    ),
)
FILES = tuple(name for package in PACKAGES for name in package.files.values())


def files(runtime_dir: str | None) -> dict[str, bytes]:
    """The files of the runtime, by their path below the page's folder `runtime/`.

    Args:
        runtime_dir: A folder with the packages: as npm installs them (in `node_modules/` or without it), or as
            `npm pack` saves them (.tgz); None to download them, or to take them from the cache.

    Raises:
        ProgramError: If they are not there, cannot be downloaded, or are not the pinned release.
    """
    found = {}
    for package in PACKAGES:
        content = (
            _of_folder(pathlib.Path(runtime_dir), package) if runtime_dir else _unpacked(_archive(package), package)
        )
        found |= {name: content[path] for path, name in package.files.items()}
    return found


def cache_dir() -> pathlib.Path:
    """Where the packages are kept between runs."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return pathlib.Path(base) / "fd_keras"


def registry() -> str:
    """The address of the npm registry, as npm is set up here.

    Raises:
        ProgramError: If nothing names one.
    """
    variables = {name.lower(): value for name, value in os.environ.items()}  # npm takes either case
    found = variables.get("npm_config_registry") or _of_npm() or _of_npmrc()
    if not urllib.parse.urlsplit(found).scheme.startswith("http"):
        raise ProgramError(
            "the address of the npm registry is not known: install npm, or set npm_config_registry, "
            + _WAY_OUT.format(" ".join(f"{package.name}@{VERSION}" for package in PACKAGES))
        )
    return found.rstrip("/")


def check(content: bytes, package: Package, where: str) -> None:
    """Raises ProgramError unless a .tgz is the pinned release of a package."""
    if hashlib.sha512(content).digest() != base64.b64decode(package.integrity):
        raise ProgramError(
            f"{where}: not {package.name} {VERSION} (its sha512 differs from the pinned one); delete it and download "
            "it again"
        )


def _of_npm() -> str:
    """The registry that npm uses; "" without npm."""
    program = shutil.which("npm")
    if not program:
        return ""
    done = subprocess.run(
        [program, "config", "get", "registry"], capture_output=True, text=True, stdin=subprocess.DEVNULL
    )
    return done.stdout.strip() if done.returncode == 0 else ""


def _of_npmrc() -> str:
    """The registry that the user's .npmrc names; "" without one."""
    try:
        lines = (pathlib.Path.home() / ".npmrc").read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return ""
    settings = {name.strip(): value.strip() for name, _, value in (line.partition("=") for line in lines)}
    return settings.get("registry", "")


def _archive(package: Package) -> bytes:
    """The .tgz of a package, from the cache or the registry."""
    cached = cache_dir() / package.archive
    if cached.is_file():
        content = cached.read_bytes()
        check(content, package, str(cached))
        return content
    content = _download(package)
    check(content, package, f"{package.archive} of the npm registry")
    cached.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(cached, content)
    return content


def _download(package: Package) -> bytes:
    url = f"{registry()}/{package.name}/-/{package.archive}"
    try:
        with urllib.request.urlopen(url, timeout=_TIMEOUT, context=_certificates()) as answer:
            return answer.read(_LARGEST)
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        raise ProgramError(
            f"{package.name} {VERSION} cannot be downloaded from the npm registry ({reason}); try again, "
            + _WAY_OUT.format(f"{package.name}@{VERSION}")
        ) from error


def _certificates() -> ssl.SSLContext:
    """The system's authorities; and those that Node trusts in addition, as behind a company's proxy."""
    context, extra = ssl.create_default_context(), os.environ.get("NODE_EXTRA_CA_CERTS")
    if extra and os.path.isfile(extra):
        context.load_verify_locations(extra)
    return context


def _unpacked(content: bytes, package: Package) -> dict[str, bytes]:
    """The files of a package that was checked, by their path in it."""
    with tarfile.open(fileobj=io.BytesIO(content), mode="r:gz") as archive:
        return {path: _member(archive, path) for path in package.files}


def _member(archive: tarfile.TarFile, path: str) -> bytes:
    file = archive.extractfile(f"package/{path}")
    assert file is not None  # the hash is that of a package that has it
    return file.read()


def _of_folder(folder: pathlib.Path, package: Package) -> dict[str, bytes]:
    packed = folder / f"{package.name[1:].replace('/', '-')}-{VERSION}.tgz"  # as `npm pack` calls it
    for path in (packed, folder / package.archive):
        if path.is_file():
            content = path.read_bytes()
            check(content, package, str(path))
            return _unpacked(content, package)
    return _installed(folder, package)


def _installed(folder: pathlib.Path, package: Package) -> dict[str, bytes]:
    """The files of a package as npm installs it; their hashes are not known, their version is."""
    root = next(
        (base / package.name for base in (folder / "node_modules", folder) if (base / package.name).is_dir()), None
    )
    try:
        if root is None or f'"version": "{VERSION}"' not in (root / "package.json").read_text("utf-8"):
            raise OSError("not there")
        return {path: (root / path).read_bytes() for path in package.files}
    except (OSError, UnicodeDecodeError) as error:
        raise ProgramError(
            f"--runtime_dir={folder}: has no {package.name} {VERSION}; run `npm install "
            f"{package.name}@{VERSION}` or `npm pack {package.name}@{VERSION}` in that folder"
        ) from error
