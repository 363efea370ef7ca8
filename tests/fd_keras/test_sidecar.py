import json

import pytest

from fd_keras import sidecar


@pytest.fixture
def path(tmp_path) -> str:
    return str(tmp_path / "a.tflite")


def write(path: str, content) -> None:
    with open(sidecar.sidecar_path(path), "wb") as file:
        file.write(content if isinstance(content, bytes) else json.dumps(content).encode())


def test_the_description_is_read_from_the_json_file(path, tmp_path):
    assert sidecar.read_sidecar(path) is None
    facts = {"arch": None, "alpha": 1, "size": [2, 3], "include_preprocessing": False, "of others": [None]}
    write(path, facts)
    assert sidecar.sidecar_path(path) == str(tmp_path / "a.json")
    assert sidecar.read_sidecar(path) == facts


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"{", "not valid JSON"),
        (b'{"a": "\xff"}', "not valid JSON"),
        (b"[" * 10**5, "not valid JSON"),
        (b"", "not valid JSON"),
        (b"[]", "not a JSON object"),
        (b" " * (sidecar.MAX_BYTES + 1), "larger than 16 MiB"),
        ({"alpha": "wide"}, "'alpha' is not a number"),
        ({"alpha": True}, "'alpha' is not a number"),
        ({"arch": 3}, "'arch' is not a string"),
        ({"size": [64, 96.5]}, "'size' is not a list of integers"),
        ({"include_preprocessing": None}, "'include_preprocessing' is not true or false"),
        ({"groups": 1.5}, "'groups' is not an integer"),
        ({"input": []}, "'input' is not an object"),
        ({"class_names": ["a", 3]}, "'class_names' is not a list of strings"),
    ],
)
def test_errors_name_the_file_and_the_fault(path, content, words):
    write(path, content)
    with pytest.raises(ValueError, match=r"a\.json: ") as error:
        sidecar.read_sidecar(path)
    assert words in str(error.value)
