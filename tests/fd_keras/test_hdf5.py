import io
import struct
import zipfile

import h5py
import numpy as np
import pytest

from fd_keras import hdf5
from fd_keras.errors import UntrustedFileError


@pytest.fixture
def file(tmp_path) -> str:
    """A file with datasets in groups."""
    path = str(tmp_path / "some.h5")
    with h5py.File(path, "w") as h5:
        h5["a/x"], h5["a/y"], h5["optimizer/x"] = np.arange(3.0), np.ones((2, 2)), np.zeros(5)
    return path


def test_all_datasets_are_read_except_skipped_ones(file):
    found = {name: values for name, _, values in hdf5.arrays(file, skip="optimizer/")}
    assert found.keys() == {"a/x", "a/y"}
    assert found["a/x"].tolist() == [0, 1, 2]
    assert len(list(hdf5.arrays(file))) == 3


def test_an_open_file_is_read_like_a_path(file):
    with open(file, "rb") as content:
        names = [name for name, *_ in hdf5.arrays(io.BytesIO(content.read()))]
    assert names == ["a/x", "a/y", "optimizer/x"]


def test_the_size_limit_applies_to_the_sum_of_datasets(file, monkeypatch):
    monkeypatch.setattr(hdf5, "MOST_BYTES", 3 * 8 + 4 * 8 + 5 * 8)
    assert len(list(hdf5.arrays(file))) == 3
    monkeypatch.setattr(hdf5, "MOST_BYTES", 3 * 8 + 4 * 8 + 5 * 8 - 1)
    with pytest.raises(UntrustedFileError, match="limit"):
        next(hdf5.arrays(file))
    assert len(list(hdf5.arrays(file, skip="optimizer/"))) == 2


def test_the_size_of_a_zip_member_is_checked_before_it_is_unpacked(tmp_path, monkeypatch):
    with zipfile.ZipFile(tmp_path / "some.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("zeros", bytes(1000))
    with zipfile.ZipFile(tmp_path / "some.zip") as archive:
        assert hdf5.read_member(archive, "zeros") == bytes(1000)
        monkeypatch.setattr(hdf5, "MOST_BYTES", 999)
        with pytest.raises(UntrustedFileError, match="zeros declares"):
            hdf5.read_member(archive, "zeros")
        with pytest.raises(KeyError):
            hdf5.read_member(archive, "missing")


def looping(path: str) -> None:
    """Damages an attribute so that HDF5 1.14 hangs: an object in its heap has a size that ends where it starts."""
    with h5py.File(path, "a") as h5:
        h5["a"].attrs["name"] = "conv1"
    with open(path, "r+b") as file:
        content = file.read()
        first = content.index(b"GCOL") + 16  # header of the first object: index, references, reserved, size
        file.seek(first)
        file.write(struct.pack("<HHIQ", 2, 1, 0, 2**64 - 16))


def test_a_file_on_which_the_library_hangs_is_rejected(file, monkeypatch):
    monkeypatch.setattr(hdf5, "_CHECK_SECONDS", 2)
    hdf5.check(file)
    looping(file)
    with pytest.raises(UntrustedFileError, match="HDF5 library crashes or hangs"):
        hdf5.check(file)


def test_an_open_file_is_checked_like_a_path(file):
    with open(file, "rb") as content:
        hdf5.check(io.BytesIO(content.read()))


def test_errors_that_the_reader_reports_pass_the_check(tmp_path):
    (tmp_path / "text.h5").write_text("not HDF5")
    hdf5.check(str(tmp_path / "text.h5"))
