import os
import shutil

import pytest

from fd_keras.android_bench import adb, device_files, run
from fd_keras.android_bench.errors import BenchError
from fd_keras.android_bench.results import read_rows
from fd_keras.android_bench.shell import Shell


@pytest.mark.parametrize(
    ("head", "abi"),
    [
        (b"\x7fELF\x02\x01" + bytes(10) + b"\x03\0\xb7\0", "arm64-v8a"),
        (b"\x7fELF\x01\x01" + bytes(10) + b"\x03\0\x28\0", "armeabi-v7a"),
        (b"\x7fELF\x02\x01" + bytes(10) + b"\x03\0\x3e\0", "x86_64"),
        (b"#!/bin/sh\n", None),
    ],
)
def test_the_abi_of_a_binary_is_read(tmp_path, head, abi):
    (tmp_path / "tool").write_bytes(head + bytes(50))
    assert device_files.elf_abi(tmp_path / "tool") == abi


@pytest.mark.parametrize("content", [b"", b"PK\3\4 a zip file of some length", b"\x7fELF\x02\x01"])
def test_a_file_that_is_not_a_binary_is_named(tmp_path, content):
    (tmp_path / "tool").write_bytes(content)
    with pytest.raises(BenchError, match="tool: not a Linux or Android executable"):
        device_files.elf_abi(tmp_path / "tool")


@pytest.fixture
def shell(phone):
    return adb.AdbShell(phone.serial, phone.adb)


@pytest.fixture
def local(tmp_path):
    path = tmp_path / "a model"
    path.write_bytes(os.urandom(1000))
    return path


def test_a_file_is_pushed_once_and_named_by_its_hash(shell, phone, local):
    remote = device_files.install(shell, local)
    copy = phone.root / remote.lstrip("/")
    assert copy.read_bytes() == local.read_bytes()
    assert copy.name.endswith("_a_model")
    first = copy.stat().st_ino  # adb preserves the modification time
    assert device_files.install(shell, local) == remote
    assert copy.stat().st_ino == first
    copy.write_bytes(b"damaged")
    assert device_files.install(shell, local) == remote
    assert copy.read_bytes() == local.read_bytes()
    assert [path.name for path in copy.parent.iterdir()] == [copy.name]


def test_a_lost_execute_bit_is_set_again(shell, phone, local):
    copy = phone.root / device_files.install(shell, local, executable=True).lstrip("/")
    copy.chmod(0o644)
    device_files.install(shell, local, executable=True)
    assert copy.stat().st_mode & 0o111


def test_a_noexec_storage_is_reported(shell, phone, local):
    phone.adb_shell("mount -o remount,noexec /data/local/tmp")
    try:
        with pytest.raises(
            BenchError, match="executable; check that /data/local/tmp/android_bench is not mounted noexec"
        ):
            device_files.install(shell, local, executable=True)
    finally:
        phone.adb_shell("mount -o remount,exec /data/local/tmp")


def test_paths_may_contain_spaces_and_quotes(bench, models, tool, tmp_path):
    folder = models.rename(tmp_path / "my models, $(false) 'new'")
    (folder / "mobilenet_0.5_int8.tflite").rename(folder / "it's a $net `x`; exit_int8.tflite")
    binary = shutil.copy(tool, tmp_path / "the tool's copy; false")
    assert bench(f"--models={folder}", f"--benchmark_binary={binary}", f"--output_dir={tmp_path / 'out put'}") == 0
    rows = read_rows(tmp_path / "out put")
    assert len(rows) == 2
    assert {row.launch.job.model.name for row in rows} == {"fd_mobilenet_0.25", "it's a $net `x`; exit"}
    assert all((tmp_path / "out put" / row.details.log).exists() for row in rows)


def test_clean_only_removes_our_files(bench, phone, shell, local):
    (phone.root / "data/local/tmp/other").write_text("not ours")
    assert bench("--clean") == 0
    assert [path.name for path in (phone.root / "data/local/tmp").iterdir()] == ["other"]
    device_files.install(shell, local)
    assert run.main([f"--adb={phone.adb}", "--clean_only"]) == 0
    assert [path.name for path in (phone.root / "data/local/tmp").iterdir()] == ["other"]


def test_a_binary_for_another_processor_is_rejected_before_the_push(bench, phone, tmp_path, capsys):
    binary = tmp_path / "aarch64"
    binary.write_bytes(b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x03\x00\xb7\x00" + bytes(40))
    assert bench(f"--benchmark_binary={binary}") == 2
    err = capsys.readouterr().err
    assert "built for arm64-v8a" in err
    assert "runs x86_64" in err
    assert "--fetch_binary" in err
    assert not (phone.root / adb.FOLDER.lstrip("/")).exists()


def test_a_binary_for_this_processor_is_run(bench, capsys):
    assert bench("--benchmark_binary=/bin/true", "--repeats=0") == 1
    assert "not the complete output" in capsys.readouterr().err


def test_a_full_device_is_reported_and_no_partial_file_left(shell, phone, local):
    (phone.root / "data/local/tmp/full").write_bytes(bytes(4_000_000))
    local.write_bytes(os.urandom(1_000_000))
    with pytest.raises(BenchError, match="No space left.*; free some space"):
        device_files.install(shell, local)
    assert not list((phone.root / adb.FOLDER.lstrip("/")).glob("*.part"))


def test_leftovers_of_a_failed_push_are_removed(shell, phone, local, monkeypatch):
    def fill(shell, local, remote):
        phone.write(remote, "half")
        raise BenchError("No space left on device")

    monkeypatch.setattr(adb.AdbShell, "push", fill)
    with pytest.raises(BenchError, match="No space left"):
        device_files.install(shell, local)
    assert not list((phone.root / adb.FOLDER.lstrip("/")).iterdir())


def test_a_damaged_copy_is_reported_and_not_kept(shell, phone, local, tmp_path, monkeypatch):
    push, cut = adb.AdbShell.push, tmp_path / "cut"

    def push_less(shell, local, remote):
        cut.write_bytes(local.read_bytes()[:-1])
        push(shell, cut, remote)

    monkeypatch.setattr(adb.AdbShell, "push", push_less)
    with pytest.raises(BenchError, match="is damaged; check that its storage is not full"):
        device_files.install(shell, local)
    assert list((phone.root / adb.FOLDER.lstrip("/")).iterdir()) == []


def test_a_missing_file_is_named(shell, tmp_path):
    with pytest.raises(BenchError, match="nosuch: cannot be read: No such file"):
        device_files.install(shell, tmp_path / "nosuch")


def test_on_this_machine_files_are_used_in_place(local):
    assert device_files.install(Shell(), local) == str(local)
    device_files.clean(Shell())
    assert local.exists()
