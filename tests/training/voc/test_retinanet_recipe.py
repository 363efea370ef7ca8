import pytest

from fd_keras.training.voc.retinanet_recipe import DEFAULT, RetinaNetRecipe


def test_the_side_must_be_a_multiple_of_the_largest_stride():
    assert DEFAULT.override(side=64).short_side == DEFAULT.override(side=64).long_side == 64
    with pytest.raises(ValueError, match="--side=100: must be a multiple of 32"):
        DEFAULT.override(side=100)


def test_the_recipe_is_restored_from_a_record():
    assert RetinaNetRecipe.of(DEFAULT.settings() | {"detector": "retinanet"}) == DEFAULT
