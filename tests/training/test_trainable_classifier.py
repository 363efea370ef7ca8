import keras
import numpy as np
import pytest

from fd_keras.training import recipes, trainable_classifier


def test_mixing_equals_the_layers_of_keras():
    """Compares mixing with Keras's MixUp and CutMix, which do not run in the training step on all backends."""
    images = np.random.default_rng(0).random((4, 6, 8, 3)).astype("float32")
    order, own = np.roll(np.arange(4), 1), np.array([0.2, 0.5, 0.7, 1], "float32")
    mixed_up = keras.layers.MixUp().transform_images(images, {"permutation_order": order, "mix_weight": own})
    ours = trainable_classifier.mix(keras.ops.array(images), own, np.zeros((4, 4), "int32"))
    np.testing.assert_allclose(*map(keras.ops.convert_to_numpy, (ours, mixed_up)), rtol=1e-5)
    box = np.array([[0, 1, 3, 5]] * 4, "int32")
    masks = np.zeros(images.shape, bool)
    masks[:, 0:3, 1:5] = True
    cut = {"permutation_order": order, "mix_weight": own, "batch_masks": masks}
    ours = trainable_classifier.mix(keras.ops.array(images), own, box)
    expected = keras.layers.CutMix().transform_images(images, cut)
    np.testing.assert_array_equal(*map(keras.ops.convert_to_numpy, (ours, expected)))


def test_mixed_labels_are_weighted_in_the_loss():
    recipe = recipes.PAPER.override(image_size=32, mixup=0.2)
    trainee = trainable_classifier.TrainableClassifier(
        trainable_classifier.build_net("fd_mobilenet", 0.25, 32, 2), recipe, 2
    )
    trainee.compile("sgd", keras.losses.CategoricalCrossentropy(from_logits=True))
    logits = np.array([[2.0, 0.0], [0.0, 1.0]], "float32")
    x = {"own": np.full(2, 0.75, "float32")}
    loss = trainee.compute_loss(x, np.array([0, 1]), keras.ops.array(logits), np.ones(2, "float32"), training=False)
    log = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    targets = np.array([[0.75, 0.25], [0.25, 0.75]])
    assert float(loss) == pytest.approx(-(targets * log).sum(1).mean(), abs=1e-6)


def test_averages_follow_the_weights():
    recipe = recipes.PAPER.override(image_size=32, ema_decay=0.5)
    trainee = trainable_classifier.TrainableClassifier(
        trainable_classifier.build_net("fd_mobilenet", 0.25, 32, 2), recipe, 2
    )
    start = trainee.net.weights[0].numpy()
    trainee.net.weights[0].assign(start + 1)
    trainee._note(keras.ops.array(1.0))  # the first step's decay is 1 / 10
    np.testing.assert_allclose(trainee.averages[0].numpy(), start + 0.9, atol=1e-6)
    assert (int(trainee.steps), int(trainee.bad_step)) == (1, -1)
    trainee._note(keras.ops.array(float("nan")))
    trainee._note(keras.ops.array(float("nan")))
    assert int(trainee.bad_step) == 1


def _trainee(teacher=None, class_weights=None, **settings):
    recipe = recipes.PAPER.override(image_size=32, **settings)
    net = trainable_classifier.build_net("fd_mobilenet", 0.25, 32, 3)
    trainee = trainable_classifier.TrainableClassifier(net, recipe, 3, teacher, class_weights)
    trainee.compile("sgd", keras.losses.CategoricalCrossentropy(from_logits=True))
    return trainee


def _log_softmax(logits):
    return logits - np.log(np.exp(logits).sum(-1, keepdims=True))


LOGITS, LABELS = np.array([[2.0, 0, -1], [0, 1, 1], [1, 1, 3]], "float32"), np.array([0, 2, 1])


def test_class_weights_scale_the_loss():
    trainee = _trainee(class_weights=[0.5, 2.0, 1.5])
    cross_entropy = -_log_softmax(LOGITS)[range(3), LABELS]
    for own in (np.ones(3), np.array([1.0, 0.0, 1.0])):  # weight 0 is for photos that cannot be decoded
        loss = trainee.compute_loss({}, LABELS, keras.ops.array(LOGITS), own.astype("float32"), training=False)
        expected = (cross_entropy * np.array([0.5, 1.5, 2.0]) * own).sum() / 3
        assert float(loss) == pytest.approx(expected, rel=1e-5)


def test_the_teacher_has_its_share_of_the_loss():
    answers = np.array([[0.7, 0.2, 0.1], [0.1, 0.1, 0.8], [0.3, 0.3, 0.4]])
    shown = []

    def teacher(images):
        shown.append(np.asarray(images))
        return keras.ops.array(np.log(answers))

    trainee = _trainee(teacher, teacher_share=0.6, teacher_temperature=2.0)
    trainee._answers = teacher
    images = np.random.default_rng(0).uniform(0, 255, (3, 32, 32, 3)).astype("float32")
    x, weights = {"image": images, "flip": np.array([0.0, 1.0, 0.0], "float32")}, np.ones(3, "float32")
    loss = trainee.compute_loss(x, LABELS, keras.ops.array(LOGITS), weights, training=True)
    wanted, given = _log_softmax(np.log(answers) / 2), _log_softmax(LOGITS / 2)
    divergence = (np.exp(wanted) * (wanted - given)).sum(-1).mean()
    cross_entropy = -_log_softmax(LOGITS)[range(3), LABELS].mean()
    assert float(loss) == pytest.approx(0.4 * cross_entropy + 0.6 * 4 * divergence, rel=1e-5)
    np.testing.assert_array_equal(
        shown[0], np.stack([images[0], images[1, :, ::-1], images[2]])
    )  # as the student receives them
    validation = trainee.compute_loss(x, LABELS, keras.ops.array(LOGITS), weights, training=False)
    assert float(validation) == pytest.approx(cross_entropy, rel=1e-5)


def test_a_teacher_is_not_trained():
    teacher = trainable_classifier.build_net("fd_mobilenet", 0.25, 32, 3, activation="softmax")
    ours = {id(weight) for weight in _trainee(teacher).weights}
    assert not ours & {id(weight) for weight in teacher.weights}
