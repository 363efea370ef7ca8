import numpy as np
import pytest

from fd_keras.training import accuracy, input_pipeline, sources


def test_a_target_is_reached_within_its_tolerance():
    assert "reached" in accuracy.check(44.7, 45.1, "paper")
    with pytest.raises(ValueError, match="missed by 0.61"):
        accuracy.check(44.49, 45.1, "paper")


def test_hits_are_counted_over_batches():
    counted = accuracy.Accuracy()
    scores = np.eye(6, dtype="float32")[[0, 1]] + np.linspace(0.6, 0.1, 6, dtype="float32")
    counted.update(scores, np.array([0, 5]))  # correct; last of six
    counted.update(scores[:1], np.array([1]))  # second
    assert (counted.images, counted.top1, counted.top5) == (3, 1, 2)
    assert counted.percentages()["top5"] == pytest.approx(200 / 3)


def test_photos_that_cannot_be_decoded_have_no_accuracy(tmp_path):
    (tmp_path / "a.jpg").write_text("not a photo")
    source = sources.Folder("photos", [str(tmp_path / "a.jpg")], [0], ["cat", "dog"])
    feed = input_pipeline.Feed(sources.Share(), None, input_pipeline.BadImages(1))
    with pytest.raises(ValueError, match="photos: none of the photos can be decoded"):
        accuracy.score(lambda images: images, source, 32, 4, feed)
