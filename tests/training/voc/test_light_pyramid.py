import numpy as np
import pytest

from fd_keras import zoo
from fd_keras.backbones import KerasCVBackbone
from fd_keras.training.voc import light_pyramid, retinanet
from fd_keras.training.voc.retinanet_recipe import DEFAULT

CHANNELS, SIDE = 16, 128


@pytest.mark.parametrize("network", zoo.ARCHS)
def test_the_pyramid_of_every_network_has_five_levels(network):
    backbone = KerasCVBackbone(network, alpha=0.25)
    pyramid = light_pyramid.arguments(backbone, 3, CHANNELS)["feature_pyramid"]
    names = backbone.pyramid_level_inputs
    levels = {
        level: np.zeros((1, SIDE // stride, SIDE // stride, backbone.get_layer(names[level]).output.shape[-1]))
        for level, stride in zip(light_pyramid.LEVELS, (8, 16, 32), strict=True)
    }
    shapes = [tuple(features.shape) for features in pyramid(levels)]
    assert shapes == [(1, side, side, CHANNELS) for side in (16, 8, 4, 2, 1)]


def test_the_outputs_match_keras_cvs_anchors():
    net = retinanet.build_net(KerasCVBackbone(alpha=0.25), 3, DEFAULT.override(pyramid_channels=CHANNELS))
    found = net({"images": np.zeros((1, SIDE, SIDE, 3), "float32")}, training=False)
    anchors = sum(len(level) for level in net.anchor_generator(image_shape=(SIDE, SIDE, 3)).values())
    assert found["classification"].shape == (1, anchors, 3)
    assert found["box"].shape == (1, anchors, 4)


def test_it_is_smaller_than_keras_cvs_by_the_stated_factor():
    """With the default width, the pyramid and heads have less than a 25th of the weights of keras-cv's."""
    light, wide = (
        retinanet.build_net(KerasCVBackbone(alpha=0.25), 20, DEFAULT.override(pyramid_channels=channels))
        for channels in (DEFAULT.pyramid_channels, 0)
    )
    own = KerasCVBackbone(alpha=0.25).count_params()
    assert 25 * (light.count_params() - own) < wide.count_params() - own
