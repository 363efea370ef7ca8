import pytest

from fd_keras.training.voc.detector_recipe import PAPER, DetectorRecipe


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"roi_size": 1}, "--roi_size=1"),
        ({"short_side": 700, "long_side": 600}, "--long_side=600"),
        ({"freeze_stride": 3}, "--freeze_stride=3: must be one of 0, 2, 4, 8, 16"),
        ({"learning_rate": float("nan")}, "--learning_rate=nan"),
    ],
)
def test_invalid_recipes_are_rejected(change, message):
    with pytest.raises(ValueError, match=message):
        PAPER.override(**change)


def test_defaults_are_from_the_paper():
    paper = {"short_side": 600, "epochs": 15, "learning_rate": 1e-3, "drop_every": 5, "drop_factor": 10}
    paper |= {"weight_decay": 4e-5, "test_proposals": 300}
    assert paper.items() <= PAPER.settings().items()


def test_all_fields_can_be_set_by_flags():
    assert [field.name for field in DetectorRecipe.adjustable()] == list(PAPER.settings())
