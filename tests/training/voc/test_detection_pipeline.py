import numpy as np
import pytest

from fd_keras.training.voc import dataset, detection_pipeline
from fd_keras.training.voc.annotation import Annotation
from fd_keras.training.voc.retinanet_recipe import DEFAULT as RETINANET
from fd_keras.training.voc.retinanet_recipe import GRAY
from tests.training.voc.tiny_voc import COLORS, RECIPE


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
    """Pixels inside a box have the object's color; those slightly outside do not."""
    images = detection_pipeline.Images("photos", annotations)
    for example in detection_pipeline.examples(images, RECIPE.override(flip=flip), 0, 0):
        image = example.image.numpy()
        assert min(image.shape[:2]) == 64
        assert len(example.truth) == len(example.labels) > 0
        for (x1, y1, x2, y2), label in zip(example.truth.numpy(), example.labels.numpy(), strict=True):
            distance = np.abs(image - COLORS[label]).mean(axis=-1)
            inside = distance[round(y1) + 2 : round(y2) - 2, round(x1) + 2 : round(x2) - 2]
            rim = distance[max(round(y1) - 3, 0), round(x1) : round(x2)]
            assert inside.mean() < 12
            assert rim.mean() > 25


def test_zoomed_images_keep_boxes_on_their_objects(annotations):
    """Images are enlarged up to twice, reduced to half, cropped, and padded with gray to the square."""
    images = detection_pipeline.Images("photos", annotations)
    recipe = RETINANET.override(side=64, zoom=2.0)
    sides, dropped, shifted = [], 0, 0
    for epoch in range(8):
        first = epoch * images.count
        for place, example in enumerate(detection_pipeline.examples(images, recipe, 0, first)):
            image = example.image.numpy()
            source = images.at(0, first + place)
            dropped += int((~source.difficult).sum()) - len(example.labels)
            shifted += bool((image[0] == GRAY).all() or (image[:, 0] == GRAY).all())
            for (x1, y1, x2, y2), label in zip(example.truth.numpy(), example.labels.numpy(), strict=True):
                assert min(x1, y1) >= 0
                assert max(x2, y2) <= 64
                inside = image[round(y1) + 2 : round(y2) - 2, round(x1) + 2 : round(x2) - 2]
                assert np.abs(inside - COLORS[label]).mean() < 15
                sides.append((x2 - x1) / source.width)
    assert max(sides) / min(sides) > 2
    assert dropped > 0
    assert shifted > 0


def test_zoomed_examples_are_a_pure_function_of_seed_and_step(annotations):
    images = detection_pipeline.Images("photos", annotations)
    whole, part = (
        list(detection_pipeline.examples(images, RETINANET.override(side=64, zoom=2.0), 3, step)) for step in (0, 4)
    )
    for one, other in zip(whole[4:], part, strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def test_difficult_objects_are_not_trained_on(annotations):
    images = detection_pipeline.Images("photos", annotations)
    examples = list(detection_pipeline.examples(images, RECIPE, 0, 0))
    assert sum(len(example.labels) for example in examples) == sum(int((~a.difficult).sum()) for a in annotations)
    assert any(a.difficult.any() for a in annotations)


def test_images_without_objects_are_skipped(annotations):
    empty = Annotation("x", "x.jpg", 9, 9, np.zeros((0, 4), "float32"), np.zeros(0, "int64"), np.zeros(0, bool))
    assert detection_pipeline.Images("photos", [*annotations, empty]).left_out == 1
    with pytest.raises(ValueError, match="photos: no image has an object"):
        detection_pipeline.Images("photos", [empty])


def test_changed_images_are_detected(devkit, voc_object):
    devkit.add("a", voc_object("cat", 1, 1, 9, 9))
    devkit.split("train", "a")
    before, after = [], []
    for found in (before, after):
        images = detection_pipeline.Images("photos", dataset.open_split(str(devkit), "train"))
        found += [images.fingerprint, images.content()]
        content = bytearray(devkit.image("a").read_bytes())
        content[-1] ^= 1
        devkit.image("a").write_bytes(content)
    assert before[0] == after[0]
    assert before[1]["sizes"] == after[1]["sizes"]
    assert before[1]["sample"] != after[1]["sample"]
