import hashlib

import numpy as np
import pytest
import tensorflow as tf

from fd_keras.training import data_sets, input_pipeline, recipes
from fd_keras.training.sources import Share

RECIPE = recipes.PAPER.override(image_size=32, batch_size=8, mixup=0.2)


def _batches(source, step, feed=None, recipe=RECIPE):
    return list(
        input_pipeline.training_batches(source, recipe, 5, step, feed or input_pipeline.Feed()).as_numpy_iterator()
    )


def _digest(batch):
    return hashlib.sha256(b"".join(np.ascontiguousarray(array).tobytes() for array in tf.nest.flatten(batch))).digest()


def test_batches_are_a_pure_function_of_seed_and_step(splits):
    train = splits["train"]
    steps = train.count // 8
    whole = [_digest(batch) for batch in _batches(train, 0)]
    assert len(set(whole)) == steps
    assert [_digest(batch) for batch in _batches(train, 2, input_pipeline.Feed(threads=1))] == whole[2:]
    assert [_digest(batch) for batch in _batches(train, 2, input_pipeline.Feed(careful=True))] == whole[2:]
    following = _batches(train, steps + 1)
    assert len(following) == steps - 1
    assert _digest(following[0]) not in whole


@pytest.mark.parametrize("count", [2, 4])
def test_the_parts_of_all_processes_make_the_batch_of_one(splits, count):
    """Crops and flips included, however many photos each call decodes."""
    whole, *parts = (
        [(inputs_["image"], inputs_["flip"], labels) for inputs_, labels, _ in _batches(splits["train"], 0, feed)]
        for feed in (input_pipeline.Feed(), *(input_pipeline.Feed(Share(index, count)) for index in range(count)))
    )
    assert len(whole) == len(parts[0]) > 1
    for batch, *shares in zip(whole, *parts, strict=True):
        for index, share in enumerate(shares):
            assert all(np.array_equal(all_of[index::count], mine) for all_of, mine in zip(batch, share, strict=True))


def test_batches_are_uint8_and_contain_the_random_numbers(splits):
    x, y, weight = _batches(splits["train"], 0)[0]
    assert x["image"].shape == (8, 32, 32, 3)
    assert x["image"].dtype == np.uint8
    assert set(x) == {"image", "flip", "own", "box"}
    assert x["flip"].dtype == "uint8"
    assert y.dtype == np.int64
    assert (weight == 1).all()


def test_wider_networks_are_drawn_by_step_and_end_before_the_run(photos):
    train = data_sets.open_data(f"folder:{photos}")["train"]
    recipe = RECIPE.override(netaug=2.0, epochs=5)
    numbers = [x["wider"].tolist() for step in (0, 6, 18, 24) for x, _, _ in _batches(train, step, recipe=recipe)]
    assert all(drawn == drawn[:1] * 8 for drawn in numbers)
    first = [drawn[0] for drawn in numbers[:18]]
    assert len(set(first)) > 9
    assert max(first) < recipes.WIDER_NETWORKS
    assert {drawn[0] for drawn in numbers[18:]} == {recipes.WIDER_NETWORKS}  # epoch 5
    assert [x["wider"].tolist() for x, _, _ in _batches(train, 8, recipe=recipe)] == numbers[8:12]


def test_evaluation_uses_each_photo_once(splits):
    batches = list(input_pipeline.evaluation_batches(splits["val"], 32, 4, input_pipeline.Feed()).as_numpy_iterator())
    assert [len(labels) for _, labels, _ in batches] == [4] * 4
    weights = np.concatenate([weights for *_, weights in batches])
    labels = np.concatenate([labels for _, labels, _ in batches])
    assert weights.sum() == 15
    assert np.bincount(labels[weights > 0]).tolist() == [5, 5, 5]
    shares = [
        np.concatenate(
            [w for *_, w in input_pipeline.evaluation_batches(splits["val"], 32, 4, input_pipeline.Feed(Share(i, 2)))]
        )
        for i in range(2)
    ]
    assert sum(share.sum() for share in shares) == 15
    assert len(shares[0]) == len(shares[1]) == 8


def test_a_batch_larger_than_the_data_set_is_rejected(photos):
    with pytest.raises(ValueError, match="48 photos do not fill a batch of 64"):
        input_pipeline.steps_per_epoch(data_sets.open_data(f"folder:{photos}")["train"], 64)


@pytest.mark.parametrize(("mixup", "cutmix"), [(0.2, 0.0), (0.0, 1.0), (0.2, 1.0)])
def test_the_share_of_a_label_is_its_share_of_pixels(mixup, cutmix):
    recipe, cuts = recipes.PAPER.override(image_size=32, mixup=mixup, cutmix=cutmix), []
    for step in range(30):
        drawn = input_pipeline._mixing(input_pipeline._seed(0, step, input_pipeline._MIX), recipe, 32, 5)
        own, box = drawn["own"].numpy(), drawn["box"].numpy()
        assert own.shape == (5,)
        assert box.shape == (5, 4)
        assert 0 <= own[0] <= 1
        assert len(set(own)) == 1
        top, left, bottom, right = box[0]
        cuts.append(bottom > top)
        if cuts[-1]:
            assert own[0] == pytest.approx(1 - (bottom - top) * (right - left) / 32**2)
    assert (any(cuts), all(cuts)) == (cutmix > 0, not mixup)
