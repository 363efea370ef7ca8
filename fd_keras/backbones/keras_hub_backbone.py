"""The networks as `keras_hub.models.FeaturePyramidBackbone`."""

import contextlib
import os
from collections.abc import Iterator
from typing import Any

import keras
import keras_hub

from fd_keras.backbones import trunk


@keras.saving.register_keras_serializable(package="fd_keras")
@trunk.documented
class KerasHubBackbone(keras_hub.models.FeaturePyramidBackbone):
    """A network of this package as a backbone for keras-hub's detectors, segmenters and classifiers.

    `dtype`, an argument of the base class, is the dtype policy of all layers.

    Example:
        >>> encoder = fd_keras.backbones.KerasHubBackbone("fd_mobilenet", alpha=0.5, weights="imagenet")
        >>> pyramid = keras_hub.models.RetinaNetBackbone(encoder, min_level=3, max_level=7)
        >>> keras_hub.models.RetinaNetObjectDetector(pyramid, num_classes=20, bounding_box_format="xyxy")
    """

    presets: Any = trunk.PRESETS  # a class property in the base class

    def __init__(
        self,
        network: str = "fd_mobilenet",
        alpha: float = 1.0,
        groups: int | None = None,
        stem_multiplier: float | None = None,
        image_shape: tuple[int | None, ...] = (None, None, 3),
        include_preprocessing: bool = True,
        weights: str | os.PathLike | None = None,
        dtype: Any = None,
        **kwargs: Any,
    ):
        source = trunk.Trunk(network, alpha, groups, stem_multiplier, tuple(image_shape), include_preprocessing)
        with _dtype_policy(dtype):
            net = source.build(weights)
        super().__init__(inputs=net.input, outputs=net.output, dtype=dtype, **({"name": net.name} | kwargs))
        self.source, self.image_shape = source, source.image_shape
        self.pyramid_outputs = {level: net.get_layer(name).output for level, name in source.levels().items()}

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments, for saving."""
        return {**super().get_config(), **self.source.config()}

    @classmethod
    def from_preset(cls, preset: str, load_weights: bool = True, **kwargs: Any) -> "KerasHubBackbone":
        """Loads a backbone with published weights, or from a folder that `save_to_preset` wrote.

        Args:
            preset: Key of `presets`, or another preset that keras-hub accepts, such as the path of a folder.
            load_weights: Whether to load the weights; False for random weights.
            kwargs: Arguments that are not in the preset, such as `image_shape`.

        Raises:
            ValueError: If there is no such preset, or the arguments do not match the weights.
            OSError: If the weights cannot be downloaded.
        """
        if preset not in trunk.PRESETS:
            return super().from_preset(preset, load_weights=load_weights, **kwargs)
        return cls(**trunk.preset_config(preset, load_weights), **kwargs)


@contextlib.contextmanager
def _dtype_policy(dtype: Any) -> Iterator[None]:
    """Sets the dtype policy of layers that are built in the block; None keeps Keras's setting."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(keras.dtype_policies.get(dtype) if dtype else before)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


# keras-hub finds the preprocessing and the classifier of a preset by these classes' `backbone_cls`.


@keras.saving.register_keras_serializable(package="fd_keras")
class KerasHubImageConverter(keras_hub.layers.ImageConverter):
    """Resizes photos for `KerasHubBackbone`, which normalizes them.

    For a backbone with include_preprocessing=False, pass `**fd_keras.imagenet.rescaling()`: its scale and offset.
    """

    backbone_cls = KerasHubBackbone


@keras.saving.register_keras_serializable(package="fd_keras")
class KerasHubImageClassifierPreprocessor(keras_hub.models.ImageClassifierPreprocessor):
    """Prepares photos for `KerasHubImageClassifier`."""

    backbone_cls = KerasHubBackbone
    image_converter_cls = KerasHubImageConverter


@keras.saving.register_keras_serializable(package="fd_keras")
class KerasHubImageClassifier(keras_hub.models.ImageClassifier):
    """A classifier with a `KerasHubBackbone`, found by `keras_hub.models.ImageClassifier.from_preset`."""

    backbone_cls = KerasHubBackbone
    preprocessor_cls = KerasHubImageClassifierPreprocessor
