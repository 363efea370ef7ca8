"""Downloads the official builds of the TFLite benchmark tool.

They are published as "latest" only, so that a build cannot be downloaded again later: its hash is stored, and a change
is reported.
"""

import hashlib
import http.client
import json
import urllib.request
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from .atomic import write_atomically
from .errors import BenchError
from .messages import log

_CLASSIC = "https://storage.googleapis.com/tensorflow-nightly-public/prod/tensorflow/release/lite/tools/nightly/latest"
_LITERT = "https://storage.googleapis.com/litert/binaries/latest"
# URLs by generation, then by system and ABI.
URLS = {
    "litert": {
        ("android", "arm64-v8a"): f"{_LITERT}/android_arm64/benchmark_model",
        ("linux", "arm64-v8a"): f"{_LITERT}/linux_arm64/benchmark_model",
        ("linux", "x86_64"): f"{_LITERT}/linux_x86_64/benchmark_model",
    },
    "classic": {
        ("android", "arm64-v8a"): f"{_CLASSIC}/android_aarch64_benchmark_model",
        ("android", "armeabi-v7a"): f"{_CLASSIC}/android_arm_benchmark_model",
        ("linux", "arm64-v8a"): f"{_CLASSIC}/linux_aarch64_benchmark_model",
        ("linux", "armeabi-v7a"): f"{_CLASSIC}/linux_arm_benchmark_model",
        ("linux", "x86_64"): f"{_CLASSIC}/linux_x86-64_benchmark_model",
    },
}
_TIMEOUT = 60.0


def fetch(generation: str, system: str, abis: Sequence[str], folder: Path, refresh: bool = False) -> Path:
    """Downloads the benchmark tool, unless it was downloaded before.

    Args:
        generation: A key of `URLS`.
        system: `android` or `linux`.
        abis: ABIs that the device supports, the best first.
        folder: Folder for the tool and a .json file with its URL, hash and date.
        refresh: Whether to download it again.

    Returns:
        The path of the tool.

    Raises:
        BenchError: If there is no build for the device, or it cannot be downloaded.
    """
    abi, url = _choose(generation, system, abis)
    path = folder / f"benchmark_model_{generation}_{system}_{abi}"
    record = path.with_name(f"{path.name}.json")
    last = _read(record)
    if path.exists() and not refresh:
        if last and _sha256(path.read_bytes()) == last["sha256"]:
            return path
        log("warning", f"{path} does not match {record.name}; downloading it again")
    content, version = _download(url)
    digest = _sha256(content)
    if last and last["sha256"] != digest:
        before = f"{last['sha256'][:12]} of {last['date']}"
        log("warning", f"{url} has changed: {digest[:12]}, was {before}; do not compare times across builds")
    facts = {"url": url, "sha256": digest, "version": version, "date": datetime.now(UTC).isoformat(timespec="seconds")}
    _write(path, content, executable=True)
    _write(record, (json.dumps(facts, indent=2) + "\n").encode())
    return path


def _choose(generation: str, system: str, abis: Sequence[str]) -> tuple[str, str]:
    for abi in abis:
        if url := URLS[generation].get((system, abi)):
            return abi, url
    others = [name for name, urls in URLS.items() if any((system, abi) in urls for abi in abis)]
    way_out = f"use --fetch_binary={others[0]}" if others else "build the tool and pass it with --benchmark_binary"
    raise BenchError(f"no official {generation} build for {system} on {', '.join(abis) or '?'}; {way_out}")


def _download(url: str) -> tuple[bytes, str | None]:
    """Returns the file and its version, which is the server's Last-Modified date."""
    way_out = "download it on another machine and use --benchmark_binary=PATH"
    try:
        with urllib.request.urlopen(url, timeout=_TIMEOUT) as answer:
            content, expected = answer.read(), answer.headers.get("Content-Length")
            version = answer.headers.get("Last-Modified")
    except (OSError, http.client.HTTPException) as error:
        raise BenchError(f"{url}: cannot be downloaded ({getattr(error, 'reason', error)}); {way_out}") from error
    if content[:4] != b"\x7fELF" or (expected and str(len(content)) != expected.strip()):
        raise BenchError(
            f"{url}: download is incomplete or not an ELF binary ({len(content)} bytes); try again, or {way_out}"
        )
    return content, version


def _read(record: Path) -> dict | None:
    try:
        facts = json.loads(record.read_bytes())
        return facts if all(isinstance(facts[key], str) for key in ("sha256", "date")) else None
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def _write(path: Path, content: bytes, executable: bool = False) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, content, executable)
    except OSError as error:
        raise BenchError(f"{path}: cannot be written: {error.strerror}") from error


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
