"""The loop on a handful of made-up photos: learning, what a run leaves, errors, and runs that are killed."""

import csv
import json
import os
import pathlib
import signal

import keras
import numpy as np
import pytest
from PIL import Image

from fd_keras.applications import build_by_name
from fd_keras.training import run_lifecycle
from fd_keras.training.voc import dataset, detection_pipeline, detector, detector_run, metric
from fd_keras.training.voc.detector_recipe import DetectorRecipe

ROOT = pathlib.Path(__file__).parents[3]
CLASSES = ("amber", "blue")
COLOURS = ((220, 150, 40), (40, 60, 200))
RECIPE = DetectorRecipe(
    short_side=64, long_side=96, roi_size=4, anchor_size=16, rpn_channels=16, min_size=4, freeze_stride=0, epochs=2,
    test_proposals=50, train_proposals=200,
)  # fmt: skip


def write_devkit(folder: pathlib.Path, count: int) -> pathlib.Path:
    """Photos of differing sizes with one or two bright rectangles on grey noise; a third is difficult."""
    for name in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (folder / name).mkdir(parents=True)
    rng = np.random.default_rng(0)
    for number in range(count):
        width, height = rng.integers(64, 90, 2)
        pixels = rng.normal(120, 25, (height, width, 3))
        objects = []
        for place in range(1 + number % 2):
            label = (number + place) % 2
            x, y = 3 + 32 * place + rng.integers(0, 4), rng.integers(3, 30)
            x2, y2 = x + rng.integers(20, 27), y + rng.integers(20, 30)
            pixels[y:y2, x:x2] = COLOURS[label]
            sides = zip(("xmin", "ymin", "xmax", "ymax"), (x + 1, y + 1, x2, y2), strict=True)
            box = "".join(f"<{tag}>{side}</{tag}>" for tag, side in sides)
            difficult = int(place == 1 and number % 3 == 0)
            objects.append(
                f"<object><name>{CLASSES[label]}</name><difficult>{difficult}</difficult><bndbox>{box}</bndbox></object>"
            )
        image = Image.fromarray(pixels.clip(0, 255).astype("uint8"))
        image.save(folder / "JPEGImages" / f"{number:03}.jpg", quality=92)
        size = f"<size><width>{width}</width><height>{height}</height><depth>3</depth></size>"
        (folder / "Annotations" / f"{number:03}.xml").write_text(f"<annotation>{size}{''.join(objects)}</annotation>")
    names = "".join(f"{number:03}\n" for number in range(count))
    (folder / "ImageSets" / "Main" / "trainval.txt").write_text(names)
    return folder


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> pathlib.Path:
    return write_devkit(tmp_path_factory.mktemp("voc") / "VOC", 6)


@pytest.fixture(scope="module")
def annotations(photos):
    return dataset.open_split(str(photos), "trainval", CLASSES)


def make(annotations, run_dir, recipe=RECIPE, said=None, **config) -> detector_run.DetectorRun:
    asked = detector_run.DetectorRunConfig(recipe, "fd_mobilenet", alpha=0.25, run_dir=str(run_dir), **config)
    return detector_run.DetectorRun(
        asked, detection_pipeline.Images("photos", annotations), CLASSES, (said if said is not None else []).append
    )


# --- inputs ------------------------------------------------------------------------------------------------


def test_examples_are_a_pure_function_of_seed_and_step(annotations):
    images = detection_pipeline.Images("photos", annotations)
    whole = [list(detection_pipeline.examples(images, RECIPE, 3, epoch * images.count)) for epoch in range(2)]
    part = list(detection_pipeline.examples(images, RECIPE, 3, images.count + 4))
    for one, other in zip(whole[1][4:], part, strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))
    orders = [images.order(3, epoch).tolist() for epoch in range(2)]
    assert sorted(orders[0]) == sorted(orders[1]) == list(range(images.count))
    assert orders[0] != orders[1]
    assert images.at(3, images.count + 4) is images.annotations[orders[1][4]]


@pytest.mark.parametrize("flip", [0.0, 1.0])
def test_boxes_stay_on_their_objects(annotations, flip):
    """The pixels inside are the object's colour, those a little further are not."""
    images = detection_pipeline.Images("photos", annotations)
    for example in detection_pipeline.examples(images, RECIPE.override(flip=flip), 0, 0):
        image = example.image.numpy()
        assert min(image.shape[:2]) == 64
        assert len(example.truth) == len(example.labels) > 0
        for (x1, y1, x2, y2), label in zip(example.truth.numpy(), example.labels.numpy(), strict=True):
            distance = np.abs(image - COLOURS[label]).mean(axis=-1)
            inside = distance[round(y1) + 2 : round(y2) - 2, round(x1) + 2 : round(x2) - 2]
            rim = distance[max(round(y1) - 3, 0), round(x1) : round(x2)]
            assert inside.mean() < 12
            assert rim.mean() > 25


def test_difficult_objects_are_not_trained_on(annotations):
    images = detection_pipeline.Images("photos", annotations)
    examples = list(detection_pipeline.examples(images, RECIPE, 0, 0))
    assert sum(len(example.labels) for example in examples) == sum(int((~a.difficult).sum()) for a in annotations)
    assert any(a.difficult.any() for a in annotations)


def test_images_without_objects_are_left_out(annotations):
    empty = dataset.Annotation("x", "x.jpg", 9, 9, np.zeros((0, 4), "float32"), np.zeros(0, "int64"), np.zeros(0, bool))
    assert detection_pipeline.Images("photos", [*annotations, empty]).left_out == 1
    with pytest.raises(ValueError, match="photos: no image has an object"):
        detection_pipeline.Images("photos", [empty])


# --- the loop ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def start_weights(annotations, tmp_path_factory) -> str:
    """A classifier with random kernels whose batch normalizations know the photos: frozen ones have to."""
    keras.utils.set_random_seed(0)
    net = build_by_name("fd_mobilenet", alpha=0.25, input_shape=(64, 64, 3), weights=None, classes=2)
    batch = np.stack([dataset.read_image(annotation.path)[:64, :64] for annotation in annotations]).astype("float32")
    for _ in range(60):
        net(batch, training=True)
    path = tmp_path_factory.mktemp("weights") / "classifier.keras"
    net.save(path)
    return str(path)


LEARNED = RECIPE.override(epochs=6, drop_every=5, learning_rate=0.01)


@pytest.fixture(scope="module")
def learned(annotations, start_weights, tmp_path_factory):
    """A run that saw its photos often enough to know them: its folder, what it said, its closing facts."""
    run_dir, said = tmp_path_factory.mktemp("learned"), []
    run = make(annotations * 14, run_dir, LEARNED, said, seed=1, init_weights=start_weights)
    return run_dir, said, run.train()


def test_a_handful_of_photos_is_learned(learned, annotations):
    one = detector.load(str(learned[0]))
    scores = metric.VocMetric(one.classes)
    for annotation in annotations:
        scores.process(annotation, one(dataset.read_image(annotation.path)))
    assert scores.evaluate().map11 > 0.95


def test_what_a_run_leaves(learned):
    run_dir, said, facts = learned
    with open(run_dir / "history.csv") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 6
    assert rows[-1]["step"] == "504"
    assert float(rows[-1]["loss"]) < 0.4 * float(rows[0]["loss"])
    parts = sum(float(rows[-1][name]) for name in ("rpn_objectness", "rpn_box", "class", "box"))
    assert parts == pytest.approx(float(rows[-1]["loss"]), rel=1e-4)
    assert [float(rows[n]["lr"]) for n in (0, 4, 5)] == pytest.approx([0.01, 0.01, 0.001])
    assert facts["plot"]
    assert os.path.getsize(facts["plot"]) > 1000
    told = json.loads((run_dir / "run.json").read_text())
    assert told["config"]["backbone"] == "fd_mobilenet"
    assert told["config"]["roi_size"] == 4
    assert told["class_names"] == list(CLASSES)
    assert told["result"]["last"]["epoch"] == 6
    assert "epoch 6/6  loss 0." in said[-1]
    (events,) = (run_dir / "tensorboard").iterdir()
    tags = ("training/rpn_objectness", "training/rpn_box", "training/class", "training/box", "detections/000")
    assert all(tag.encode() in events.read_bytes() for tag in tags)
    one = detector.load(str(run_dir))
    assert one.classes == CLASSES
    assert one.config["alpha"] == 0.25
    assert one.name == "faster_rcnn_fd_mobilenet_0.25_64"


def test_loading_what_is_no_run(learned, tmp_path):
    with pytest.raises(FileNotFoundError, match="no run of training.voc.train"):
        detector.load(str(tmp_path))
    with pytest.raises(ValueError, match="kind='first'"):
        detector.load(str(learned[0]), "first")
    (tmp_path / "run.json").write_text("{}")
    with pytest.raises(ValueError, match="run.json: not what training.voc.train writes"):
        detector.load(str(tmp_path))
    (tmp_path / "run.json").write_text((learned[0] / "run.json").read_text())
    with pytest.raises(FileNotFoundError, match="at the end of every epoch"):
        detector.load(str(tmp_path))


def test_another_run_in_the_same_folder_is_refused(learned, annotations, start_weights):
    with pytest.raises(ValueError, match="holds another run: --learning_rate was 0.01, now 0.02"):
        recipe = LEARNED.override(learning_rate=0.02)
        make(annotations * 14, learned[0], recipe, seed=1, init_weights=start_weights)


def test_a_loss_that_is_no_number_stops_the_run(annotations, tmp_path):
    said = []
    run = make(annotations, tmp_path, RECIPE.override(learning_rate=1e9), said, checkpoint_every=100)
    assert said == ["warning: the backbone is random, and little will be learned; give --init_weights"]
    with pytest.raises(
        run_lifecycle.TrainingError, match=r"no longer a number at step [1-9].*none yet.*--learning_rate"
    ):
        run.train()


def test_an_image_that_cannot_be_decoded_is_named(annotations, tmp_path):
    copy = write_devkit(tmp_path / "VOC", 6)
    found = dataset.open_split(str(copy), "trainval", CLASSES)
    broken = copy / "JPEGImages" / "002.jpg"
    broken.write_bytes(broken.read_bytes()[:300])
    with pytest.raises(run_lifecycle.TrainingError, match="002.jpg: cannot be decoded.*--check"):
        make(found, tmp_path / "run").train()


def test_a_run_that_is_asked_to_stop_saves_itself_and_goes_on(annotations, tmp_path):
    run = make(annotations, tmp_path, checkpoint_every=100)
    step, told = run.trainee.step, []

    def interrupted(example):
        if run.step == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        return step(example)

    run.trainee.step = interrupted
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(
        run_lifecycle.Stopped, match="saved step 4 of 12 to .*step_000000004.npz; the same command"
    ) as stopped:
        run.train()
    assert stopped.value.signal == signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) is before
    with pytest.raises(OSError, match="another process is training into it"):
        make(annotations, tmp_path, checkpoint_every=100)
    run._lock.close()
    again = make(annotations, tmp_path, said=told, checkpoint_every=100)
    assert told[-1] == f"resumed at step 4 of 12 ({tmp_path})"
    for given, expected in zip(again.trainee.variables, run.trainee.variables, strict=True):
        assert np.array_equal(given.numpy(), expected.numpy())


# --- resuming ----------------------------------------------------------------------------------------------

STEPS = 18  # 6 photos, 3 epochs


def test_a_killed_detector_ends_at_the_same_bits(photos, program_of, tmp_path):
    recipe = {name: value for name, value in RECIPE.settings().items() if value != getattr(DetectorRecipe(), name)}
    program = program_of(
        "training.voc.train", "--alpha=0.25", f"--classes={','.join(CLASSES)}", f"--voc_dir={photos}", "--threads=2",
        "--checkpoint_every=2", *(f"--{name}={value}" for name, value in (recipe | {"epochs": 3}).items()),
    )  # fmt: skip
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    program.finish(whole)
    assert program.start(broken, dies_in=2).wait(timeout=300) == -signal.SIGKILL, program.log(broken)
    assert program.newest(broken) == 2
    assert f"resumed at step 2 of {STEPS}" in program.finish(broken)
    program.assert_equal(whole, broken, 3, "kernel", "moving_variance", "momentum", "iteration", "steps")
