import os
from pathlib import Path

import pytest

from fd_keras.android_bench.atomic import write_atomically


def test_a_file_is_replaced_atomically(tmp_path):
    path = tmp_path / "page"
    for content in (b"old", b"new"):
        write_atomically(path, content)
        assert path.read_bytes() == content
    assert not os.access(path, os.X_OK)
    assert [file.name for file in tmp_path.iterdir()] == ["page"]


def test_the_mode_of_an_executable_is_set(tmp_path):
    write_atomically(tmp_path / "tool", b"#!/bin/sh\n", executable=True)
    assert os.access(tmp_path / "tool", os.X_OK)


def test_content_is_synced_before_the_file_is_renamed(tmp_path, monkeypatch):
    steps, replace = [], Path.replace
    monkeypatch.setattr(os, "fsync", lambda number: steps.append(("sync", os.fstat(number).st_size)))
    monkeypatch.setattr(Path, "replace", lambda path, target: steps.append("rename") or replace(path, target))
    write_atomically(tmp_path / "page", b"12345")
    assert steps == [("sync", 5), "rename"]


def test_a_file_that_cannot_be_replaced_is_left_as_it_was(tmp_path, monkeypatch):
    write_atomically(tmp_path / "page", b"old")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match="No space left"):
        write_atomically(tmp_path / "page", b"new")
    assert (tmp_path / "page").read_bytes() == b"old"
    assert [file.name for file in tmp_path.iterdir()] == ["page"]
