import json
import math

import keras
import numpy as np
import pytest
from sklearn.metrics import accuracy_score, top_k_accuracy_score

from fd_keras.head import HEADS
from fd_keras.litert import Runner
from fd_keras.tflite.format import sidecar
from fd_keras.tflite.verification.compare import Comparison, compare, failures, keras_classifier, tflite_classifier

CLASSES = 12


@pytest.fixture
def scores() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(300, CLASSES)).astype("float32")


@pytest.fixture
def reference(scores) -> np.ndarray:
    return scores + np.random.default_rng(1).normal(scale=0.4, size=scores.shape).astype("float32")


@pytest.fixture
def labels(scores) -> np.ndarray:
    """Labels that match the first class for about a third of the images."""
    rng = np.random.default_rng(2)
    return np.where(rng.random(300) < 0.3, scores.argmax(axis=1), rng.integers(0, CLASSES, 300))


def compared(scores, reference, labels=None, batch: int = 300, head: str = "classes") -> Comparison:
    result = Comparison(HEADS[head])
    for start in range(0, len(scores), batch):
        chunk = slice(start, start + batch)
        result.update(scores[chunk], reference[chunk], None if labels is None else labels[chunk])
    return result


@pytest.mark.parametrize("batch", [300, 32, 7, 1])
def test_accuracies_are_scikit_learn_s(scores, reference, labels, batch):
    record = compared(scores, reference, labels, batch).percentages()
    for k, key in ((1, "top1"), (5, "top5")):
        expected = 100 * top_k_accuracy_score(labels, scores, k=k, labels=range(CLASSES))
        assert record[key] == pytest.approx(expected, abs=1e-9), key
    expected = 100 * accuracy_score(reference.argmax(axis=1), scores.argmax(axis=1))
    assert 50 < record["agreement"] < 100
    assert record["agreement"] == pytest.approx(expected, abs=1e-9)
    assert record["largest_error"] == pytest.approx(np.max(np.abs(scores - reference)), rel=1e-6)
    assert record["images"] == 300


def test_counts_are_of_images(scores, reference, labels):
    result = compared(scores, reference, labels)
    assert result.top1 == sum(row.argmax() == label for row, label in zip(scores, labels, strict=True))
    assert result.top5 == sum(label in np.argsort(row)[-5:] for row, label in zip(scores, labels, strict=True))


@pytest.mark.parametrize("batch", [300, 7])
def test_drop_is_that_of_paired_images(scores, reference, labels, batch):
    """The interval is that of the mean of differences of -1, 0 and 1, for images that are better, equal or worse."""
    record = compared(scores, reference, labels, batch).percentages()
    right, right_before = scores.argmax(axis=1) == labels, reference.argmax(axis=1) == labels
    worse, better = np.mean(right_before & ~right), np.mean(right & ~right_before)
    assert worse > 0
    assert better > 0
    assert record["drop"] == pytest.approx(100 * (worse - better), abs=1e-9)
    variance = worse + better - (worse - better) ** 2
    assert record["drop_margin"] == pytest.approx(196 * math.sqrt(variance / 300), rel=1e-9)


def test_a_model_against_itself_loses_nothing(scores, labels):
    record = compared(scores, scores, labels).percentages()
    assert (record["agreement"], record["largest_error"], record["drop"], record["drop_margin"]) == (100, 0, 0, 0)


def test_without_labels_there_are_no_accuracies(scores, reference):
    record = compared(scores, reference).percentages()
    assert {key for key, value in record.items() if value is None} == {"top1", "top5", "drop", "drop_margin"}
    assert compared(scores, reference).by_class() == []


def test_accuracy_without_correct_labels_is_zero_not_none(scores, reference):
    wrong = scores.argmin(axis=1)
    record = compared(scores, reference, wrong).percentages()
    assert (record["top1"], record["top5"]) == (0, 0)


def test_the_first_of_tied_classes_counts():
    flat = np.ones((CLASSES, CLASSES), "float32")
    result = compared(flat, np.eye(CLASSES, dtype="float32"), np.arange(CLASSES))
    assert (result.top1, result.top5, result.agreeing) == (1, 5, 1)


def test_ties_for_the_first_place_are_counted():
    rows = np.array([[3, 3, 1], [3, 1, 1], [2, 2, 2], [0, 5, 5], [0, 0, 5]], "float32")
    assert compared(rows, rows, batch=2).ties == 3


def test_fewer_than_five_classes_have_a_top_five_of_all(scores, labels):
    record = compared(scores[:, :3], scores[:, :3], labels % 3).percentages()
    assert record["top5"] == 100


def test_classes_are_sorted_by_drop():
    eye = np.eye(3, dtype="float32")
    labels = np.array([0, 0, 1, 1, 2])
    reference, own = eye[[0, 0, 1, 0, 2]], eye[[0, 1, 0, 1, 0]]
    assert compared(own, reference, labels, batch=2).by_class() == [
        {"label": 2, "images": 1, "reference": 100, "top1": 0},
        {"label": 0, "images": 2, "reference": 100, "top1": 50},
        {"label": 1, "images": 2, "reference": 50, "top1": 50},
    ]


def test_another_number_of_classes_is_rejected_with_both_numbers(scores, reference):
    with pytest.raises(ValueError, match=r"\(12,\).*\(11,\)"):
        Comparison().update(scores, reference[:, :-1])


def test_nan_scores_do_not_count_as_exact(scores, reference):
    """A float16 overflow causes such scores."""
    broken = scores.copy()
    broken[7] = np.nan
    for batch in (1, 300):
        assert not math.isfinite(compared(broken, reference, batch=batch).largest_error)


def test_record_is_strict_json(scores, reference, labels):
    record = compared(scores, reference, labels).percentages()
    assert json.loads(json.dumps(record, allow_nan=False)) == record


# --- outputs that are not classes ---------------------------------------------------------------------------


def probabilities(outputs: int, low: float, high: float) -> np.ndarray:
    return np.random.default_rng(5).uniform(low, high, (300, outputs)).astype("float32")


REFERENCES = {
    "scores": probabilities(1, 0, 1),
    "scores on one side": probabilities(1, 0.8, 0.95),
    "scores hardly apart": probabilities(1, 0.52, 0.5201),
    "scores of labels": probabilities(4, 0, 1),
    "scores of labels on one side": probabilities(4, 0, 0.3),
    "values": probabilities(1, 20, 60),
    "values of an embedding": np.maximum(np.random.default_rng(6).normal(1, 1, (300, 64)), 0).astype("float32"),
    "logits": np.random.default_rng(7).normal(0, 3, (300, 8)).astype("float32"),
    "classes": np.random.default_rng(8).dirichlet(np.ones(5), 300).astype("float32"),
    "classes, one of them always first": np.hstack([probabilities(1, 5, 6), probabilities(2, 0, 1)]),
}


def wrong(reference: np.ndarray) -> dict[str, np.ndarray]:
    """Outputs of files that must not pass the check."""
    mean = reference.mean(axis=0)
    found = {
        "inverted": 1 - reference,
        "mirrored": 2 * mean - reference,
        "constant": np.broadcast_to(mean, reference.shape),
        "constant, the reference's first": np.broadcast_to(reference[0], reference.shape),
        "of the image before": np.roll(reference, 1, axis=0),
        "not numbers": np.full_like(reference, np.nan),
    }
    return found | ({"shuffled labels": np.roll(reference, 1, axis=1)} if reference.shape[1] > 1 else {})


def faults(outputs: np.ndarray, reference: np.ndarray, head: str) -> list[str]:
    records = [
        {"file": "it", **compared(values, reference, head=head).percentages()} for values in (reference, outputs)
    ]
    assert failures(records[:1] * 2, 1.0, 92.0, 50.0) == []
    return failures(records, 1.0, 92.0, 50.0)


@pytest.mark.parametrize("name", REFERENCES)
def test_wrong_outputs_do_not_pass(name):
    reference, head = REFERENCES[name], name.split()[0].strip(",")
    for what, outputs in wrong(reference).items():
        assert faults(outputs, reference, head), what


@pytest.mark.parametrize("name", sorted(REFERENCES.keys() - {"scores hardly apart"}))
def test_int8_errors_pass(name):
    """The outputs have noise as from quantization, and 256 levels between their minimum and maximum."""
    reference, head = REFERENCES[name], name.split()[0].strip(",")
    low, step = reference.min(), (reference.max() - reference.min()) / 255
    rounded = np.round((reference - low) / step + np.random.default_rng(9).normal(0, 1, reference.shape)) * step + low
    assert faults(rounded.astype("float32"), reference, head) == []


def test_one_wrong_label_of_many_is_enough():
    reference = REFERENCES["scores of labels"]
    outputs = reference.copy()
    outputs[:, 2] = 1 - outputs[:, 2]
    result = compared(outputs, reference, head="scores", batch=32)
    assert result.agreeing == np.sum((outputs[:, 2] >= 0.5) == (reference[:, 2] >= 0.5))
    assert result.percentages()["correlation"] == pytest.approx(-1)


def test_one_score_counts_as_two_classes():
    scores, reference = (np.array(rows, "float32")[:, None] for rows in ([0.9, 0.2, 0.7, 0.4], [0.9, 0.2, 0.3, 0.4]))
    record = compared(scores, reference, np.array([1, 0, 0, 1]), head="scores").percentages()
    assert (record["top1"], record["drop"], record["agreement"], record["ties"]) == (50, 25, 75, 0)


def test_compare_feeds_every_batch_once_and_puts_the_reference_first(scores, labels):
    seen = []

    def reference(images):
        seen.append(len(images))
        return images

    batches = [(scores[:100], labels[:100]), (scores[100:], labels[100:])]
    results = compare(reference, [lambda x: -x, lambda x: x], iter(batches))
    assert seen == [100, 200]
    assert [result.images for result in results] == [300, 300, 300]
    assert [result.agreeing for result in results] == [300, 0, 300]
    assert results[0].top1 == results[2].top1 == np.sum(scores.argmax(axis=1) == labels)


def test_compare_without_labels(scores):
    (own, other) = compare(lambda x: x, [lambda x: x], iter([(scores, None)]))
    assert own.top1 is None
    assert other.agreeing == 300


def normalized(images: np.ndarray) -> np.ndarray:
    """Normalizes images with torchvision's constants."""
    return (images / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]


def test_keras_classifier_normalizes_for_a_model_that_does_not(images):
    images = images[:, :8, :8]  # few enough that a mean in float32 is exact to the tolerance
    image = keras.Input((*images.shape[1:],))
    mean = keras.Model(image, keras.layers.GlobalAveragePooling2D()(image))
    raw = keras_classifier(mean)(images)
    np.testing.assert_allclose(raw, images.mean(axis=(1, 2)), rtol=1e-5)
    own = keras_classifier(mean, include_preprocessing=False)(images)
    np.testing.assert_allclose(own, normalized(images).mean(axis=(1, 2)), atol=1e-5)


@pytest.mark.parametrize("include_preprocessing", [True, False])
def test_tflite_classifier_takes_raw_images_either_way(convert_tiny, images, include_preprocessing):
    path = convert_tiny("float32", include_preprocessing)
    fed = images if include_preprocessing else normalized(images)
    expected = Runner(path)(fed)
    np.testing.assert_allclose(tflite_classifier(path, 1)(images), expected, atol=1e-6)


def test_tflite_file_without_sidecar_takes_raw_images(convert_tiny, images, tmp_path):
    path = tmp_path / "alone.tflite"
    with open(convert_tiny("float32"), "rb") as file:
        path.write_bytes(file.read())
    np.testing.assert_array_equal(tflite_classifier(str(path), 1)(images), Runner(path)(images))


def test_tflite_classifier_names_a_damaged_sidecar(convert_tiny, tmp_path):
    path = tmp_path / "a.tflite"
    with open(convert_tiny("float32"), "rb") as file:
        path.write_bytes(file.read())
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(ValueError, match=r"a\.json"):
        tflite_classifier(str(path), 1)
    assert sidecar.sidecar_path(str(path)) == str(tmp_path / "a.json")
