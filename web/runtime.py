"""LiteRT.js, the runtime of the camera page: downloaded once from npm and verified against a pinned sha512."""

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
_LARGEST = 64 << 20  # maximum bytes of a package, and of a file in it
_TIMEOUT = 60.0
_WAY_OUT = "or run `npm pack {0}` on another machine and pass the folder of its .tgz files as --runtime_dir"


class Package(NamedTuple):
    """A package of the npm registry.

    Attributes:
        name: Name, including the scope.
        integrity: Base64 sha512 of the .tgz, as published by the registry.
        files: File names on the page, by path in the package.
    """

    name: str
    integrity: str
    files: Mapping[str, str]

    @property
    def release(self) -> str:
        """Name and version in npm's format."""
        return f"{self.name}@{VERSION}"

    @property
    def archive(self) -> str:
        """File name of the .tgz in the registry."""
        return f"{self.name.rpartition('/')[2]}-{VERSION}.tgz"

    @property
    def packed(self) -> str:
        """File name of the .tgz that `npm pack` writes."""
        return f"{self.name[1:].replace('/', '-')}-{VERSION}.tgz"


_WASM = ("litert_wasm_internal", "litert_wasm_compat_internal")  # the second is for browsers without relaxed SIMD
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
RELEASES = " ".join(package.release for package in PACKAGES)


def files(runtime_dir: str | None) -> dict[str, bytes]:
    """The files of the runtime, by path in the page's folder `runtime/`.

    Args:
        runtime_dir: Folder in which `npm install` or `npm pack` put the packages; None to use the cache or download
            them.

    Raises:
        ProgramError: If a package is missing, cannot be downloaded, or is not the pinned release.
    """
    found = {}
    for package in PACKAGES:
        content = _of_folder(pathlib.Path(runtime_dir), package) if runtime_dir else _of_cache(package)
        found |= {name: content[path] for path, name in package.files.items()}
    return found


def cache_dir() -> pathlib.Path:
    """The folder of downloaded packages."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return pathlib.Path(base) / "fd_keras"


def registry() -> str:
    """The URL of the npm registry that this user has configured.

    Raises:
        ProgramError: If none is configured.
    """
    variables = {name.lower(): value for name, value in os.environ.items()}  # npm reads either case
    found = variables.get("npm_config_registry") or _of_npm() or _of_npmrc()
    if not urllib.parse.urlsplit(found).scheme.startswith("http"):
        raise ProgramError(
            "the URL of the npm registry is unknown; install npm, set npm_config_registry, " + _WAY_OUT.format(RELEASES)
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
    """The registry in npm's settings; "" if npm is not installed."""
    program = shutil.which("npm")
    if not program:
        return ""
    done = subprocess.run(
        [program, "config", "get", "registry"], capture_output=True, text=True, stdin=subprocess.DEVNULL
    )
    return done.stdout.strip() if done.returncode == 0 else ""


def _of_npmrc() -> str:
    """The registry in the user's .npmrc; "" if there is none."""
    try:
        lines = (pathlib.Path.home() / ".npmrc").read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return ""
    settings = {name.strip(): value.strip() for name, _, value in (line.partition("=") for line in lines)}
    return settings.get("registry", "")


def _of_cache(package: Package) -> dict[str, bytes]:
    """The files of a package, which is downloaded if it is not in the cache."""
    folder = cache_dir()
    content = _archive(folder, package)
    if content is None:
        content = _download(package)
        check(content, package, f"{package.archive} from the npm registry")
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / package.archive, content)
    return _unpacked(content, package)


def _archive(folder: pathlib.Path, package: Package) -> bytes | None:
    """The verified .tgz of a package in a folder; None if there is none."""
    for path in (folder / package.packed, folder / package.archive):
        if path.is_file():
            content = path.read_bytes()
            check(content, package, str(path))
            return content
    return None


def _download(package: Package) -> bytes:
    url = f"{registry()}/{package.name}/-/{package.archive}"
    try:
        with urllib.request.urlopen(url, timeout=_TIMEOUT, context=_certificates()) as answer:
            return answer.read(_LARGEST)
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        raise ProgramError(
            f"{package.name} {VERSION} cannot be downloaded from the npm registry ({reason}); try again, "
            + _WAY_OUT.format(RELEASES)
        ) from error


def _certificates() -> ssl.SSLContext:
    """The system's certificate authorities, and the additional ones of Node, such as a company proxy's."""
    context, extra = ssl.create_default_context(), os.environ.get("NODE_EXTRA_CA_CERTS")
    if extra and os.path.isfile(extra):
        context.load_verify_locations(extra)
    return context


def _unpacked(content: bytes, package: Package) -> dict[str, bytes]:
    """The files of a verified package, by path in the package."""
    with tarfile.open(fileobj=io.BytesIO(content), mode="r:gz") as archive:
        return {path: _member(archive, path) for path in package.files}


def _member(archive: tarfile.TarFile, path: str) -> bytes:
    file = archive.extractfile(f"package/{path}")
    assert file is not None  # a package with this hash has the file
    return file.read()


def _of_folder(folder: pathlib.Path, package: Package) -> dict[str, bytes]:
    content = _archive(folder, package)
    return _installed(folder, package) if content is None else _unpacked(content, package)


def _installed(folder: pathlib.Path, package: Package) -> dict[str, bytes]:
    """The files of an installed package; only the version is verified, since npm publishes no hash of single files."""
    root = next(
        (base / package.name for base in (folder / "node_modules", folder) if (base / package.name).is_dir()), None
    )
    try:
        if root is None or f'"version": "{VERSION}"' not in (root / "package.json").read_text("utf-8"):
            raise FileNotFoundError
        return {path: (root / path).read_bytes() for path in package.files}
    except (OSError, UnicodeDecodeError) as error:
        raise ProgramError(
            f"--runtime_dir={folder}: has no {package.name} {VERSION}; run `npm pack {RELEASES}` or `npm install "
            f"{RELEASES}` in that folder"
        ) from error
