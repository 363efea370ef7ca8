import numpy as np
import pytest

pytestmark = pytest.mark.tensorflow_only(reason="the converter reads TensorFlow graphs")


def test_scores_of_the_keras_model_equal_those_of_the_tflite_file(data):
    from benchmarks.google_mobilenet import build
    from fd_keras import imagenet
    from fd_keras.litert import Runner
    from fd_keras.photos import list_images

    path = str(data / "weights" / "mobilenet_v1_0.25_224_1_default_1.tflite")
    photos = list_images(data / "imagenet" / "val")[::160]
    images = np.stack([imagenet.load_image(photo, resize=False) for photo in photos]).astype("float32")
    scores = Runner(path)(images / 127.5 - 1)[:, 1:]
    expected = scores / scores.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(build(path).predict_on_batch(images), expected, rtol=0, atol=1e-4)
