"""Trains a detector, with checkpoints at any step and bit-identical resume."""

import dataclasses
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

import keras
import numpy as np
import tensorflow as tf

from fd_keras import spec, zoo
from fd_keras.training import run_record
from fd_keras.training.devices import Devices
from fd_keras.training.optimizer import Schedule, TorchSGD
from fd_keras.training.run import RunConfig, TrainingError, TrainingRun
from fd_keras.training.voc import backbone, dataset, detection_pipeline, detector_reporting, draw, faster_rcnn
from fd_keras.training.voc.annotation import Annotation
from fd_keras.training.voc.detector import Detector
from fd_keras.training.voc.detector_recipe import DetectorRecipe
from fd_keras.training.voc.retinanet_recipe import RetinaNetRecipe
from fd_keras.training.voc.trainable_detector import TrainableDetector

_DRAWN = 4  # number of images with detections in TensorBoard
_SHOWN = 0.5  # minimum score of the detections drawn there


@dataclasses.dataclass(frozen=True)
class DetectorRunConfig(RunConfig):
    """Configuration of a detector's run, made from flags and stored in the run's folder.

    Attributes:
        detector: Kind of detector, "faster_rcnn" or "retinanet".
        recipe: Training recipe.
        backbone: Key of `zoo.ARCHS`.
    """

    FIXED = ("detector", "backbone", *RunConfig.FIXED)
    detector: ClassVar[str] = "faster_rcnn"

    recipe: DetectorRecipe | RetinaNetRecipe
    backbone: str
    checkpoint_every: int = dataclasses.field(default=500, kw_only=True)

    @property
    def name(self) -> str:
        """Name of the detector, used in the names of its files."""
        arch = zoo.get_arch(self.backbone, self.groups, self.stem_multiplier)
        return f"{self.detector}_{spec.model_name(arch, self.alpha, (None, None))}_{self.recipe.short_side}"


class DetectorRun(TrainingRun):
    """A detector's run, see `TrainingRun`. Trains Faster R-CNN with one image per step; subclasses train others.

    Args:
        config: Configuration of the run.
        images: Training images.
        classes: Class names in label order.
        say: Prints a line.

    Attributes:
        TRAINEE: Class of the trainee.
        detector: Detector with the current weights.
    """

    TRAINEE: ClassVar[type[TrainableDetector]] = TrainableDetector
    COLUMNS = detector_reporting.columns(TRAINEE.LOSSES)

    config: DetectorRunConfig
    trainee: TrainableDetector

    def __init__(
        self,
        config: DetectorRunConfig,
        images: detection_pipeline.Images,
        classes: tuple[str, ...],
        say: Callable[[str], None] = print,
    ):
        self.recipe, self.images, self.classes = config.recipe, images, classes
        steps = images.count // self.batch_size
        if not steps:
            raise ValueError(
                f"{images.name}: {images.count} images do not fill a batch; reduce --batch_size={self.batch_size}."
            )
        super().__init__(config, _describe(config, images, classes), steps, Devices(), say)

    def _build(self) -> None:
        config, recipe = self.config, self.recipe
        keras.utils.set_random_seed(config.seed)
        built = self._built()
        self.model = built.net
        if config.init_weights:
            self.say(f"started from {config.init_weights}")
        else:
            self.say("warning: the backbone has random weights, so the detector will learn little; pass --init_weights")
        drop_every = recipe.drop_every * self.steps_per_epoch
        self._rate = Schedule(
            "step", recipe.learning_rate, self.total_steps, drop_every=drop_every, drop_factor=recipe.drop_factor
        )
        optimizer = TorchSGD(self._rate, recipe.momentum, weight_decay=recipe.weight_decay, **self._clipping())
        self.trainee = self.TRAINEE(built, optimizer, config.seed)
        self.detector = Detector(self.model, config.fixed() | recipe.settings(), self.classes, config.name)

    @property
    def batch_size(self) -> int:
        """Number of images in a step."""
        return 1

    def _built(self):
        """Builds the detector with the backbone and weights that the configuration names."""
        config, classes = self.config, len(self.classes)
        under = backbone.choose(
            config.backbone, config.alpha, config.groups, config.stem_multiplier, config.init_weights
        )
        net = faster_rcnn.build_net(under, classes, self.recipe)
        if config.init_weights:
            backbone.load_weights(net, config.init_weights, under)
        return faster_rcnn.FasterRCNN(net, self.recipe)

    def _clipping(self) -> dict[str, Any]:
        """Returns the optimizer's arguments for gradient clipping."""
        return {}

    @property
    def variables(self) -> list[keras.Variable]:
        """All variables of a checkpoint, without duplicates, always in the same order."""
        return self.trainee.variables

    def learning_rate_at(self, step: int) -> float:
        """Returns the learning rate of a step, counted from 0."""
        return float(self._rate(step))

    # One epoch.

    def _train_epoch(self, epoch: int) -> dict[str, float]:
        examples = self._examples()
        for step in range(self.step + 1, (epoch + 1) * self.steps_per_epoch + 1):
            asked = time.perf_counter()
            example = self._next(examples, step - 1)
            waited = time.perf_counter() - asked
            losses = self.trainee.step(example)
            self.timer.step_done(waited)
            if not self._after_step(step, lambda values=losses: self._named(values.numpy())):
                break
        self._check_finite()
        self._stop_if_asked()
        means = self._named(self.trainee.sums.numpy() / self.steps_per_epoch)
        self.trainee.sums.assign(np.zeros(len(self.TRAINEE.LOSSES)))
        return {
            "step": self.step,
            "lr": self.learning_rate_at(self.step - 1),
            **means,
            "seconds_per_image": self.timer.total.seconds_per_step / self.batch_size,
            "input_bound": self.timer.total.input_bound,
            "seconds": self.timer.total.seconds,
        }

    def _examples(self) -> Iterator[detection_pipeline.Example]:
        """Returns the examples of the rest of the epoch."""
        config = self.config
        return iter(detection_pipeline.examples(self.images, self.recipe, config.seed, self.step, config.threads))

    def _next(self, examples: Iterator[detection_pipeline.Example], step: int) -> detection_pipeline.Example:
        """Returns the next example; raises TrainingError if an image cannot be decoded."""
        try:
            return next(examples)
        except tf.errors.OpError as error:
            paths = " or ".join(annotation.path for annotation in self._images_of(step))
            raise TrainingError(
                f"{paths}: cannot be decoded ({error.message.splitlines()[0]}). Replace it, or remove its name from "
                f"the split; {dataset.CHECK} DATA lists all such files."
            ) from error

    def _images_of(self, step: int) -> Sequence[Annotation]:
        """Returns the images of a step, counted from 0."""
        first = step // self.steps_per_epoch * self.images.count + step % self.steps_per_epoch * self.batch_size
        return [self.images.at(self.config.seed, first + place) for place in range(self.batch_size)]

    # Output.

    def _show(self, step: int, losses: Mapping[str, float]) -> None:
        if not self.timer.total.seconds_per_step:
            return
        seconds, count = self.timer.total.seconds_per_step / self.batch_size, self.batch_size
        scalars = {f"training/{name}": value for name, value in losses.items()}
        scalars |= {"training/learning_rate": self.learning_rate_at(step - 1), "speed/seconds_per_image": seconds}
        self.board.write(step, scalars)
        done = (step - 1) % self.steps_per_epoch + 1
        mean = self._named(self.trainee.sums.numpy() / done)["loss"]
        epoch, left = f"{len(self.history) + 1}/{self.recipe.epochs}", seconds * count * (self.total_steps - step)
        self.line.show(
            detector_reporting.step_line(epoch, done * count, self.steps_per_epoch * count, seconds, mean, left)
        )

    def _epoch_line(self, row: dict) -> str:
        return detector_reporting.epoch_line(row, self.recipe.epochs)

    def _log_epoch(self, row: dict) -> None:
        self.board.write(row["step"], {f"epoch/{name}": row[name] for name in self.TRAINEE.LOSSES})
        self.board.draw(row["step"], self._pictures())

    def _pictures(self) -> dict[str, np.ndarray]:
        """Draws the current detections on the first images; uint8 arrays (height, width, 3) by name."""
        pictures = {}
        for annotation in self.images.annotations[:_DRAWN]:
            image = annotation.read()
            found = self.detector(image)
            marks = draw.detection_marks(found[found.scores >= _SHOWN], self.classes)
            pictures[f"detections/{annotation.id}"] = np.asarray(draw.draw(image, marks))
        return pictures

    def _plot(self, path: str) -> None:
        detector_reporting.plot(path, f"{self.config.name}, {self.images.name}", self.history)

    def _remedies(self, bad_step: int) -> str:
        paths = " or ".join(annotation.path for annotation in self._images_of(bad_step))
        return f", or check the boxes of {paths}"

    def _facts(self) -> dict:
        return {"model": self.model_path("last")}

    def _named(self, losses: np.ndarray) -> dict[str, float]:
        """Returns the losses by name."""
        return dict(zip(self.TRAINEE.LOSSES, losses.tolist(), strict=True))


def _describe(config: DetectorRunConfig, images: detection_pipeline.Images, classes: tuple[str, ...]) -> dict:
    """Returns the description of a run for its record."""
    known = {"fingerprint": images.fingerprint, "photos": images.count, "name": images.name}
    return {
        "name": config.name,
        "config": config.fixed() | config.recipe.settings() | {"classes": list(classes)},
        "class_names": list(classes),
        "data": {"train": known | images.content()},
        **run_record.origin(),
    }
