import re

import numpy as np

from fd_keras.training.finetune import page_confusion
from tests.page_probe import ParsedPage


def test_the_matrix_is_shaded_by_share_of_the_row():
    html = page_confusion.confusion(np.array([[8, 2], [0, 4]]), ["a", "b"])
    page = ParsedPage(html)
    assert page.texts["th"] == ["a", "b", "a", "b"]
    assert page.texts["td"][1:] == ["8", "2", "", "4"]
    assert re.findall(r'<td( class="hit")? style="--s:(\d+)%">(\d+)', html) == [
        (' class="hit"', "36", "8"),
        ("", "9", "2"),
        (' class="hit"', "45", "4"),
    ]


def test_a_class_without_photos_has_an_empty_row():
    assert ParsedPage(page_confusion.confusion(np.zeros((2, 2), int), ["a", "b"])).texts["td"][1:] == [""] * 4


def test_many_classes_are_listed_as_pairs():
    count = page_confusion.MOST_CLASSES + 1
    matrix = 3 * np.eye(count, dtype=int)
    matrix[4, 7], matrix[2, 1] = 6, 1
    names = [f"<{i}>" for i in range(count)]
    page = ParsedPage(page_confusion.confusion(matrix, names))
    assert page.texts["th"][4:] == ["<4>", "<2>"]
    assert page.texts["td"] == ["<7>", "6", "67%", "<1>", "1", "25%"]
    assert "matrix" in page_confusion.confusion(matrix[:-1, :-1], names[:-1])
