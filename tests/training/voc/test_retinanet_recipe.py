import pytest

from fd_keras.training.voc.retinanet_recipe import DEFAULT, RetinaNetRecipe


def test_the_side_fits_the_pyramid():
    assert DEFAULT.override(side=64).short_side == DEFAULT.override(side=64).long_side == 64
    with pytest.raises(ValueError, match="--side=100: must be a multiple of 32"):
        DEFAULT.override(side=100)


def test_a_runs_record_gives_the_recipe_back():
    assert RetinaNetRecipe.of(DEFAULT.settings() | {"detector": "retinanet"}) == DEFAULT
