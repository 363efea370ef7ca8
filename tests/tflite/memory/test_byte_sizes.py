import re

import pytest

from fd_keras.errors import UsageError
from fd_keras.tflite.memory.byte_sizes import kib, parse_bytes


@pytest.mark.parametrize(
    "text", ["", "KiB", "-1", "1e3", "256KB/s", "1.2.3MB", "0KiB", "0.1B", "9" * 400 + "MB", "²KiB"]
)
def test_text_that_is_not_a_size_is_named(text):
    with pytest.raises(ValueError, match=re.escape(f"--flash={text}: ")):
        parse_bytes("flash", text)


@pytest.mark.parametrize(
    ("text", "size"), [("262144B", 262144), ("256KiB", 262144), ("1.5 mib", 1572864), ("300kB", 300000), ("2B", 2)]
)
def test_sizes_are_parsed(text, size):
    assert parse_bytes("ram", text) == size


def test_number_without_a_unit_is_rejected():
    with pytest.raises(UsageError, match="--flash=512: unit missing"):
        parse_bytes("flash", "512")


def test_sizes_are_written_in_kib():
    assert kib(262144) == "256.0 KiB"
