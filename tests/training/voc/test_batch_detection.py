import json

import numpy as np
import pytest

from fd_keras.training.voc import batch_detection, dataset
from fd_keras.training.voc.detections import Detections

KEY = {"model": "1234", "split": "test"}


class Counting:
    """A detector that fails at a given call; detections only depend on the image."""

    def __init__(self, fails_at: int | None = None):
        self.calls, self._fails_at = 0, fails_at

    def __call__(self, image: np.ndarray) -> Detections:
        self.calls += 1
        if self.calls == self._fails_at:
            raise KeyboardInterrupt
        count = image.shape[1] % 4
        random = np.random.default_rng(image.shape[1])
        corner = random.uniform(0, 9, (count, 2)).astype("float32")
        boxes = np.concatenate([corner, corner + 1 / 3], -1).astype("float32")
        return Detections(boxes, random.random(count).astype("float32"), random.integers(0, 20, count))


@pytest.fixture
def images(devkit):
    names = [f"{number:06}" for number in range(6)]
    for width, name in enumerate(names, 40):
        devkit.add(name, width=width)
    devkit.split("test", *names)
    return dataset.open_split(str(devkit), "test")


def same(first: dict, second: dict) -> bool:
    def arrays(found):
        return [(a.dtype, a.shape, a.tolist()) for i in found.values() for a in (i.boxes, i.scores, i.labels)]

    return list(first) == list(second) and arrays(first) == arrays(second)


@pytest.fixture
def whole(images):
    return batch_detection.detect_all(Counting(), images, None, KEY)


def test_an_interrupted_evaluation_is_resumed(images, whole, tmp_path, capsys):
    folder = tmp_path / "new" / "out"
    with pytest.raises(KeyboardInterrupt):
        batch_detection.detect_all(Counting(fails_at=4), images, str(folder), KEY)
    path = folder / batch_detection.PARTIAL
    path.write_bytes(path.read_bytes() + b'{"id": "000003", "boxes": [[1,')  # as after a kill during a write
    again = Counting()
    assert same(batch_detection.detect_all(again, images, str(folder), KEY), whole)
    assert again.calls == 3
    told = capsys.readouterr().err
    assert "resumed after 3 of 6 images" in told
    assert "3 images in " in told
    assert [json.loads(line).get("id") for line in path.read_text().splitlines()] == [None, *whole]
    batch_detection.finish(str(folder))
    assert not list(folder.iterdir())


def test_a_truncated_number_is_not_read(images, whole, tmp_path):
    batch_detection.detect_all(Counting(), images, str(tmp_path), KEY)
    path = tmp_path / batch_detection.PARTIAL
    path.write_bytes(path.read_bytes()[:-1])  # all but the newline
    again = Counting()
    assert same(batch_detection.detect_all(again, images, str(tmp_path), KEY), whole)
    assert again.calls == 1


@pytest.mark.parametrize("left", ["", "{", '{"model": "5678", "split": "test"}\n'])
def test_detections_of_another_detector_are_ignored(images, whole, tmp_path, left):
    (tmp_path / batch_detection.PARTIAL).write_text(left)
    again = Counting()
    assert same(batch_detection.detect_all(again, images, str(tmp_path), KEY), whole)
    assert again.calls == 6
    done = Counting()
    assert same(batch_detection.detect_all(done, images, str(tmp_path), KEY), whole)
    assert done.calls == 0
