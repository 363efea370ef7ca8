"""Files on a device: copies and verifies the benchmark tool and models, and checks an executable's architecture."""

import hashlib
import posixpath
import re
import shlex
from pathlib import Path
from typing import Any, Literal

from .errors import BenchError
from .shell import Shell, one_line

_ELF_MACHINES = {183: "arm64-v8a", 40: "armeabi-v7a", 62: "x86_64", 3: "x86", 243: "riscv64"}
_HASH_SECS = 120.0
_NO_FILE = 3  # exit status if the file does not exist


class Libraries:
    """A folder of shared libraries that the benchmark tool loads: accelerators and their dependencies.

    Args:
        folder: The folder.

    Attributes:
        files: Hash of each file in the folder, by path.
        digest: Hash of all files together.

    Raises:
        BenchError: If the folder contains no shared library.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.files = {path: sha256(path) for path in sorted(folder.glob("*")) if path.is_file()}
        if not any(path.suffix == ".so" for path in self.files):
            raise BenchError(f"--libraries={folder}: no .so file; give the folder of the accelerator's libraries")
        content = "".join(f"{path.name} {digest}\n" for path, digest in self.files.items())
        self.digest = hashlib.sha256(content.encode()).hexdigest()

    def has(self, name: str) -> bool:
        """Returns whether a library's name starts with `name`."""
        return any(path.name.startswith(name) and path.suffix == ".so" for path in self.files)


def elf_abi(path: Path) -> str | None:
    """Returns the Android ABI that an executable is built for; None for a script.

    Raises:
        BenchError: If the file is neither an executable nor a script.
    """
    try:
        with path.open("rb") as file:
            head = file.read(20)
    except OSError as error:
        raise BenchError(f"--benchmark_binary={path}: cannot be read: {error.strerror}") from error
    if head[:2] == b"#!":
        return None
    abi = _ELF_MACHINES.get(int.from_bytes(head[18:20], _byte_order(head)))
    if len(head) < 20 or head[:4] != b"\x7fELF" or abi is None:
        raise BenchError(f"--benchmark_binary={path}: not a Linux or Android executable (no known ELF header)")
    return abi


def _byte_order(head: bytes) -> Literal["little", "big"]:
    return "big" if head[5:6] == b"\2" else "little"


def check_abi(path: Path, facts: dict[str, Any]) -> None:
    """Checks that a device can run an executable.

    Args:
        path: The executable.
        facts: See `device_info.read_facts`.

    Raises:
        BenchError: If it is built for another architecture.
    """
    abi = elf_abi(path)
    if abi is not None and facts["abis"] and abi not in facts["abis"]:
        raise BenchError(
            f"--benchmark_binary={path} is built for {abi}, but {facts['name']} runs {', '.join(facts['abis'])}: "
            "use --fetch_binary to download the right one"
        )


def install(shell: Shell, local: Path, executable: bool = False) -> str:
    """Copies a file to a device unless it is already there, and verifies the copy.

    The remote name includes the file's hash, so that files of the same name are never mixed up.

    Returns:
        The path on the device.

    Raises:
        ConnectionLostError: If the connection broke.
        BenchError: If the file could not be written, or the copy differs.
    """
    if shell.folder is None:
        return str(local.resolve())
    digest = sha256(local)
    remote = f"{shell.folder}/{digest[:12]}_{re.sub(r'[^A-Za-z0-9._-]', '_', local.name)}"
    if _remote_sha256(shell, remote) != digest:
        _copy(shell, local, remote, digest)
    if executable:
        _make_executable(shell, remote)
    return remote


def install_libraries(shell: Shell, libraries: Libraries) -> str:
    """Copies shared libraries to a device under their own names, and verifies the copies.

    Returns:
        The folder on the device.

    Raises:
        ConnectionLostError, BenchError: See `install`.
    """
    if shell.folder is None:
        return str(libraries.folder.resolve())
    remote = f"{shell.folder}/libraries_{libraries.digest[:12]}"
    for path, digest in libraries.files.items():
        if _remote_sha256(shell, f"{remote}/{path.name}") != digest:
            _copy(shell, path, f"{remote}/{path.name}", digest)
    return remote


def sha256(path: Path) -> str:
    """Returns the hash of a file on this machine.

    Raises:
        BenchError: If the file cannot be read.
    """
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise BenchError(f"{path}: cannot be read: {error.strerror}") from error


def clean(shell: Shell) -> None:
    """Deletes all files that `install` copied to a device."""
    if shell.folder:
        shell.check(f"rm -rf {shlex.quote(shell.folder)}")


def _copy(shell: Shell, local: Path, remote: str, digest: str) -> None:
    temporary = f"{remote}.part"
    shell.check(f"mkdir -p {shlex.quote(posixpath.dirname(remote))}")
    try:
        shell.push(local, temporary)
    except BenchError as error:
        _explain_full_disk(shell, error)
        raise
    if _remote_sha256(shell, temporary) != digest:
        shell.run(f"rm -f {shlex.quote(temporary)}")
        raise BenchError(
            f"{shell.serial}: the copy of {local} is damaged; check that its storage is not full, and try again"
        )
    shell.check(f"mv {shlex.quote(temporary)} {shlex.quote(remote)}")


def _make_executable(shell: Shell, remote: str) -> None:
    path = shlex.quote(remote)
    if shell.run(f"chmod 755 {path} && [ -x {path} ]").status:
        raise BenchError(
            f"{shell.serial}: {remote} cannot be made executable; check that {shell.folder} is not mounted noexec"
        )


def _explain_full_disk(shell: Shell, error: BenchError) -> None:
    if "No space left" in str(error):
        shell.run(f"rm -f {shlex.quote(str(shell.folder))}/*.part")
        raise BenchError(f"{error}; free some space on the device, or delete the files in {shell.folder}") from error


def _remote_sha256(shell: Shell, remote: str) -> str | None:
    """Returns the hash of a file on a device; None if it does not exist."""
    path = shlex.quote(remote)
    command = f"[ -f {path} ] || exit {_NO_FILE}; sha256sum {path} || toybox sha256sum {path}"
    status, output = shell.run(command, _HASH_SECS)
    if status == _NO_FILE:
        return None
    match = re.search(r"\b[0-9a-f]{64}\b", output)
    if status or match is None:
        raise BenchError(f"{shell.serial}: cannot hash {remote}: {one_line(output)}")
    return match[0]
