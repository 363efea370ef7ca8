import dataclasses

import numpy as np
import pytest

from fd_keras.training.finetune import candidates, linear_head, plan, teachers
from fd_keras.training.finetune.candidates import FinetuneNetwork
from fd_keras.training.finetune.finetuning import Finetuning
from fd_keras.training.finetune.options import Options
from fd_keras.training.finetune.results import Measured
from fd_keras.training.finetune.split import Split
from tests import small_network
from tests.training.finetune.test_candidates import CLASSES, labeled, weights  # noqa: F401

NETWORK = FinetuneNetwork(small_network.NAME, 0.25, 32, CLASSES, None)


def certain(hits: int, total: int, share: float = 0.9) -> Measured:
    """Returns predictions, `hits` of which are correct, each with a probability."""
    labels = np.arange(total) % 3
    first = np.where(np.arange(total) < hits, labels, (labels + 1) % 3)
    probabilities = np.full((total, 3), (1 - share) / 2, "float32")
    probabilities[np.arange(total), first] = share
    return Measured([f"{n}.jpg" for n in range(total)], labels, probabilities)


@pytest.fixture
def split(photos) -> Split:
    return Split(CLASSES, tuple(labeled(photos, "train", 8)), tuple(labeled(photos, "val", 3)))


@pytest.fixture
def make(split, weights, tmp_path, monkeypatch):  # noqa: F811
    """A fine-tuning whose training runs are only recorded; each returns the untrained network."""
    trained = []

    def tune(network, recipe, train, held_out, run_dir, *, start, teacher, which, threads, say):
        model = network.build()
        trained.append({"run": run_dir.rpartition("/")[2], "photos": len(train), "start": start, "recipe": recipe,
                        "teacher": teacher, "which": which, "model": model})  # fmt: skip
        return model

    monkeypatch.setattr(candidates, "tune", tune)

    def make(given: bool = False, fresh: bool = False, tuned: Measured | None = None, **options):
        network = FinetuneNetwork(small_network.NAME, 0.25, 32, CLASSES, None if fresh else weights)
        if tuned is not None:
            monkeypatch.setattr(candidates, "measure", lambda model, photos: tuned)
        options = Options(**{"views": 1, "threads": 1, "overrides": {"epochs": 3}} | options)
        found = Finetuning(network, split, given, options, str(tmp_path / "work"), lambda line: None).run()
        return found, trained

    return make


def chosen(found) -> str:
    (one,) = (candidate.title for candidate in found.candidates if candidate.chosen)
    return one


def test_the_network_is_not_tuned_on_few_photos(make):
    """With 24 photos, the head is fitted again on all of them, and measured by cross-validation."""
    found, trained = make()
    assert (trained, chosen(found), found.refit) == ([], "linear head", True)
    assert found.candidates[0].measured.probabilities.shape == (33, 3)
    assert found.candidates[0].on_held_out.probabilities.shape == (9, 3)
    assert "33 photos" in found.how_measured
    assert "trained on 33 photos, including the held-out ones" in found.trained_on


def test_the_chosen_network_contains_the_measured_head(make, split):
    found, _ = make(refit="no")
    again = candidates.measure(found.model, split.held_out)
    np.testing.assert_allclose(found.candidates[0].measured.probabilities, again.probabilities, atol=1e-3)
    assert found.how_measured == "on 9 held-out photos"
    assert (found.refit, found.trained_on) == (False, "The files were trained on 24 photos.")


@pytest.mark.parametrize(("tuned", "title"), [(certain(9, 9), "fine-tuned"), (certain(0, 9), "linear head")])
def test_the_candidate_with_fewer_mistakes_is_chosen(make, monkeypatch, tuned, title):
    monkeypatch.setattr(plan, "FEWEST_TO_TUNE", 8)
    monkeypatch.setattr(candidates, "measure_head", lambda *_: certain(5, 9))
    found, trained = make(tuned=tuned)
    assert chosen(found) == title
    assert [one.title for one in found.candidates] == ["linear head", "fine-tuned"]
    assert [(one["run"], one["photos"]) for one in trained] == [("tune", 24), ("refit", 33)][
        : 1 + (title == "fine-tuned")
    ]
    assert all(one["recipe"].epochs == 3 and one["start"] is not None for one in trained)
    assert found.settings["kept"] == title


@pytest.mark.parametrize(("hits", "title"), [(7, "fine-tuned"), (6, "linear head"), (5, "linear head")])
def test_a_single_photo_more_is_chance_if_few_are_held_out(make, monkeypatch, hits, title):
    monkeypatch.setattr(candidates, "measure_head", lambda *_: certain(5, 9))
    monkeypatch.setattr(plan, "FEWEST_TO_TUNE", 8)
    assert chosen(make(tuned=certain(hits, 9))[0]) == title


def test_the_network_is_not_tuned_if_it_cannot_win(make, monkeypatch):
    monkeypatch.setattr(candidates, "measure_head", lambda *_: certain(8, 9))
    monkeypatch.setattr(plan, "FEWEST_TO_TUNE", 8)
    assert make()[1] == []
    monkeypatch.setattr(plan, "FEWEST_TO_HOLD_OUT", 9)
    assert [one["run"] for one in make()[1]][:1] == ["tune"]


@pytest.mark.parametrize(("share", "title"), [(0.99, "fine-tuned"), (0.5, "linear head")])
def test_with_equal_mistakes_on_many_photos_the_lower_cross_entropy_wins(make, monkeypatch, share, title):
    monkeypatch.setattr(candidates, "measure_head", lambda *_: certain(9, 9, 0.8))
    monkeypatch.setattr(plan, "FEWEST_TO_TUNE", 8)
    monkeypatch.setattr(plan, "FEWEST_TO_HOLD_OUT", 9)
    assert chosen(make(tuned=certain(9, 9, share))[0]) == title


def test_requested_tuning_is_always_chosen(make):
    found, trained = make(method="tune", tuned=certain(0, 9), refit="no", teacher="t.keras")
    assert chosen(found) == "fine-tuned"
    assert [(one["run"], one["teacher"]) for one in trained] == [("tune", "t.keras")]
    assert found.settings["teacher"] == "t.keras"


def test_class_balance_gives_rare_classes_more_weight_in_the_heads(split, weights, tmp_path, monkeypatch):  # noqa: F811
    """In the linear head and in that of the teacher."""
    fit, found = linear_head.fit, []
    monkeypatch.setattr(candidates, "tune", lambda network, *rest, **options: network.build())
    monkeypatch.setattr(linear_head, "fit", lambda *rest, weights: found.append(weights) or fit(*rest, weights=weights))
    uneven = dataclasses.replace(split, train=split.train[:18])  # 8, 8 and 2 photos
    network = dataclasses.replace(NETWORK, weights=weights)
    for overrides in ({}, {"class_balance": 1.0}):
        options = Options("tune", refit="no", views=1, teacher="auto", threads=1, overrides=overrides)
        Finetuning(network, uneven, False, options, str(tmp_path / str(overrides)), lambda line: None).run()
    balanced = np.repeat([0.75, 3.0], [16, 2])
    np.testing.assert_allclose(found, [np.ones(18), np.ones(18), balanced, balanced])


def test_given_photos_are_not_trained_on(make):
    found, _ = make(given=True)
    assert not found.refit


def test_training_from_scratch_is_compared_with_a_classifier_on_pixels(make):
    found, trained = make(fresh=True, refit="no")
    assert [one.title for one in found.candidates] == ["linear head on the pixels", "trained from scratch"]
    assert chosen(found) == "trained from scratch"
    assert (trained[0]["start"], trained[0]["recipe"].epochs) == (None, 3)


@pytest.mark.parametrize(("again", "failed"), [(certain(2, 9), True), (certain(8, 9), False)])
def test_a_failed_training_on_all_photos_is_discarded(make, monkeypatch, again, failed):
    measured = iter([certain(9, 9), again])
    monkeypatch.setattr(candidates, "measure", lambda *_: next(measured))
    found, trained = make(method="tune", refit="yes")
    assert [one["run"] for one in trained] == ["tune", "refit"]
    assert found.model is trained[0 if failed else 1]["model"]
    assert found.refit is not failed
    assert found.trained_on.startswith(f"The files were trained on {24 if failed else 33} photos")


def test_many_held_out_photos_select_the_epoch_without_a_refit(make, monkeypatch):
    monkeypatch.setattr(plan, "FEWEST_TO_CHOOSE_EPOCH", 9)
    found, trained = make(method="tune", refit="no")
    assert [one["which"] for one in trained] == ["best"]
    assert found.how_measured == "on 9 held-out photos, which also selected the epoch"
    trained.clear()
    found, trained = make(method="tune", refit="yes")
    assert [one["which"] for one in trained] == ["last", "last"]
    assert "chose" not in found.how_measured


def test_the_teacher_is_fitted_on_the_training_photos(make, monkeypatch):
    """Finally that is all photos. The teacher is chosen only once, and features are computed only once."""
    asked, made, computed = [], [], []
    wider = dataclasses.replace(NETWORK, alpha=0.5, enlarged_to=192)

    def save(network, values, labels, balance, path):
        made.append((network, len(values), len(labels), len(balance), path))
        return path

    def pooled_features(network, paths, views):
        computed.append(network)
        return np.random.default_rng(0).normal(size=(len(paths), views, 8)).astype("float32")

    monkeypatch.setattr(candidates, "pooled_features", pooled_features)
    monkeypatch.setattr(candidates, "measure_head", lambda *_: certain(5, 9))
    monkeypatch.setattr(teachers, "best", lambda network, features, labels: asked.append(len(labels)) or wider)
    monkeypatch.setattr(teachers, "save", save)
    found, trained = make(method="tune", teacher="auto")
    assert [one["run"] for one in trained] == ["tune", "refit"]
    assert made == [(wider, 24, 24, 24, trained[0]["teacher"]), (wider, 33, 33, 33, trained[1]["teacher"])]
    assert found.settings["teacher"] == "small_0.5_32 with a linear head on images enlarged to 192 pixels"
    assert asked == [24]
    assert len(computed) == 2  # the network's, then the teacher's


def test_a_saved_teacher_is_not_made_again(make, monkeypatch, tmp_path):
    saved = tmp_path / "work" / "tune" / "teacher.keras"
    saved.parent.mkdir(parents=True)
    saved.touch()
    monkeypatch.setattr(teachers, "best", lambda network, features, labels: NETWORK)
    monkeypatch.setattr(teachers, "save", None)
    assert make(method="tune", teacher="auto", refit="no")[1][0]["teacher"] == str(saved)


def test_an_epoch_has_several_passes_over_few_photos(make, split):
    """Unless the held-out photos select the epoch."""
    trained = make(method="tune", refit="no", overrides={"epochs": 16, "warmup_epochs": 2.0})[1]
    assert [(one["photos"], one["recipe"].epochs) for one in trained] == [(4 * 24, 4)]
    assert trained[0]["recipe"].warmup_epochs == 0.5


def test_epochs_that_are_selected_have_one_pass(make, monkeypatch):
    monkeypatch.setattr(plan, "FEWEST_TO_CHOOSE_EPOCH", 9)
    trained = make(method="tune", refit="no", overrides={"epochs": 16})[1]
    assert [(one["photos"], one["recipe"].epochs) for one in trained] == [(24, 16)]


@pytest.mark.parametrize(
    ("measured", "warned"),
    [(certain(8, 9), ["on only 9 photos"]), (certain(30, 90), ["not better than chance"]), (certain(80, 90), [])],
)
def test_uncertain_results_have_a_warning(make, measured, warned):
    found, _ = make(method="tune", tuned=measured, refit="no")
    assert len(found.warnings) == len(warned)
    assert all(word in warning for word, warning in zip(warned, found.warnings, strict=True))
