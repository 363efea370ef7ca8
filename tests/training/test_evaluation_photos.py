import json
import os
import shutil

import pytest
from PIL import Image

from fd_keras.training import data_sets, evaluation_photos, run_record, sources
from fd_keras.training.finetune.split import Split
from fd_keras.training.sources import Share

NAMES = ("cyan", "amber", "violet", "blue")


def labels_of(source) -> dict[str, int]:
    """Returns labels by class name, which file names start with."""
    items = source.ordered(Share()).map(lambda item: item)
    return {os.path.basename(item.key.numpy()).decode().split("_")[0]: int(item.label) for item in items}


def write_run(folder, data: dict, **record) -> str:
    """Writes the record of a run as `ClassifierRun` does."""
    described = {"val": sources.describe(data_sets.open_data(**data)["val"])}
    folder.mkdir()
    (folder / "run.json").write_text(json.dumps({"data": described, **record}))
    return str(folder)


@pytest.mark.parametrize("kind", ["folder", "fraction", "shards"])
def test_held_out_photos_of_a_run_are_opened_from_any_folder(photos, prepared, tmp_path, monkeypatch, kind):
    monkeypatch.chdir(photos.parent)
    given = {
        "folder": {"data": f"folder:{photos.name}"},
        "fraction": {"data": f"folder:{photos.name}/train", "val_fraction": 0.25},
        "shards": {"data": str(prepared)},
    }[kind]
    run = write_run(tmp_path / "run", given, opened=run_record.lasting(**given))
    monkeypatch.chdir(tmp_path)
    val = evaluation_photos.of_run(run)
    assert len(list(val.ordered(Share()).rows)) == (12 if kind == "fraction" else 15)
    assert labels_of(val) == {"amber": 0, "blue": 1, "cyan": 2}


def test_an_older_run_is_read_from_its_command(photos, tmp_path):
    data = f"folder:{photos / 'train'}"
    command = ["python", "fd-keras train", "--recipe=finetune", f"--data={data}", "--val_fraction", "0.25"]
    run = write_run(tmp_path / "run", {"data": data, "val_fraction": 0.25}, command=command)
    assert evaluation_photos.of_run(run).count == 12


def test_changed_held_out_photos_are_rejected(photos, tmp_path):
    shutil.copytree(photos, tmp_path / "photos")
    given = {"data": f"folder:{tmp_path / 'photos'}"}
    run = write_run(tmp_path / "run", given, opened=given)
    os.unlink(next((tmp_path / "photos" / "val" / "blue").iterdir()))
    with pytest.raises(ValueError, match="the held-out photos have changed: val had 15 photos, now 14"):
        evaluation_photos.of_run(run)
    shutil.rmtree(tmp_path / "photos")
    with pytest.raises(
        FileNotFoundError, match="run: the held-out photos are missing .*photos: no such folder.*pass photos"
    ):
        evaluation_photos.of_run(run)


def test_the_split_of_a_fine_tuning_is_found(photos, tmp_path, caplog):
    paths = sorted((photos / "val" / "blue").iterdir())
    Split(("amber", "blue"), (), tuple((str(path), 1) for path in paths)).write(str(tmp_path))
    found = evaluation_photos.of_run(str(tmp_path))
    assert (found.classes, found.count, labels_of(found)) == (("amber", "blue"), 5, {"blue": 1})
    assert not caplog.messages
    Split(("amber", "blue"), (), tuple((str(path), 1) for path in paths), refit=True).write(str(tmp_path))
    assert evaluation_photos.of_run(str(tmp_path)).count == 5
    assert "the final network was also trained on the held-out photos" in caplog.text
    Split(("amber", "blue"), (), (("gone.jpg", 0), *((str(path), 1) for path in paths))).write(str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"1 of its 6 held-out photos are missing \(gone\.jpg\)"):
        evaluation_photos.of_run(str(tmp_path))
    Split(("amber", "blue"), ((str(paths[0]), 1),), ()).write(str(tmp_path))
    with pytest.raises(ValueError, match="has no held-out photos; pass photos"):
        evaluation_photos.of_run(str(tmp_path))


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (None, "not a run"),
        ("{", "run.json: damaged"),
        ("{}", "does not name the photos; pass photos"),
        ('{"opened": {"data": 3}}', "does not name the photos"),
        ('{"opened": {"data": "tfds:", "colour": 1}}', "damaged"),
    ],
)
def test_the_error_in_a_record_is_named(tmp_path, record, message):
    if record:
        (tmp_path / "run.json").write_text(record)
    with pytest.raises((ValueError, OSError), match=message):
        evaluation_photos.of_run(str(tmp_path))


@pytest.mark.parametrize("data", ["{photos}", "folder:{photos}", "{photos}/val", "folder:{photos}/val"])
def test_class_folders_get_the_labels_of_the_model(photos, data, caplog):
    found = evaluation_photos.of_data(data.format(photos=photos), NAMES, 4)
    assert (found.classes, found.count) == (NAMES, 15)
    assert labels_of(found) == {"cyan": 0, "amber": 1, "blue": 3}
    assert "no photos for 1 of the model's classes (violet)" in caplog.text


def test_a_share_of_class_folders_gets_the_labels_of_the_model(photos):
    found = evaluation_photos.of_data(f"folder:{photos / 'train'}", NAMES, 4, val_fraction=0.25)
    assert (found.count, labels_of(found)) == (12, {"cyan": 0, "amber": 1, "blue": 3})


def test_without_class_names_folders_are_used_in_order(photos, prepared):
    for data in (photos / "val", prepared):
        assert labels_of(evaluation_photos.of_data(str(data), None, 3)) == {"amber": 0, "blue": 1, "cyan": 2}


def test_imagenets_wordnet_ids_name_its_classes(photos, tmp_path, caplog):
    for name in ("n01440764", "n02979186"):
        shutil.copytree(photos / "val" / "blue", tmp_path / name)
    found = evaluation_photos.of_data(str(tmp_path), None, 1000)
    assert [found.classes[label] for label in (0, 482)] == ["n01440764", "n02979186"]
    assert "no photos for 998 of the model's classes (n01443537, " in caplog.text


@pytest.mark.parametrize(
    ("data", "names", "message"),
    [
        ("{photos}/val", ("amber", "blue", "green"), "folder 'cyan' is not a class of the model"),
        (
            "{photos}/val",
            ("a", "b", "c"),
            r"folders \(amber, blue, cyan\), none of .* the model \(a, b, c\); rename them",
        ),
        ("{photos}/val", None, '3 class folders .* but the model has 4 classes.*"class_names" to the .json'),
        ("{photos}/val/blue", None, "no class folders found"),
        ("folder:gone", None, "gone: no such folder"),
        ("{empty}", None, "found train/ but no val/"),
    ],
)
def test_folders_that_are_not_classes_of_the_model_are_rejected(photos, tmp_path, data, names, message):
    (tmp_path / "train" / "blue").mkdir(parents=True)
    with pytest.raises((ValueError, OSError), match=message):
        evaluation_photos.of_data(data.format(photos=photos, empty=tmp_path), names, len(names or "four"))


def test_rotated_photos_are_counted_in_a_warning(photos, tmp_path, caplog):
    shutil.copytree(photos / "val", tmp_path / "val")
    exif = Image.Exif()
    exif[0x0112] = 6
    path = tmp_path / "val" / "blue" / "blue_000.jpg"
    Image.open(path).save(path, exif=exif)
    evaluation_photos.of_data(str(tmp_path / "val"), ("amber", "blue", "cyan"), 3)
    assert "1 of 15 examined photos have an EXIF rotation" in caplog.text


def test_the_model_of_a_run_is_found(tmp_path):
    (tmp_path / "run.json").write_text('{"name": "net"}')
    with pytest.raises(ValueError, match="found 0 .keras files; pass one as --model"):
        evaluation_photos.model_of(str(tmp_path))
    (tmp_path / "last").mkdir()
    (tmp_path / "last" / "net.keras").touch()
    assert evaluation_photos.model_of(str(tmp_path)) == str(tmp_path / "last" / "net.keras")
    (tmp_path / "fine.keras").touch()
    assert evaluation_photos.model_of(str(tmp_path)) == str(tmp_path / "fine.keras")
