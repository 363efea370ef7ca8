import pytest

from fd_keras import zoo
from fd_keras.training import recipes


def test_the_paper_recipe_has_the_settings_of_the_paper():
    paper = recipes.PAPER
    assert (paper.epochs, paper.batch_size, paper.learning_rate, paper.momentum) == (90, 256, 0.1, 0.9)
    assert (paper.schedule, paper.drop_every, paper.drop_factor) == ("step", 30, 10)
    assert (paper.weight_decay, paper.decay_all, paper.crop_scale, paper.nesterov) == (4e-5, True, 0.64, False)
    assert not (paper.mixes)
    assert not (paper.label_smoothing)
    assert not (paper.ema_decay)
    assert not (paper.randaugment)


def test_the_authors_recipe_has_the_settings_of_their_readme():
    differing = {k for k, v in recipes.AUTHORS.settings().items() if recipes.PAPER.settings()[k] != v}
    assert differing == {"name", "epochs", "nesterov", "crop_scale"}


def test_targets_are_from_the_paper():
    assert recipes.PAPER.targets == {(row.arch, row.alpha): row.top1 for row in zoo.PAPER_TABLE2}
    assert recipes.PAPER.targets[("fd_mobilenet", 0.25)] == 45.1
    assert recipes.PAPER.targets[("mobilenet", 0.5)] == 63.7
    assert recipes.PAPER.targets[("shufflenet", 1.0)] == 65.9
    assert recipes.AUTHORS.targets[("fd_mobilenet", 0.5)] == 56.3


def test_the_tiny_recipe_adds_capacity_but_no_augmentation():
    tiny = recipes.TINY
    assert tiny.netaug > 1
    assert tiny.reparam
    assert tiny.bn_batches
    assert tiny.ema_decay
    assert not any((tiny.mixes, tiny.randaugment, tiny.dropout))
    assert tiny.targets == recipes.PAPER.targets


def test_fine_tuning_clips_gradients_and_the_paper_does_not():
    """A single large gradient can destroy a network; torch's recipes do not clip."""
    assert recipes.FINETUNE.clip_norm
    assert not any((recipes.PAPER.clip_norm, recipes.AUTHORS.clip_norm))


def test_crops_grow_over_the_epochs():
    recipe = recipes.PAPER.override(image_size=112, epochs=8, progressive_size=0.5)
    assert [recipe.size_at(epoch) for epoch in range(8)] == [56, 56, 75, 75, 93, 93, 112, 112]
    assert {recipes.PAPER.size_at(epoch) for epoch in range(90)} == {224}
    assert recipe.override(image_size=48).size_at(0) == 32  # the minimum of a network


def test_wider_networks_are_not_trained_in_the_last_epochs():
    recipe = recipes.PAPER.override(epochs=10, netaug=2.0)
    assert [recipe.widens_at(epoch) for epoch in range(10)] == [True] * 8 + [False] * 2
    assert not recipes.PAPER.widens_at(0)


@pytest.mark.parametrize(
    ("field", "value"),
    [("epochs", 0), ("crop_scale", 1.5), ("learning_rate", float("nan")), ("image_size", 16), ("schedule", "linear")],
)
def test_invalid_values_name_the_flag(field, value):
    with pytest.raises(ValueError, match=f"--{field}"):
        recipes.PAPER.override(**{field: value})


def test_override_ignores_none():
    assert recipes.PAPER.override(epochs=None, batch_size=32) == recipes.PAPER.override(batch_size=32)
    assert recipes.PAPER.override(batch_size=32).epochs == 90
