"""RetinaNet runs on a few synthetic photos: files, errors, and a killed run."""

import signal

import numpy as np
import pytest

from fd_keras.training.voc import detection_pipeline, detector
from fd_keras.training.voc.annotation import read_image
from fd_keras.training.voc.retinanet_run import RetinaNetRun, RetinaNetRunConfig
from tests.training.voc.small_retinanet import SMALL
from tests.training.voc.tiny_voc import CLASSES

FLAGS = {"side": 64, "batch_size": 2, "freeze_stride": 0, "epochs": 1}


def make_run(annotations, run_dir, recipe=SMALL, **config) -> RetinaNetRun:
    asked = RetinaNetRunConfig(recipe, "fd_mobilenet", alpha=0.25, run_dir=str(run_dir), **config)
    return RetinaNetRun(asked, detection_pipeline.Images("photos", annotations), CLASSES, say=lambda line: None)


def test_a_killed_retinanet_run_resumes_with_equal_bits(
    voc_photos, annotations, program_of, training_programs, tmp_path
):
    program = program_of(
        training_programs, "fd_keras.training.voc.train", "--detector=retinanet", "--alpha=0.25",
        f"--classes={','.join(CLASSES)}", f"--voc_dir={voc_photos}", "--threads=2", "--checkpoint_every=1",
        *(f"--{name}={value}" for name, value in FLAGS.items()),
    )  # fmt: skip
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    program.finish(whole)
    assert program.interrupt(broken, signal.SIGKILL, write=2) == -signal.SIGKILL, program.log(broken)
    assert program.newest(broken) == 1
    assert "resumed at step 1 of 3" in program.finish(broken)
    program.assert_equal(whole, broken, 1, "kernel", "moving_variance", "momentum", "iteration", "steps")

    one = detector.load(str(whole))
    assert (one.name, one.classes) == ("retinanet_fd_mobilenet_0.25_64", CLASSES)
    found = one(read_image(annotations[0].path))
    assert found.boxes.shape == (len(found), 4)


def test_invalid_configurations_are_named(annotations, tmp_path):
    with pytest.raises(ValueError, match="1 images do not fill a batch; reduce --batch_size=2"):
        make_run(annotations[:1], tmp_path / "few")
    with pytest.raises(
        ValueError, match="google.tflite: .tflite weights are only supported for --detector=faster_rcnn"
    ):
        make_run(annotations, tmp_path / "google", init_weights="google.tflite")


def test_the_images_of_a_step_are_those_of_its_batch(annotations, tmp_path):
    run = make_run(annotations[:5], tmp_path)  # two steps an epoch, one image left over
    for step in range(4):
        epoch, place = divmod(step, 2)
        order = run.images.order(0, epoch)[2 * place : 2 * place + 2]
        assert [image.id for image in run._images_of(step)] == [annotations[index].id for index in order]
    assert run.total_steps == 6
    assert np.isclose(run.learning_rate_at(0), SMALL.learning_rate)
