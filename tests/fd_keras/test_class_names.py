import json
import zipfile

import pytest

from fd_keras import class_names, imagenet


@pytest.fixture
def model(tmp_path) -> str:
    """The path of a model in a run folder; the model itself is never read."""
    (tmp_path / "run" / "last").mkdir(parents=True)
    (tmp_path / "run" / "run.json").write_text("{}")
    return str(tmp_path / "run" / "last" / "net.tflite")


def write(path, *names: str) -> str:
    path.write_text("".join(f"{name}\n" for name in names))
    return str(path)


def test_a_list_overrides_the_file_the_sidecar_and_the_run(model, tmp_path):
    assert class_names.names_of(model, 2) is None
    write(tmp_path / "run" / "classes.txt", "of", "run")
    assert class_names.names_of(model, 2) == ("of", "run")
    (tmp_path / "run" / "last" / "net.json").write_text(json.dumps({"class_names": ["of", "sidecar"]}))
    assert class_names.names_of(model, 2) == ("of", "sidecar")
    with zipfile.ZipFile(model, "w") as archive:
        archive.writestr("labels.txt", "of\nfile")
    assert class_names.names_of(model, 2) == ("of", "file")
    assert class_names.names_of(model, 2, write(tmp_path / "mine.txt", "of", "mine")) == ("of", "mine")


def test_a_converted_file_gets_the_class_names_of_the_run_of_its_model(model, tmp_path):
    write(tmp_path / "run" / "classes.txt", "cat", "dog")
    (tmp_path / "out.json").write_text(json.dumps({"keras_model": model}))
    assert class_names.names_of(str(tmp_path / "out.tflite"), 2) == ("cat", "dog")


def test_a_list_outside_a_run_folder_is_ignored(tmp_path):
    write(tmp_path / "classes.txt", "cat", "dog")
    assert class_names.names_of(str(tmp_path / "net.keras"), 2) is None


def test_a_single_score_has_one_or_two_names(tmp_path):
    one, two = write(tmp_path / "one.txt", "cat"), write(tmp_path / "two.txt", "dog", "cat")
    assert class_names.names_of("net.keras", 2, one) == ("not cat", "cat")
    assert class_names.names_of("net.keras", 2, two) == ("dog", "cat")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a\nb\n", "--labels=.*names.txt: 2 class names, but net.keras has 3 classes"),
        (b"a\n\nb", "--labels=.*names.txt: line 2 is empty"),
        (b"", "--labels=.*names.txt: line 1 is empty"),
        (b"\xff\xfea", "--labels=.*names.txt: not valid UTF-8"),
        (b" " * (2**24 + 1), "--labels=.*names.txt: larger than 16 MiB"),
        (None, "--labels=.*names.txt: no such file"),
    ],
)
def test_an_invalid_list_is_reported(tmp_path, content, message):
    if content is not None:
        (tmp_path / "names.txt").write_bytes(content)
    with pytest.raises((ValueError, OSError), match=message):
        class_names.names_of("net.keras", 3, str(tmp_path / "names.txt"))


def test_a_folder_in_place_of_a_list_is_reported(tmp_path):
    with pytest.raises(OSError, match="is a folder; pass a text file with one class name per line"):
        class_names.names_of("net.keras", 3, str(tmp_path))


def test_damaged_names_in_a_file_are_reported(model):
    with zipfile.ZipFile(model, "w") as archive:
        archive.writestr("labels.txt", b"\xff\xfe")
    with pytest.raises(ValueError, match="net.tflite: its class names are damaged"):
        class_names.names_of(model, 2)


def test_folders_are_matched_by_name():
    names = ("rose", "daisy", "tulip")
    assert class_names.match(["daisy", "rose"], names, 3) == {"daisy": 1, "rose": 0}
    assert class_names.match(["ant", "bee", "cat"], names, 3) is None
    with pytest.raises(ValueError, match="folder 'dasy' is not a class of the model; did you mean daisy[?]$"):
        class_names.match(["dasy", "rose"], names, 3)
    with pytest.raises(ValueError, match="'crane' matches 2 classes .*; name the folders by WordNet id"):
        class_names.match(["crane"], imagenet.class_names(), 1000)


def test_without_class_names_folders_are_matched_by_order_if_their_number_fits(caplog):
    assert class_names.match(["b", "a"], None, 2) == {"a": 0, "b": 1}
    assert "the model's class names are unknown; assuming a, b, in this order" in caplog.text
    assert class_names.match(["b", "a"], None, 3) is None


def test_imagenet_folders_may_be_wordnet_ids():
    for names in (None, imagenet.class_names(), imagenet.wordnet_ids()):
        assert class_names.match(["n01440764", "n02979186"], names, 1000) == {"n01440764": 0, "n02979186": 482}
    assert class_names.match(["goldfish", "tench"], None, 1000) == {"goldfish": 1, "tench": 0}
