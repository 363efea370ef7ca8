"""Training settings by the number of photos."""

import dataclasses

from fd_keras.training.finetune.augmentation import Augmentation
from fd_keras.training.recipes import RECIPES, TrainingRecipe

FEWEST_TO_TUNE = 20  # mean number of training photos per class; with fewer, only the classifier is trained
FEWEST_TO_CHOOSE_EPOCH = 500  # held-out photos; with fewer, the last epoch is kept
FEWEST_TO_HOLD_OUT = 100  # photos; with fewer, the head is evaluated by cross-validation, and one photo is chance
HELD_OUT_SHARE, MOST_HELD_OUT = 0.2, 1000  # photos; more measure little better, and are missing in training
MOST_TO_REFIT = 5000  # photos; with more, the network is not trained again on all of them
MOST_VIEWS, FEWEST_VIEWS = 8, 3  # per photo; choosing the augmentation needs three
MOST_ROWS = 8000  # views to fit the head on; more take minutes


@dataclasses.dataclass(frozen=True)
class _Row:
    """Settings for up to a number of photos."""

    photos: float
    settings: dict


_FEW = {"epochs": 16, "learning_rate": 0.01, "crop_scale": 0.5}
_TUNING = (
    _Row(1000, _FEW),
    _Row(4000, _FEW | {"epochs": 20, "learning_rate": 0.02}),
    _Row(float("inf"), {"epochs": 24, "learning_rate": 0.04, "crop_scale": 0.36, "ema_decay": 0.999}),
)
_PHOTOS_PER_EPOCH, _FEWEST_EPOCHS = 2000, 4  # at most and at least, if an epoch has several passes
_GENTLE_CROP = 0.75  # minimum share of the photo's area in a crop, for photos that smaller crops make unrecognizable
_SCRATCH_STEPS = 3000  # minimum for random weights, as well as 30 epochs
_SCRATCH = {"learning_rate": 0.05, "crop_scale": 0.36, "warmup_epochs": 2.0, "ema_decay": 0.99}


def held_out_share(photos: int) -> float:
    """Share of the photos to hold out."""
    return min(HELD_OUT_SHARE, MOST_HELD_OUT / photos)


def batch_size(photos: int) -> int:
    """Batch size: the usual one, or smaller so that an epoch has at least about 8 steps."""
    return min(64, max(4, photos // 8), photos)


def tuning_recipe(photos: int, image_size: int, augmentation: Augmentation) -> TrainingRecipe:
    """The recipe to fine-tune a trained network, starting from the linear head on its features."""
    settings = dict(next(row.settings for row in _TUNING if photos < row.photos))
    if not augmentation.mirrored:
        settings["flip"] = 0.0
    if not augmentation.cropped:
        settings["crop_scale"] = _GENTLE_CROP
    return RECIPES["finetune"].override(batch_size=batch_size(photos), image_size=image_size, **settings)


def scratch_recipe(photos: int, image_size: int) -> TrainingRecipe:
    """The recipe for random weights."""
    batch = batch_size(photos)
    epochs = max(30, round(_SCRATCH_STEPS * batch / photos))
    return RECIPES["finetune"].override(batch_size=batch, image_size=image_size, epochs=epochs, **_SCRATCH)


def passes_per_epoch(photos: int, recipe: TrainingRecipe) -> int:
    """Number of passes over the photos in an epoch: several if there are few, since each epoch ends with a validation.

    It divides the recipe's epochs.
    """
    if recipe.patience or recipe.schedule != "cosine":  # these settings count epochs
        return 1
    most = min(_PHOTOS_PER_EPOCH // photos, recipe.epochs // _FEWEST_EPOCHS)
    return max(number for number in range(1, max(1, most) + 1) if recipe.epochs % number == 0)


def in_longer_epochs(recipe: TrainingRecipe, passes: int) -> TrainingRecipe:
    """The recipe for as many steps in fewer epochs, each with several passes over the photos."""
    return recipe.override(epochs=recipe.epochs // passes, warmup_epochs=recipe.warmup_epochs / passes)


def views(photos: int) -> int:
    """Number of views per photo; more if there are few photos."""
    return max(FEWEST_VIEWS, fitted_views(photos))


def fitted_views(photos: int) -> int:
    """Number of views per photo to fit a head on, so that there are at most about `MOST_ROWS` rows."""
    return max(1, min(MOST_VIEWS, MOST_ROWS // photos))
