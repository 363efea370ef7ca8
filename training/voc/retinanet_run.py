"""Trains a RetinaNet on batches of square images; all else is as for Faster R-CNN."""

import dataclasses
from collections.abc import Iterator
from typing import Any

from fd_keras.backbones.keras_cv_backbone import KerasCVBackbone
from fd_keras.training.voc import detection_pipeline, detector_reporting, retinanet
from fd_keras.training.voc.detector_run import DetectorRun, DetectorRunConfig
from fd_keras.training.voc.retinanet_recipe import RetinaNetRecipe
from fd_keras.training.voc.trainable_retinanet import TrainableRetinaNet, batches


@dataclasses.dataclass(frozen=True)
class RetinaNetRunConfig(DetectorRunConfig):
    """Configuration of a RetinaNet's run, see `DetectorRunConfig`."""

    detector = "retinanet"

    recipe: RetinaNetRecipe


class RetinaNetRun(DetectorRun):
    """A RetinaNet's run, see `DetectorRun`."""

    TRAINEE = TrainableRetinaNet
    COLUMNS = detector_reporting.columns(TRAINEE.LOSSES)

    config: RetinaNetRunConfig

    @property
    def batch_size(self) -> int:
        """Number of images in a step."""
        return self.recipe.batch_size

    def _built(self) -> retinanet.RetinaNet:
        config = self.config
        if config.init_weights and config.init_weights.endswith(".tflite"):
            raise ValueError(
                f"--init_weights={config.init_weights}: .tflite weights are only supported for --detector=faster_rcnn."
            )
        under = KerasCVBackbone(
            config.backbone, config.alpha, config.groups, config.stem_multiplier, weights=config.init_weights
        )
        return retinanet.RetinaNet(retinanet.build_net(under, len(self.classes), self.recipe), self.recipe)

    def _clipping(self) -> dict[str, Any]:
        return {"global_clipnorm": self.recipe.clip_norm}

    def _examples(self) -> Iterator[detection_pipeline.Example]:
        config = self.config
        return iter(batches(self.images, self.recipe, config.seed, self.step, config.threads))
