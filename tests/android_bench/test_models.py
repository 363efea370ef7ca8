import dataclasses
import hashlib
from pathlib import Path

import pytest

from fd_keras.android_bench.errors import BenchError
from fd_keras.android_bench.models import ModelFile, choose_baseline, find_models, read_model, read_models

GOOD = b"\x1c\0\0\0TFL3 and so on"


def _write(folder, *names, content=GOOD):
    folder.mkdir(exist_ok=True)
    paths = [folder / name for name in names]
    for path in paths:
        path.write_bytes(content)
    return paths


def _models(*names):
    return tuple(ModelFile(Path(f"{name}_int8.tflite"), name, "int8", 1, "0") for name in names)


def test_a_folder_gives_its_tflite_files_by_name(tmp_path):
    b, a, *_ = _write(tmp_path, "b.tflite", "a.tflite", "a.json", "notes.txt", ".hidden.tflite")
    assert find_models(tmp_path) == find_models(str(tmp_path)) == [a, b]


def test_a_list_gives_files_and_folders_in_order_without_duplicates(tmp_path):
    (c,) = _write(tmp_path / "one", "c.tflite")
    b, a = _write(tmp_path / "two", "b.tflite", "a.tflite")
    assert find_models(f"{b}, {tmp_path / 'one'},{tmp_path / 'two'}") == [b, c, a]
    assert find_models([c, tmp_path / "one" / ".." / "one"]) == [c]


def test_special_and_oversized_files_are_not_read(tmp_path, monkeypatch):
    with pytest.raises(BenchError, match="/dev/zero: not a regular file"):
        read_model(Path("/dev/zero"))
    (path,) = _write(tmp_path, "m.tflite")
    path.with_suffix(".json").write_text('{"a": "' + "x" * (1 << 20) + '"}')
    with pytest.raises(BenchError, match=r"m.json: too large (.* bytes, limit 1048576)"):
        read_model(path)


def test_a_path_may_contain_a_comma(tmp_path):
    (model,) = _write(tmp_path / "a,b", "m.tflite")
    assert find_models(str(tmp_path / "a,b")) == [model]


@pytest.mark.parametrize("spec", ["", " , ", []])
def test_an_empty_list_is_rejected(spec):
    with pytest.raises(BenchError, match="no models given"):
        find_models(spec)


def test_a_missing_path_and_an_empty_folder_are_named(tmp_path):
    with pytest.raises(BenchError, match=r"nowhere: no such file or folder"):
        find_models(tmp_path / "nowhere")
    with pytest.raises(BenchError, match=f"{tmp_path}: no .tflite file in this folder"):
        find_models(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file is empty"),
        (b"\n<!DOCTYPE html><html>", "web page"),
        (b"PK\3\4 a zip file", "a .keras file or another zip"),
        (b"TFL3", "no TFL3 at bytes 4 to 8"),
    ],
)
def test_a_file_that_is_not_a_model_is_named(tmp_path, content, message):
    (path,) = _write(tmp_path, "m.tflite", content=content)
    with pytest.raises(BenchError, match=message) as caught:
        read_model(path)
    assert str(path) in str(caught.value)
    assert any(remedy in str(caught.value) for remedy in ("again", "convert it"))


def test_a_folder_named_like_a_model_is_reported(tmp_path):
    (tmp_path / "m.tflite").mkdir()
    with pytest.raises(BenchError, match=r"m\.tflite: cannot be read"):
        read_model(tmp_path / "m.tflite")


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"[1]",
        b'"int8"',
        b"\xff\xfe\x00",
        b'{"macs": NaN}',
        b'{"macs": 1e999}',
        b'{"arch": []}',
        b'{"alpha": "1"}',
        b'{"size": 224}',
    ],
)
def test_a_broken_sidecar_is_named_with_advice(tmp_path, text):
    (path,) = _write(tmp_path, "m.tflite")
    _write(tmp_path, "m.json", content=text)
    with pytest.raises(BenchError, match=r"m\.json: .*; fix it, or delete it"):
        read_model(path)


@pytest.mark.parametrize(
    ("stem", "name", "recipe"),
    [
        ("fd_mobilenet_0.25_float32", "fd_mobilenet_0.25", "float32"),
        ("fd_mobilenet_0.25_int8_raw", "fd_mobilenet_0.25", "int8_raw"),
        ("mobilenet_1_dynamic", "mobilenet_1", "dynamic"),
        ("some_net_v2", "some_net_v2", ""),
        ("an_interesting_net", "an_interesting_net", ""),
    ],
)
def test_name_and_recipe_come_from_the_file_name(tmp_path, stem, name, recipe):
    (path,) = _write(tmp_path, f"{stem}.tflite")
    model = read_model(path)
    assert (model.name, model.recipe, model.label) == (name, recipe, stem)
    assert model.size_bytes == len(GOOD)
    assert model.sha256 == hashlib.sha256(GOOD).hexdigest()


def test_recipe_and_facts_come_from_the_sidecar(tmp_path):
    (path,) = _write(tmp_path, "net_1_my_own.tflite")
    _write(tmp_path, "net_1_my_own.json", content=b'{"recipe": "my_own", "alpha": 1.0, "secret": 1}')
    model = read_model(path)
    assert (model.name, model.recipe, model.facts) == ("net_1", "my_own", {"alpha": 1.0})


def test_broken_models_do_not_stop_the_others(tmp_path):
    good, other = _write(tmp_path, "good.tflite", "other.tflite")
    (bad,) = _write(tmp_path, "bad.tflite", content=b"")
    models, failures = read_models([good, bad, other])
    assert [model.path for model in models] == [good, other]
    assert len(failures) == 1
    assert str(bad) in failures[0]


def test_two_models_with_the_same_name_are_rejected(tmp_path):
    one, two = *_write(tmp_path / "one", "m.tflite"), *_write(tmp_path / "two", "m.tflite")
    with pytest.raises(BenchError, match="both called m; rename") as caught:
        read_models([one, two])
    assert str(one) in str(caught.value)
    assert str(two) in str(caught.value)


def test_a_baseline_is_chosen_by_name_or_by_default():
    models = _models("a", "fd_mobilenet_0.5", "fd_mobilenet_1", "b")
    assert choose_baseline(models).name == "fd_mobilenet_0.5"
    assert choose_baseline(models[::3]).name == "a"
    floats = [dataclasses.replace(model, recipe="float32") for model in models[1:3]]
    assert choose_baseline([*models, *floats]) == floats[0]
    for name in ("b", "b_int8", "b_int8.tflite"):
        assert choose_baseline(models, name).name == "b"
    with pytest.raises(BenchError, match="baseline c: no such model; choose from .*a_int8, fd_mobilenet_0.5_int8"):
        choose_baseline(models, "c")
    with pytest.raises(BenchError, match="no models left"):
        choose_baseline([])
