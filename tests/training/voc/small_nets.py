"""Detectors that are fast to build and run."""

import functools

import keras

from fd_keras.training.voc import backbone, faster_rcnn
from fd_keras.training.voc.detector_recipe import DetectorRecipe

SMALL = DetectorRecipe(short_side=64, long_side=128, roi_size=4, anchor_size=16, rpn_channels=8, freeze_stride=0)


def build(name: str, recipe: DetectorRecipe = SMALL, classes: int = 3) -> keras.Model:
    keras.utils.set_random_seed(1)
    return faster_rcnn.build_net(backbone.choose(name, 0.25), classes, recipe)


@functools.cache
def net_of(name: str) -> keras.Model:
    """Returns the detector on a backbone, built once."""
    return build(name)
