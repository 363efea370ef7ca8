"""Fine-tuning from photos to a trained network: tries a linear head and the whole network, and keeps what is better."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence

import keras
import numpy as np

from fd_keras.io import join
from fd_keras.training.finetune import augmentation, candidates, linear_head, metrics, plan, teachers
from fd_keras.training.finetune.augmentation import Augmentation
from fd_keras.training.finetune.candidates import FinetuneNetwork
from fd_keras.training.finetune.linear_head import LinearHead
from fd_keras.training.finetune.options import AUTO, Options
from fd_keras.training.finetune.photo_folder import Labeled, labels_of
from fd_keras.training.finetune.results import LINEAR_HEAD, Candidate, Measured
from fd_keras.training.finetune.split import Split
from fd_keras.training.recipes import TrainingRecipe

FINE_TUNED, FROM_SCRATCH, ON_PIXELS = "fine-tuned", "trained from scratch", f"{LINEAR_HEAD} on the pixels"
_PIXELS = 16  # side of the pictures that the linear classifier of a fresh network's rival sees
_CERTAIN = 50  # photos below which a result is little more than an impression


@dataclasses.dataclass(frozen=True)
class Finetuned:
    """What a fine-tuning leaves.

    Attributes:
        model: The network, from raw images to probabilities.
        candidates: What was tried; one is chosen.
        how_measured: How that one was measured, to follow "Top-1 90%".
        trained_on: What `model` was trained on, a sentence.
        refit: Whether that includes the held-out photos.
        warnings: What to know before trusting the result, a sentence each.
        settings: How it was trained, by name.
    """

    model: keras.Model
    candidates: Sequence[Candidate]
    how_measured: str
    trained_on: str
    refit: bool
    warnings: Sequence[str]
    settings: Mapping[str, str]


class Finetuning:
    """A fine-tuning.

    Args:
        network: The network.
        split: The photos. Those held out measure what was trained on the others.
        given: Whether the held-out photos were given, not drawn.
        options: What else was chosen.
        work_dir: Folder of the training runs, which go on where they were stopped.
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
        self._settings: dict[str, str] = {}

    def run(self) -> Finetuned:
        """Trains what is worth trying, chooses, and trains that on all photos where it pays."""
        head = None if self._network.weights is None else self._fit_head()
        found = [self._pixels() if head is None else Candidate(LINEAR_HEAD, self._measured_head(head), False)]
        model = None
        if head is None or self._tries_tuning():
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
        photos = (*self._train, *self._held_out)
        views = self._options.views or plan.views(len(photos))
        self._say(f"linear head: features of {len(photos)} photos, {views} views of each")
        self._features = candidates.pooled_features(self._network, [path for path, _ in photos], views)
        self._augmentation = self._choose_augmentation()
        self._features = self._features[:, self._augmentation.usable(views)]
        head = self._regression(self._features[: len(self._train)], self._train)
        self._settings |= {
            "views of a photo": str(self._features.shape[1]),
            "regularization of the head, C": f"{head.c:.4g}",
        }
        return head

    def _choose_augmentation(self) -> Augmentation:
        """Whether to mirror and to crop photos, by their features and the flags."""
        features = self._features[: len(self._train)]
        found = augmentation.choose(features, labels_of(self._train), len(self._split.classes))
        if "flip" in self._options.overrides:
            found = dataclasses.replace(found, mirrored=self._options.overrides["flip"] > 0)
        for change, allowed, flag in (("mirrored", found.mirrored, "flip"), ("cropped", found.cropped, "crop_scale")):
            self._settings[f"{change} in training"] = "yes" if allowed else "no"
            if not allowed and flag not in self._options.overrides:
                self._say(f"{flag} is reduced: a linear head recognizes far fewer of these photos once {change}")
        return found

    def _regression(self, values: np.ndarray, photos: Sequence[Labeled]) -> LinearHead:
        values = values[:, : plan.fitted_views(len(photos))]
        return linear_head.fit(values, labels_of(photos), len(self._split.classes))

    def _measured_head(self, head: LinearHead) -> Measured:
        measured = candidates.measure_head(head, self._features[len(self._train) :, 0], self._held_out)
        self._say(_line(Candidate(LINEAR_HEAD, measured, False)))
        return measured

    def _pixels(self) -> Candidate:
        """A linear classifier on the pixels of small pictures, the rival of a network that starts from nothing."""
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
            head = self._regression(self._features, (*self._train, *self._held_out))
            if len(self._held_out) < plan.FEWEST_TO_HOLD_OUT:
                measured = candidates.cross_validated(head, (*self._train, *self._held_out))
                found = [dataclasses.replace(found[0], measured=measured), *found[1:]]
                how = f"in cross-validation over {len(measured.labels)} photos"
        return self._finished(candidates.with_head(self._network, head), found, LINEAR_HEAD, how, refit)

    # The whole network.

    def _tries_tuning(self) -> bool:
        if self._options.method != AUTO:
            return self._options.method == "tune"
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
        return self._trained(self._network, recipe, self._train, "tune", head, self._teacher(self._train, "tune"))

    def _trained(
        self,
        network: FinetuneNetwork,
        recipe: TrainingRecipe,
        photos: Sequence[Labeled],
        folder: str,
        head: LinearHead | None,
        learn_from: str | None,
    ) -> keras.Model:
        self._say(f"{network.name}: {recipe.epochs} epochs of {len(photos)} photos, in batches of {recipe.batch_size}")
        return candidates.tune(
            network, recipe, photos, self._held_out, join(self._work_dir, folder), start=head, teacher=learn_from,
            which="best" if self._chooses_epoch() else "last", threads=self._options.threads, say=self._say,
        )  # fmt: skip

    def _chooses_epoch(self) -> bool:
        """Whether the held-out photos choose the epoch; a training on all photos has none that could."""
        return len(self._held_out) >= plan.FEWEST_TO_CHOOSE_EPOCH and not self._refits()

    def _teacher(self, photos: Sequence[Labeled], folder: str) -> str | None:
        """Path of the network to learn from; with --teacher=auto it is made first, of these photos."""
        if self._options.teacher != AUTO or self._network.weights is None:
            given = self._options.teacher if self._options.teacher != AUTO else None
            self._settings["teacher"] = given or "none"
            return given
        found = self._best_teacher
        self._settings["teacher"] = teachers.title(found)
        self._say(f"teacher: {teachers.title(found)}")
        views = self._augmentation.usable(plan.fitted_views(len(photos)))
        return teachers.save(found, photos, views, join(self._work_dir, folder, "teacher.keras"))

    @functools.cached_property
    def _best_teacher(self) -> FinetuneNetwork:
        """The teacher that the photos to train on choose, also for the training on all."""
        return teachers.best(self._network, self._train)

    def _better(self, head: Measured, tuned: Measured) -> bool:
        """Whether the tuned network makes fewer mistakes than the head, or as many with better probabilities."""
        if self._options.method == "tune":
            return True
        return (tuned.hits, -tuned.cross_entropy) > (head.hits, -head.cross_entropy)

    def _keep_network(self, model: keras.Model, head: LinearHead | None, found: Sequence[Candidate]) -> Finetuned:
        refit = self._refits()
        if refit:
            photos = (*self._train, *self._held_out)
            whole = None if head is None else self._regression(self._features, photos)
            self._say("training again, on the held-out photos too")
            learn_from = self._teacher(photos, "refit")
            model = self._trained(self._network, self._recipe(len(photos)), photos, "refit", whole, learn_from)
        return self._finished(model, found, found[-1].title, self._on_held_out(), refit)

    # What came out.

    def _refits(self) -> bool:
        if self._options.refit != AUTO:
            return self._options.refit == "yes"
        return not self._given and len(self._train) + len(self._held_out) <= plan.MOST_TO_REFIT

    def _on_held_out(self) -> str:
        chosen = ", but that chose the epoch" if self._chooses_epoch() else ""
        return f"on {len(self._held_out)} photos that it was not trained on{chosen}"

    def _finished(self, model: keras.Model, found: Sequence[Candidate], title: str, how: str, refit: bool) -> Finetuned:
        found = [dataclasses.replace(one, chosen=one.title == title) for one in found]
        count = len(self._train) + len(self._held_out) * refit
        trained_on = f"The files were trained on {count} photos"
        trained_on += ", including the held-out ones, after measuring on those." if refit else "."
        chosen = next(one for one in found if one.chosen)
        self._settings = {"kept": title, **self._settings}
        return Finetuned(model, found, how, trained_on, refit, self._warnings(chosen.measured), self._settings)

    def _warnings(self, measured: Measured) -> list[str]:
        """What the figures cannot show."""
        total = len(measured.labels)
        low, high = metrics.wilson_interval(measured.hits, total)
        warnings = []
        if total < _CERTAIN:
            warnings.append(
                f"The result rests on {total} photos: on others it may be anything from {100 * low:.0f}% to "
                f"{100 * high:.0f}%. More photos narrow this."
            )
        share = np.bincount(measured.labels).max() / total
        if low <= share:
            warnings.append(
                f"This is no better than chance: always naming the most frequent class is right for {100 * share:.0f}% "
                "of these photos. Check that the photos are in the right folders, and add more."
            )
        return warnings


def _line(candidate: Candidate) -> str:
    measured = candidate.measured
    return f"{candidate.title}: {metrics.top1_text(measured)} on {len(measured.labels)} held-out photos"
