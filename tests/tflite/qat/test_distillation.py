"""Tests the training process on a tiny network."""

import dataclasses
import json

import numpy as np
import pytest

from fd_keras.tflite.int8.fold import fold
from fd_keras.tflite.int8.graph import run
from fd_keras.tflite.int8.pipeline import prepare, ranges
from fd_keras.tflite.qat import training_job
from fd_keras.tflite.qat.training_job import TrainingJob, TrainingSettings
from fd_keras.tflite.recipes import Int8Settings

MODULE = "fd_keras.tflite.qat.distillation"


@pytest.fixture(scope="module")
def job(tiny, calibration, tmp_path_factory) -> TrainingJob:
    """A job whose student was only rounded, so that training can improve it."""
    path = tmp_path_factory.mktemp("job") / "images.npy"
    np.save(path, calibration.images)
    settings = Int8Settings(bias=False, compensate=False, fit=0.0)
    student, images = prepare(tiny, calibration.images, settings), calibration.images.astype("float32")
    return TrainingJob(
        fold(tiny),
        student,
        ranges(student, images, rounding=True),
        str(path),
        np.ones(1, "float32"),
        np.zeros(1, "float32"),
        images[:4],
        run(student, images[:4]).numpy(),
        TrainingSettings(epochs=2, batch_size=8, learning_rate=0.02, seed=0),
    )


@pytest.fixture(scope="module")
def train(run_in_tf_keras, tmp_path_factory):
    """Runs the training process on a job; returns the process and the path of the result."""

    def train(job: TrainingJob):
        folder = tmp_path_factory.mktemp("train")
        training_job.save(str(folder / "job"), job)
        return run_in_tf_keras("-m", MODULE, str(folder / "job"), str(folder / "result")), folder / "result"

    return train


def test_process_prints_each_step_and_keeps_the_best_weights(job, train):
    done, result = train(job)
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    held_out = [line["held_out"] for line in lines if "held_out" in line]
    assert [key for line in lines for key in line] == ["held_out", *(["loss"] * 4 + ["held_out"]) * 2]
    assert min(held_out) < held_out[0]
    student = training_job.load(str(result))
    assert list(student.nodes) == list(job.student.nodes)
    assert any((a.kernel != b.kernel).any() for a, b in zip(student.weighted, job.student.weighted, strict=True))


def test_a_twin_with_other_outputs_is_rejected(job, train):
    done, result = train(dataclasses.replace(job, expected=job.expected + 0.1))
    assert done.returncode == 1
    assert "The tf_keras twin's outputs are off by 0.1." in done.stderr
    assert not result.exists()


def test_a_loss_that_is_not_finite_ends_the_training(job, train):
    dense = job.teacher.weighted[-1]
    teacher = job.teacher.updated({dense.name: dense.replace(bias=np.full_like(dense.bias, np.nan))})
    done, result = train(dataclasses.replace(job, teacher=teacher))
    assert done.returncode == 1
    assert "the loss became NaN or infinite" in done.stderr
    assert not result.exists()
