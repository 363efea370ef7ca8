import io
import os

import numpy as np
import pytest
from PIL import Image

from fd_keras.training.voc import draw
from tests.training.voc.found import EVALUATED, detections_of


def test_boxes_are_drawn_at_their_positions():
    pixels = np.zeros((120, 160, 3), "uint8")
    image = np.asarray(draw.draw(pixels, [draw.Mark((40, 50, 99, 89), "", "#ff0000")]))
    red = (image == (255, 0, 0)).all(-1)
    ys, xs = np.nonzero(red)
    assert (xs.min(), ys.min(), xs.max(), ys.max()) == (40, 50, 99, 89)
    assert not red[55:85, 45:95].any()
    assert not pixels.any()


@pytest.mark.parametrize("box", [(0, 0, 159, 119), (150, 0, 159, 5), (3.5, 4.5, 3.5, 4.5), (-5, -5, 500, 500)])
@pytest.mark.parametrize("dashed", [False, True])
def test_labels_stay_on_the_image(box, dashed):
    pixels = np.full((120, 160, 3), 128, "uint8")
    bare = np.asarray(draw.draw(pixels, [draw.Mark(box, "", "#00ff00", dashed)]))
    image = np.asarray(draw.draw(pixels, [draw.Mark(box, "pottedplant 0.99", "#00ff00", dashed)]))
    assert image.shape == pixels.shape
    label = (image != bare).any(-1)
    assert label.sum() > 300  # the whole label is visible
    assert {tuple(pixel) for pixel in image[label]} >= {(0, 255, 0), (0, 0, 0)}


def test_detections_have_names_and_consecutive_classes_different_colors():
    marks = draw.detection_marks(detections_of([[0, 0, 9, 9], [0, 0, 5, 5]], [0.2, 0.1], [1, 0]), EVALUATED)
    assert [mark.text for mark in marks] == ["cat 0.10", "dog 0.20"]  # the best one last
    assert len({draw.class_color(label) for label in range(20)}) == 20


def test_drawings_are_saved_in_their_format(tmp_path):
    image = Image.fromarray(np.zeros((9, 9, 3), "uint8"))
    for name, kind in (("a.png", "PNG"), ("a.jpg", "JPEG")):
        draw.save(image, str(tmp_path / name))
        assert Image.open(io.BytesIO((tmp_path / name).read_bytes())).format == kind
    assert sorted(os.listdir(tmp_path)) == ["a.jpg", "a.png"]
