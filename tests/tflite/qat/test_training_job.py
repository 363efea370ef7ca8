import numpy as np
import pytest

from fd_keras.tflite.int8.fold import fold
from fd_keras.tflite.int8.graph import run
from fd_keras.tflite.qat import training_job
from fd_keras.tflite.qat.training_job import TrainingJob, TrainingSettings


@pytest.fixture
def job(tiny, tmp_path) -> TrainingJob:
    """A job with twenty images."""
    np.save(tmp_path / "images.npy", np.arange(20 * 12, dtype="uint8").reshape(20, 2, 2, 3))
    graph = fold(tiny)
    one = np.ones(3, "float32")
    settings = TrainingSettings(epochs=1, batch_size=8, learning_rate=0.1, seed=0)
    return TrainingJob(graph, graph, {}, str(tmp_path / "images.npy"), one, one, one, one, settings)


def test_every_eighth_image_is_held_out_and_all_others_are_trained_on(job):
    assert job.held_out.tolist() == [0, 8, 16]
    assert sorted([*job.held_out, *job.trained_on]) == list(range(20))
    assert job.steps == 3  # of 8, 8 and 1


def test_the_job_is_pickled_completely(job, images, tmp_path):
    training_job.save(str(tmp_path / "job"), job)
    again = training_job.load(str(tmp_path / "job"))
    assert again.training == job.training
    np.testing.assert_array_equal(again.images, job.images)
    np.testing.assert_array_equal(run(again.student, images[:2]), run(job.student, images[:2]))
