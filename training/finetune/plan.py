"""Training settings by the number of photos."""

import dataclasses

from fd_keras.training.finetune.augmentation import Augmentation
from fd_keras.training.recipes import RECIPES, TrainingRecipe

FEWEST_TO_TUNE = 20  # mean number of photos a class below which only the classifier is trained
FEWEST_TO_CHOOSE_EPOCH = 500  # held-out photos from which on they also choose the epoch
FEWEST_TO_HOLD_OUT = 100  # held-out photos below which the head is measured by cross-validation
HELD_OUT_SHARE, MOST_HELD_OUT = 0.2, 1000  # photos; more would not measure much better, and are missed in training
MOST_TO_REFIT = 5000  # photos up to which the network is trained once more, on all of them
MOST_VIEWS, FEWEST_VIEWS = 8, 3  # of a photo; three are needed to choose the augmentation
MOST_ROWS = 8000  # views of all photos that the head is fitted on: more take minutes


@dataclasses.dataclass(frozen=True)
class _Row:
    """Settings up to a number of photos."""

    photos: float
    settings: dict


_FEW = {"epochs": 16, "learning_rate": 0.01, "crop_scale": 0.5}
_TUNING = (
    _Row(1000, _FEW),
    _Row(4000, _FEW | {"epochs": 20, "learning_rate": 0.02}),
    _Row(float("inf"), {"epochs": 24, "learning_rate": 0.04, "crop_scale": 0.36, "ema_decay": 0.999}),
)
_GENTLE_CROP = 0.75  # least share of a photo's area in a crop, where smaller ones change what they show
_SCRATCH_STEPS = 3000  # at least, and 30 epochs: a fresh network needs both
_SCRATCH = {"learning_rate": 0.05, "crop_scale": 0.36, "warmup_epochs": 2.0, "ema_decay": 0.99}


def held_out_share(photos: int) -> float:
    """Share of the photos to hold out."""
    return min(HELD_OUT_SHARE, MOST_HELD_OUT / photos)


def batch_size(photos: int) -> int:
    """Photos in a batch: as many as are usual, but not so many that an epoch has only a few steps."""
    return min(64, max(4, photos // 8), photos)


def tuning_recipe(photos: int, image_size: int, augmentation: Augmentation) -> TrainingRecipe:
    """The recipe that goes on from a trained network and the linear head on its features."""
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


def views(photos: int) -> int:
    """Views of each photo to take: more where photos are few."""
    return max(FEWEST_VIEWS, fitted_views(photos))


def fitted_views(photos: int) -> int:
    """Views of each photo to fit a head on: those that keep the rows few enough."""
    return max(1, min(MOST_VIEWS, MOST_ROWS // photos))
