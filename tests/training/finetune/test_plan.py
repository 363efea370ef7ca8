import pytest

from fd_keras.training.finetune import plan
from fd_keras.training.finetune.augmentation import Augmentation


def test_a_fifth_is_held_out_but_at_most_a_thousand_photos():
    assert plan.held_out_share(100) == 0.2
    assert plan.held_out_share(10_000) == 0.1


@pytest.mark.parametrize("photos", [2, 5, 50, 400, 10_000])
def test_any_number_of_photos_fills_a_batch(photos):
    assert 1 <= plan.batch_size(photos) <= min(photos, 64)
    assert plan.batch_size(100) < plan.batch_size(1000)
    for recipe in (plan.tuning_recipe(photos, 96, Augmentation()), plan.scratch_recipe(photos, 96)):
        assert (recipe.batch_size, recipe.image_size) == (plan.batch_size(photos), 96)


def test_the_recipe_depends_on_the_number_of_photos():
    few, some, many = (plan.tuning_recipe(photos, 96, Augmentation()) for photos in (100, 2000, 100_000))
    assert few.epochs <= some.epochs <= many.epochs
    assert few.learning_rate < many.learning_rate
    assert few.ema_decay == 0 < many.ema_decay


def test_a_fresh_network_is_trained_for_many_steps_however_few_the_photos():
    steps = [(plan.scratch_recipe(n, 96).epochs * n / plan.batch_size(n)) for n in (20, 200, 2000, 200_000)]
    assert all(count > 2500 for count in steps)
    assert plan.scratch_recipe(200_000, 96).epochs >= 30


def test_fewer_photos_have_more_views():
    views = [plan.views(photos) for photos in (2, 100, 1000, 100_000)]
    assert views == sorted(views, reverse=True)
    assert (views[0], views[-1]) == (plan.MOST_VIEWS, plan.FEWEST_VIEWS)


def test_harmful_augmentations_are_off():
    usual, upright, whole = (
        plan.tuning_recipe(100, 96, found)
        for found in (Augmentation(), Augmentation(mirrored=False), Augmentation(cropped=False))
    )
    assert (usual.flip, upright.flip, whole.flip) == (0.5, 0.0, 0.5)
    assert usual.crop_scale == upright.crop_scale < whole.crop_scale


@pytest.mark.parametrize(
    ("photos", "epochs", "passes"),
    [(40, 16, 4), (144, 16, 4), (800, 16, 2), (1001, 16, 1), (10_000, 24, 1), (60, 3, 1), (10, 25, 5), (5, 7, 1)],
)
def test_epochs_of_few_photos_have_several_passes_that_divide_the_epochs(photos, epochs, passes):
    recipe = plan.tuning_recipe(photos, 96, Augmentation()).override(epochs=epochs, warmup_epochs=3.0)
    assert plan.passes_per_epoch(photos, recipe) == passes
    longer = plan.in_longer_epochs(recipe, passes)
    assert (longer.epochs * passes, longer.warmup_epochs * passes) == (epochs, 3.0)


@pytest.mark.parametrize("counted", [{"patience": 2}, {"schedule": "step"}])
def test_settings_that_count_epochs_keep_their_meaning(counted):
    assert plan.passes_per_epoch(40, plan.tuning_recipe(40, 96, Augmentation()).override(**counted)) == 1
