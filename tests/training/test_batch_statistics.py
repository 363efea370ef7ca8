import keras
import numpy as np

from fd_keras.training import batch_statistics


def test_statistics_are_the_means_of_the_batches():
    random = np.random.default_rng(0)
    batches = [random.normal(mean, 2, (8, 4, 4, 3)).astype("float32") for mean in (0, 3, 5)]
    image = keras.Input((4, 4, 3))
    norm = keras.layers.BatchNormalization(momentum=0.9)
    after = keras.layers.BatchNormalization(momentum=0.8)
    net = keras.Model(image, after(norm(image)))
    batch_statistics.estimate(net, batches)
    np.testing.assert_allclose(norm.moving_mean.numpy(), np.mean([x.mean((0, 1, 2)) for x in batches], 0), rtol=1e-5)
    np.testing.assert_allclose(norm.moving_variance.numpy(), np.mean([x.var((0, 1, 2)) for x in batches], 0), rtol=1e-4)
    np.testing.assert_allclose(after.moving_variance.numpy(), 1, atol=0.01)  # each batch is normalized by itself
    assert (norm.momentum, after.momentum) == (0.9, 0.8)
