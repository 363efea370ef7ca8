"""The networks as `keras_cv.models.Backbone`."""

import os
from typing import Any

import keras
import keras_cv
from keras_cv.src.utils import preset_utils  # the only way to write a preset's folder; 0.9.0 is the last release

from fd_keras.backbones import trunk


@keras.saving.register_keras_serializable(package="fd_keras")
@trunk.documented
class KerasCVBackbone(keras_cv.models.Backbone):
    """A network of this package as a backbone for keras-cv's detectors, segmenters and classifiers.

    Example:
        >>> backbone = fd_keras.backbones.KerasCVBackbone("fd_mobilenet", alpha=0.5, weights="imagenet")
        >>> keras_cv.models.RetinaNet(backbone=backbone, num_classes=20, bounding_box_format="xyxy")
    """

    presets: Any = trunk.PRESETS  # class properties in the base class
    presets_with_weights: Any = trunk.PRESETS

    def __init__(
        self,
        network: str = "fd_mobilenet",
        alpha: float = 1.0,
        groups: int | None = None,
        stem_multiplier: float | None = None,
        image_shape: tuple[int | None, ...] = (None, None, 3),
        include_preprocessing: bool = True,
        weights: str | os.PathLike | None = None,
        **kwargs: Any,
    ):
        source = trunk.Trunk(network, alpha, groups, stem_multiplier, tuple(image_shape), include_preprocessing)
        net = source.build(weights)
        super().__init__(inputs=net.input, outputs=net.output, **({"name": net.name} | kwargs))
        self.source = source
        self.pyramid_level_inputs = source.levels()

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments, for saving."""
        return {**super().get_config(), **self.source.config()}

    @classmethod
    def from_preset(cls, preset: str, load_weights: bool | None = None, **kwargs: Any) -> "KerasCVBackbone":
        """Loads a backbone with published weights, or from a folder that `save_to_preset` wrote.

        Args:
            preset: Key of `presets`, or path of a folder.
            load_weights: Whether to load the weights; False for random weights.
            kwargs: Arguments that are not in the preset, such as `image_shape`.

        Raises:
            ValueError: If there is no such preset, or the arguments do not match the weights.
            OSError: If the weights cannot be downloaded.
        """
        if preset not in trunk.PRESETS:
            return super().from_preset(preset, load_weights=load_weights, **kwargs)
        return cls(**trunk.preset_config(preset, load_weights is not False), **kwargs)

    def save_to_preset(self, preset_dir: str) -> None:
        """Writes the configuration and the weights to a folder; creates it if it does not exist."""
        preset_utils.save_to_preset(self, preset_dir)
