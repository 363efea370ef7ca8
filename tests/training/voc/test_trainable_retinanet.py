import numpy as np
import pytest

from fd_keras.training.optimizer import TorchSGD
from fd_keras.training.voc.detection_pipeline import Images
from fd_keras.training.voc.trainable_retinanet import TrainableRetinaNet, batches
from tests.training.voc.small_retinanet import SMALL, WIDE, build


@pytest.fixture(scope="module")
def images(annotations):
    return Images("photos", annotations[:5])


def test_batches_are_padded_and_resume_at_any_step(images):
    first, second = batches(images, SMALL, seed=3, step=0)  # the fifth image does not fill a batch
    (resumed,) = batches(images, SMALL, seed=3, step=1)
    for whole, part in zip(second, resumed, strict=True):
        assert np.array_equal(whole, part)
    (other_epoch, _) = batches(images, SMALL, seed=3, step=2)
    assert not np.array_equal(first.image, other_epoch.image)
    assert any((batch.image.numpy() == 127.5).all(-1).any() for batch in (first, second))  # the photos are no squares
    for batch in (first, second):
        assert batch.image.shape == (2, 64, 64, 3)
        assert (batch.labels.numpy() >= -1).all()
        assert ((batch.truth.numpy() == -1).all(-1) == (batch.labels.numpy() == -1)).all()


@pytest.mark.parametrize("recipe", [SMALL, WIDE], ids=["light", "wide"])
def test_losses_equal_keras_cvs_and_frozen_layers_are_not_trained(images, recipe):
    detector = build(2, recipe)
    trainee = TrainableRetinaNet(detector, TorchSGD(0.01), seed=0)
    batch = next(iter(batches(images, SMALL, seed=0, step=0)))
    net = detector.net
    net.compile(classification_loss="focal", box_loss="smoothl1")
    predicted = net({"images": batch.image}, training=True)
    truth = {"boxes": batch.truth, "classes": batch.labels}
    expected = net.compute_loss(batch.image, truth, predicted, None)
    assert float(sum(trainee.losses(batch))) == pytest.approx(float(expected), rel=1e-4)

    before = {weight.path: weight.numpy() for weight in net.weights}
    losses = trainee.step(batch).numpy()
    assert losses[0] == pytest.approx(float(expected), rel=1e-4)
    assert losses[0] == pytest.approx(losses[1] + losses[2])
    changed = {weight.path for weight in net.weights if not np.array_equal(before[weight.path], weight.numpy())}
    parts = [*net.backbone.layers, *getattr(net.feature_pyramid, "layers", ())]
    statistics = {weight.path for layer in parts if layer.trainable for weight in layer.non_trainable_weights}
    assert changed <= {weight.path for weight in net.trainable_weights} | statistics
    assert len(changed) > 0.9 * len(net.trainable_weights)


def test_the_backbone_has_its_share_of_the_learning_rate(images):
    batch = next(iter(batches(images, SMALL, seed=0, step=0)))
    changes = []
    for share in (1.0, 0.1):
        net = (detector := build(2, SMALL.override(backbone_rate=share))).net
        before = [weight.numpy() for weight in net.trainable_weights]
        TrainableRetinaNet(detector, TorchSGD(0.01, weight_decay=0.1), seed=0).step(batch)
        changes.append([weight.numpy() - old for weight, old in zip(net.trainable_weights, before, strict=True)])
        own = {id(weight) for weight in net.backbone.trainable_weights}
    for weight, whole, part in zip(net.trainable_weights, *changes, strict=True):
        share = 0.1 if id(weight) in own else 1.0
        assert np.allclose(part, share * whole, rtol=1e-3, atol=1e-6)
    assert 0 < len(own) < len(changes[0])
