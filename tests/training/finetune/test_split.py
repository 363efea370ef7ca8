import dataclasses
import json

import numpy as np
import pytest

from fd_keras.training.finetune import split
from fd_keras.training.finetune.inspection import InspectedPhoto
from fd_keras.training.finetune.split import Split, hold_out


def photos_of(*counts: int) -> list[InspectedPhoto]:
    return [InspectedPhoto(f"{label}/{n}.jpg", label) for label, count in enumerate(counts) for n in range(count)]


def held_of(found, groups=None, fraction=0.2) -> list[str]:
    groups = np.arange(len(found)) if groups is None else np.array(groups)
    return [photo.path for photo, held in zip(found, hold_out(found, groups, fraction), strict=True) if held]


def test_the_share_is_held_out_of_every_class():
    held = held_of(photos_of(10, 50, 3))
    assert [sum(path.startswith(f"{label}/") for path in held) for label in range(3)] == [2, 10, 1]


@pytest.mark.parametrize("fraction", [0.8, 1.0])
def test_a_photo_of_every_class_stays_for_training(fraction):
    held = held_of(photos_of(10, 2, 1), fraction=fraction)
    assert [sum(path.startswith(f"{label}/") for path in held) for label in range(3)] == [min(9, 10 * fraction), 1, 0]


def test_adding_photos_does_not_move_others():
    before, after = held_of(photos_of(100, 100)), held_of(photos_of(105, 100))
    assert len(set(before) & set(after)) >= len(before) - 2


def test_duplicates_stay_on_one_side():
    found = photos_of(30, 30)
    groups = np.arange(60) // 3 * 3  # triples
    held = set(held_of(found, groups))
    assert 8 <= len(held) <= 12
    for start in range(0, 60, 3):
        assert len({photo.path in held for photo in found[start : start + 3]}) == 1


def test_duplicates_in_two_classes_are_not_held_out():
    found = photos_of(5, 5)
    groups = [0, 1, 2, 3, 4, 0, 1, 2, 3, 5]  # each class has only one photo without duplicates
    assert set(held_of(found, groups)) == {"0/4.jpg", "1/4.jpg"}


def test_a_class_of_duplicates_is_not_held_out():
    found = photos_of(4, 1, 3)
    held = held_of(found, [0, 1, 2, 3, 4, 5, 5, 5])
    assert len(held) == 1
    assert held[0].startswith("0/")


def test_a_split_is_read_as_it_was_written(tmp_path):
    drawn = Split(("a", "b"), (("x/1.jpg", 0), ("x/\udce9.jpg", 1)), (("x/2.jpg", 1),))
    for written in (drawn, dataclasses.replace(drawn, refit=True)):
        written.write(str(tmp_path))
        assert split.read(str(tmp_path)) == written


def test_a_split_without_a_refit_entry_has_no_refit(tmp_path):
    (tmp_path / split.FILE).write_text('{"classes": ["a"], "train": [], "held_out": []}')
    assert not split.read(str(tmp_path)).refit


@pytest.mark.parametrize(
    "content",
    [b"", b"[]", b"{}", json.dumps({"classes": ["a"], "train": [["p", 1]], "held_out": []}).encode(),
     json.dumps({"classes": ["a"], "train": [["p"]], "held_out": []}).encode()],
)  # fmt: skip
def test_a_damaged_split_is_named(tmp_path, content):
    (tmp_path / split.FILE).write_bytes(content)
    with pytest.raises(ValueError, match=r"split.json: damaged .*delete it to draw the held-out photos again"):
        split.read(str(tmp_path))
