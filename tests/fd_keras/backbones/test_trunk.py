import pytest

from fd_keras import zoo
from fd_keras.backbones import trunk
from fd_keras.weights import CHECKPOINTS


def test_every_published_checkpoint_is_a_preset():
    presets = trunk.PRESETS
    assert len(presets) == len(CHECKPOINTS)
    assert {"fd_mobilenet_0.5_imagenet", "fd_mobilenet_0.25_imagenet_authors"} <= presets.keys()
    shufflenet = presets["shufflenet_g3_0.25_stem0.25_imagenet"]
    assert shufflenet["metadata"]["license"] == "MIT"
    assert shufflenet["config"] == {
        "network": "shufflenet",
        "alpha": 0.25,
        "groups": 3,
        "stem_multiplier": 0.25,
        "weights": "imagenet",
    }


@pytest.mark.parametrize("network", zoo.ARCHS)
def test_each_level_halves_the_previous_one(network):
    source = trunk.Trunk(network, 0.25, None, None, (64, 96, 3), include_preprocessing=True)
    net = source.build(None)
    shapes = {level: net.get_layer(name).output.shape[1:3] for level, name in source.levels().items()}
    assert shapes == {f"P{level}": (64 >> level, 96 >> level) for level in range(1, 6)}
    assert net.output is net.get_layer(source.levels()["P5"]).output
