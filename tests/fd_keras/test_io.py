import hashlib
import json
import os
from pathlib import Path

import pytest

from fd_keras.io import (
    check_figure,
    list_entries,
    printable,
    sha256_of,
    shortened,
    write_atomically,
    write_figure,
    write_folder,
    write_json,
)


@pytest.fixture
def folder(tmp_path):
    """A folder with one file in it."""
    (tmp_path / "old.bin").write_bytes(b"old")
    return tmp_path


def fail(*_, **__):
    raise OSError(28, "No space left on device")


def listing(folder) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_file_is_written_and_replaced(folder):
    for content in (b"first", b"second"):
        write_atomically(str(folder / "old.bin"), content)
        assert listing(folder) == {"old.bin": content}


def test_a_file_is_readable_by_other_users(folder):
    write_atomically(str(folder / "new.bin"), b"new")
    assert (folder / "new.bin").stat().st_mode & 0o777 == 0o644


def test_a_path_without_a_folder_is_in_the_current_folder(folder, monkeypatch):
    monkeypatch.chdir(folder)
    write_atomically("new.bin", b"new")
    assert listing(folder) == {"old.bin": b"old", "new.bin": b"new"}


class FullDisk:
    """A file on a full disk: writes two bytes, then fails."""

    def __init__(self, file):
        self.file = file

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.file.close()

    def write(self, data):
        self.file.write(data[:2])
        self.file.flush()
        fail()


@pytest.mark.parametrize("name", ["old.bin", "new.bin"])
@pytest.mark.parametrize("step", ["write", "chmod", "replace"])
def test_a_failure_leaves_only_the_old_file(folder, monkeypatch, name, step):
    if step == "write":
        fdopen = os.fdopen
        monkeypatch.setattr(os, "fdopen", lambda *arguments: FullDisk(fdopen(*arguments)))
    else:
        monkeypatch.setattr(os, step, fail)
    with pytest.raises(OSError, match="No space"):
        write_atomically(str(folder / name), b"brand new")
    assert listing(folder) == {"old.bin": b"old"}


def test_an_interruption_leaves_no_temporary_file(folder, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(str(folder / "old.bin"), b"new")
    assert listing(folder) == {"old.bin": b"old"}


def test_the_old_content_is_replaced_by_renaming_a_complete_file(folder, monkeypatch):
    replace, seen = os.replace, []

    def watch(source, target):
        seen.append((Path(source).read_bytes(), (folder / "old.bin").read_bytes()))
        replace(source, target)

    monkeypatch.setattr(os, "replace", watch)
    write_atomically(str(folder / "old.bin"), b"new")
    assert seen == [(b"new", b"old")]


def test_json_is_valid_and_indented(folder):
    content = {"b": [1, None], "a": "é"}
    write_json(str(folder / "facts.json"), content)
    text = (folder / "facts.json").read_text("utf-8")
    assert json.loads(text) == content
    assert text.endswith("}\n")
    assert len(text.splitlines()) > 3


def test_json_that_cannot_be_written_leaves_the_old_file(folder):
    with pytest.raises(TypeError):
        write_json(str(folder / "old.bin"), {"a": object()})
    assert listing(folder) == {"old.bin": b"old"}


def test_sha256_of_a_file_equals_that_of_its_content(folder):
    content = bytes(range(256)) * 10_000
    (folder / "large.bin").write_bytes(content)
    assert sha256_of(str(folder / "large.bin")) == hashlib.sha256(content).hexdigest()


# --- figures -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.png", "a.svg", "a.PDF"])
def test_a_figure_is_written_in_the_format_of_its_name(tmp_path, name):
    from matplotlib.figure import Figure

    check_figure(str(tmp_path / name))
    write_figure(str(tmp_path / name), Figure())
    assert (tmp_path / name).read_bytes()[:5] in (b"\x89PNG\r", b"<?xml", b"%PDF-")


@pytest.mark.parametrize("name", ["a", "a.txt", "a.tflite"])
def test_an_unsupported_figure_format_is_rejected_before_plotting(name):
    with pytest.raises(ValueError, match=rf"^{name}: .*\.png"):
        check_figure(name)


def test_entries_are_classified_and_links_followed(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    links = {"to_folder": "folder", "to_file": "file", "to_itself": "to_itself", "to_nothing": "nowhere"}
    for name, target in links.items():
        (tmp_path / name).symlink_to(tmp_path / target)
    assert list_entries(str(tmp_path)) == (["folder", "to_folder"], ["file", "to_file"], ["to_itself", "to_nothing"])


def test_entries_of_a_bucket():
    import tensorflow as tf

    tf.io.gfile.makedirs("ram://bucket/folder")
    with tf.io.gfile.GFile("ram://bucket/a.jpg", "w") as file:
        file.write("photo")
    assert list_entries("ram://bucket") == (["folder"], ["a.jpg"], [])


def test_control_characters_in_names_are_escaped():
    assert printable("a\n\x1b[31mé中\udcff.jpg") == "a\\n\\x1b[31mé中\\udcff.jpg"


def test_long_lists_of_names_are_shortened():
    assert shortened(["a\n", "b", "c"]) == "a\\n, b, c"
    assert shortened(("a", "b", "c"), 2) == "a, b, ..."


# --- folders -----------------------------------------------------------------------------------------------


def test_a_folder_is_written_completely_or_not_at_all(tmp_path):
    with pytest.raises(OSError, match="a"):
        write_folder(str(tmp_path / "new"), {"a": b"", "a/b": b""})
    assert not list(tmp_path.iterdir())
    write_folder(str(tmp_path / "above" / "new"), {"a": b"1", "b/c": b"2"})
    assert (tmp_path / "above/new/b/c").read_bytes() == b"2"
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a", "above", "b", "c", "new"]


def test_a_folder_that_cannot_be_written_is_named():
    with pytest.raises(OSError, match=r"^/proc/new: cannot be written to \(No such file or directory\); free space"):
        write_folder("/proc/new", {"a": b"1"})


def test_a_folder_is_replaced_only_on_request(folder):
    with pytest.raises(OSError, match=f"^{folder}: cannot be written to .*not empty.*; .* pass another folder"):
        write_folder(str(folder), {"a": b"1"})
    assert listing(folder) == {"old.bin": b"old"}
    write_folder(str(folder), {"a": b"1"}, replace=True)
    assert listing(folder) == {"a": b"1"}
