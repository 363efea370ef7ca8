"""Fine-tuning: trains a linear head and the whole network, and keeps the better one."""

import dataclasses
import functools
import os
from collections.abc import Callable, Mapping, Sequence

import keras
import numpy as np

from fd_keras.io import join
from fd_keras.training.classifier_run import class_weights
from fd_keras.training.finetune import augmentation, candidates, linear_head, metrics, plan, teachers
from fd_keras.training.finetune.augmentation import Augmentation
from fd_keras.training.finetune.candidates import FinetuneNetwork, PhotoFeatures
from fd_keras.training.finetune.linear_head import LinearHead
from fd_keras.training.finetune.options import AUTO, Options
from fd_keras.training.finetune.photo_folder import Labeled, labels_of
from fd_keras.training.finetune.results import FINE_TUNED, FROM_SCRATCH, LINEAR_HEAD, ON_PIXELS, Candidate, Measured
from fd_keras.training.finetune.split import Split
from fd_keras.training.recipes import TrainingRecipe

_PIXELS = 16  # side of the images for the linear classifier on pixels, the baseline of training from scratch
_BY_CHANCE = 1  # photo; networks that were better by one of 30 photos were worse on 1,200 others
_CERTAIN = 50  # held-out photos below which a result is very uncertain


@dataclasses.dataclass(frozen=True)
class Finetuned:
    """Result of a fine-tuning.

    Attributes:
        model: Trained network, from raw images to probabilities.
        candidates: Candidates that were trained; one is chosen.
        how_measured: How the chosen one was measured, to follow "Top-1 90%".
        trained_on: Sentence about the photos that `model` was trained on.
        refit: Whether these include the held-out photos.
        warnings: Sentences about limits of the result.
        settings: Training settings by name.
    """

    model: keras.Model
    candidates: Sequence[Candidate]
    how_measured: str
    trained_on: str
    refit: bool
    warnings: Sequence[str]
    settings: Mapping[str, str]


class Finetuning:
    """A fine-tuning of a network on photos.

    Args:
        network: Network to fine-tune.
        split: Training and held-out photos.
        given: Whether the user chose the held-out photos, so that they were not drawn.
        options: Further choices.
        work_dir: Folder of the training runs, which can be resumed.
        say: Prints a line.
    """

    def __init__(
        self,
        network: FinetuneNetwork,
        split: Split,
        given: bool,
        options: Options,
        work_dir: str,
        say: Callable[[str], None] = print,
    ):
        self._network, self._split, self._given, self._options = network, split, given, options
        self._work_dir, self._say = work_dir, say
        self._train, self._held_out = split.train, split.held_out
        self._features = PhotoFeatures([path for path, _ in (*split.train, *split.held_out)])
        self._settings: dict[str, str] = {}

    def run(self) -> Finetuned:
        """Trains the candidates, chooses the best, and trains it again on all photos if that helps."""
        head = None if self._network.weights is None else self._fit_head()
        found = [self._pixels() if head is None else Candidate(LINEAR_HEAD, self._measured_head(head), False)]
        model = None
        if head is None or self._tries_tuning(found[0].measured):
            model = self._tune(head)
            title = FROM_SCRATCH if head is None else FINE_TUNED
            found.append(Candidate(title, candidates.measure(model, self._held_out), False))
            self._say(_line(found[-1]))
        if head is not None and (model is None or not self._better(*(one.measured for one in found))):
            return self._keep_head(head, found)
        assert model is not None
        return self._keep_network(model, head, found)

    # The linear head.

    def _fit_head(self) -> LinearHead:
        count = len(self._train) + len(self._held_out)
        views = self._options.views or plan.views(count)
        self._say(f"linear head: features of {count} photos, {views} views of each")
        values = self._features.of(self._network, views)
        self._augmentation = self._choose_augmentation(values[: len(self._train)])
        self._values = values[:, self._augmentation.usable(views)]
        head = self._regression(self._values[: len(self._train)], self._train)
        self._settings |= {
            "views of a photo": str(self._values.shape[1]),
            "regularization of the head, C": f"{head.c:.4g}",
        }
        return head

    def _choose_augmentation(self, values: np.ndarray) -> Augmentation:
        """Decides whether to mirror and crop photos, by the features of the training photos and the flags."""
        found = augmentation.choose(values, labels_of(self._train), len(self._split.classes))
        if "flip" in self._options.overrides:
            found = dataclasses.replace(found, mirrored=self._options.overrides["flip"] > 0)
        for change, allowed, flag in (("mirrored", found.mirrored, "flip"), ("cropped", found.cropped, "crop_scale")):
            self._settings[f"{change} in training"] = "yes" if allowed else "no"
            if not allowed and flag not in self._options.overrides:
                self._say(f"{flag} is reduced: a linear head recognizes far fewer of these photos when {change}")
        return found

    def _regression(self, values: np.ndarray, photos: Sequence[Labeled]) -> LinearHead:
        values, classes = values[:, : plan.fitted_views(len(photos))], self._split.classes
        return linear_head.fit(values, labels_of(photos), len(classes), weights=self._balance(photos))

    def _balance(self, photos: Sequence[Labeled]) -> np.ndarray:
        """Weight of each photo, see `TrainingRecipe.class_balance`."""
        labels = labels_of(photos)
        return class_weights(np.bincount(labels), self._options.overrides.get("class_balance", 0))[labels]

    def _measured_head(self, head: LinearHead) -> Measured:
        measured = candidates.measure_head(head, self._values[len(self._train) :, 0], self._held_out)
        self._say(_line(Candidate(LINEAR_HEAD, measured, False)))
        return measured

    def _pixels(self) -> Candidate:
        """Fits a linear classifier on the pixels of small images, the baseline of training from scratch."""
        values = candidates.pixels(_PIXELS, (*self._train, *self._held_out))
        head = self._regression(values[: len(self._train)], self._train)
        found = Candidate(
            ON_PIXELS, candidates.measure_head(head, values[len(self._train) :, 0], self._held_out), False
        )
        self._say(_line(found))
        return found

    def _keep_head(self, head: LinearHead, found: Sequence[Candidate]) -> Finetuned:
        refit = self._refits()
        how = self._on_held_out()
        if refit:
            head = self._regression(self._values, (*self._train, *self._held_out))
            if len(self._held_out) < plan.FEWEST_TO_HOLD_OUT:
                measured = candidates.cross_validated(head, (*self._train, *self._held_out))
                found = [dataclasses.replace(found[0], measured=measured, compared=found[0].measured), *found[1:]]
                how = f"in cross-validation over {len(measured.labels)} photos"
        return self._finished(candidates.with_head(self._network, head), found, LINEAR_HEAD, how, refit)

    # The whole network.

    def _tries_tuning(self, head: Measured) -> bool:
        """Whether to tune the network: by the flag, or if there are enough photos, and the head leaves room to win."""
        if self._options.method != AUTO:
            return self._options.method == "tune"
        total = len(self._held_out)
        if total < plan.FEWEST_TO_HOLD_OUT and head.hits + _BY_CHANCE >= total:
            self._say("not fine-tuned: the linear head makes too few mistakes to show an improvement")
            return False
        return len(self._train) >= plan.FEWEST_TO_TUNE * len(self._split.classes)

    def _recipe(self, photos: int) -> TrainingRecipe:
        size = self._network.image_size
        if self._network.weights is None:
            recipe = plan.scratch_recipe(photos, size)
        else:
            recipe = plan.tuning_recipe(photos, size, self._augmentation)
        return recipe.override(**self._options.overrides)

    def _tune(self, head: LinearHead | None) -> keras.Model:
        recipe = self._recipe(len(self._train))
        self._settings |= {name: str(value) for name, value in recipe.settings().items() if name != "name"}
        return self._trained(self._train, "tune", head)

    def _trained(self, photos: Sequence[Labeled], folder: str, head: LinearHead | None) -> keras.Model:
        """Trains the network on photos, starting from a head; `folder` is the subfolder of the run."""
        teacher, recipe = self._teacher(photos, folder), self._recipe(len(photos))
        passes = 1 if self._chooses_epoch() else plan.passes_per_epoch(len(photos), recipe)
        epochs = f"{recipe.epochs} epochs of {len(photos)} photos"
        if passes > 1:
            recipe = plan.in_longer_epochs(recipe, passes)
            epochs = f"{recipe.epochs} epochs, each of {passes} passes over {len(photos)} photos"
        self._say(f"{self._network.name}: {epochs}, in batches of {recipe.batch_size}")
        return candidates.tune(
            self._network, recipe, passes * tuple(photos), self._held_out, join(self._work_dir, folder), start=head,
            teacher=teacher, which="best" if self._chooses_epoch() else "last", threads=self._options.threads,
            say=self._say,
        )  # fmt: skip

    def _chooses_epoch(self) -> bool:
        """Whether the held-out photos select the epoch, which is impossible when training on all photos."""
        return len(self._held_out) >= plan.FEWEST_TO_CHOOSE_EPOCH and not self._refits()

    def _teacher(self, photos: Sequence[Labeled], folder: str) -> str | None:
        """Returns the path of the teacher, or None; with --teacher=auto, the teacher is trained first."""
        if self._options.teacher != AUTO or self._network.weights is None:
            given = self._options.teacher if self._options.teacher != AUTO else None
            self._settings["teacher"] = given or "none"
            return given
        found = self._best_teacher
        self._settings["teacher"] = teachers.title(found)
        self._say(f"teacher: {teachers.title(found)}")
        path = join(self._work_dir, folder, "teacher.keras")
        if os.path.exists(path):
            return path
        most = plan.fitted_views(len(self._train))  # the same for all photos, so that features are computed once
        views = self._augmentation.usable(plan.fitted_views(len(photos)))
        values = self._features.of(found, most)[: len(photos), views]
        return teachers.save(found, values, labels_of(photos), self._balance(photos), path)

    @functools.cached_property
    def _best_teacher(self) -> FinetuneNetwork:
        """Best teacher for the training photos, also used when training on all photos."""
        return teachers.best(self._network, self._features, labels_of(self._train))

    def _better(self, head: Measured, tuned: Measured) -> bool:
        """Whether the tuned network recognizes more photos than the head, or as many with a lower cross-entropy.

        If few photos are held out, one more is not enough.
        """
        if self._options.method == "tune":
            return True
        if len(self._held_out) < plan.FEWEST_TO_HOLD_OUT:
            return tuned.hits > head.hits + _BY_CHANCE
        return (tuned.hits, -tuned.cross_entropy) > (head.hits, -head.cross_entropy)

    def _keep_network(self, model: keras.Model, head: LinearHead | None, found: Sequence[Candidate]) -> Finetuned:
        refit = self._refits()
        if refit:
            photos = (*self._train, *self._held_out)
            whole = None if head is None else self._regression(self._values, photos)
            self._say("training again on all photos, including the held-out ones")
            again = self._trained(photos, "refit", whole)
            refit = self._no_worse(again, found[-1].measured)
            model = again if refit else model
        return self._finished(model, found, found[-1].title, self._on_held_out(), refit)

    def _no_worse(self, again: keras.Model, before: Measured) -> bool:
        """Whether training on all photos did not fail: `again` must recognize the held-out photos, which it knows."""
        hits, total = candidates.measure(again, self._held_out).hits, len(self._held_out)
        if hits / total >= metrics.wilson_interval(before.hits, total)[0]:
            return True
        self._say(
            f"training on all photos failed ({hits} instead of {before.hits} of the {total} held-out photos); keeping "
            "the network that was trained without them"
        )
        return False

    # Results.

    def _refits(self) -> bool:
        if self._options.refit != AUTO:
            return self._options.refit == "yes"
        return not self._given and len(self._train) + len(self._held_out) <= plan.MOST_TO_REFIT

    def _on_held_out(self) -> str:
        chosen = ", which also selected the epoch" if self._chooses_epoch() else ""
        return f"on {len(self._held_out)} held-out photos{chosen}"

    def _finished(self, model: keras.Model, found: Sequence[Candidate], title: str, how: str, refit: bool) -> Finetuned:
        found = [dataclasses.replace(one, chosen=one.title == title) for one in found]
        count = len(self._train) + len(self._held_out) * refit
        trained_on = f"The files were trained on {count} photos"
        trained_on += ", including the held-out ones after they were used to measure." if refit else "."
        chosen = next(one for one in found if one.chosen)
        self._settings = {"kept": title, **self._settings}
        return Finetuned(model, found, how, trained_on, refit, self._warnings(chosen.measured), self._settings)

    def _warnings(self, measured: Measured) -> list[str]:
        """Returns sentences about limits of the result."""
        total = len(measured.labels)
        low, high = metrics.wilson_interval(measured.hits, total)
        warnings = []
        if total < _CERTAIN:
            warnings.append(
                f"The result was measured on only {total} photos: the true accuracy may be from {100 * low:.0f}% to "
                f"{100 * high:.0f}%. Add photos to narrow this."
            )
        share = np.bincount(measured.labels).max() / total
        if low <= share:
            warnings.append(
                f"The result is not better than chance: always predicting the most frequent class is right for "
                f"{100 * share:.0f}% of these photos. Check that the photos are in the right folders, and add more."
            )
        return warnings


def _line(candidate: Candidate) -> str:
    measured = candidate.measured
    return f"{candidate.title}: {metrics.top1_text(measured)} on {len(measured.labels)} held-out photos"
