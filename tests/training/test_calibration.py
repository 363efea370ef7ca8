import pytest

from fd_keras.training import calibration, data_sets, sources


@pytest.mark.parametrize(("data", "listed"), [("folder:{photos}", False), ("folder:{photos}/train", True)])
def test_training_photos_are_listed_if_held_out_ones_are_in_the_same_folder(photos, tmp_path, data, listed):
    opened = data_sets.open_data(data.format(photos=photos), val_fraction=0.25 if listed else None)
    bad = [opened["train"].paths[3]]
    found = calibration.flags(str(tmp_path), opened["train"], opened["val"], bad, write=True)
    assert found["calibration_dir"] == str(photos / "train")
    assert ("calibration_ids" in found) == (tmp_path / "calibration.txt").exists() == listed
    if listed:
        names = (tmp_path / "calibration.txt").read_text().splitlines()
        held_out = {path.removeprefix(f"{photos}/train/") for path in (*opened["val"].paths, *bad)}
        assert len(set(names)) == 35
        assert not held_out & set(names)
        assert all((photos / "train" / name).is_file() for name in names)


def test_shards_and_few_photos_are_not_named(photos, prepared, tmp_path):
    shards = data_sets.open_data(str(prepared))
    assert calibration.flags(str(tmp_path), shards["train"], shards["val"], (), write=True) == {}
    few = sources.Folder(str(photos / "val"), [str(photos / "val" / "blue" / "blue_000.jpg")] * 7, [0] * 7, ["blue"])
    assert calibration.flags(str(tmp_path), few, few, (), write=True) == {}
    assert list(tmp_path.iterdir()) == []
