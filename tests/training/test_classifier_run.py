import csv
import dataclasses
import json
import logging
import os
import pathlib
import shutil

import keras
import numpy as np
import pytest

from fd_keras import image_classifier, imagenet
from fd_keras.saved import load_model
from fd_keras.training import checkpoint, classifier_run, data_sets, devices, recipes, reporting, run_record, table2
from fd_keras.training.run import TrainingError
from fd_keras.training.trainable_classifier import build_net
from tests import small_network

RECIPE = recipes.PAPER.override(image_size=32, batch_size=12, epochs=2, ema_decay=0.9, learning_rate=0.05)


pytestmark = pytest.mark.usefixtures("small")


def _run(photos, run_dir, said=None, recipe=RECIPE, **config):
    config = classifier_run.ClassifierRunConfig(
        recipe, small_network.NAME, alpha=0.25, run_dir=str(run_dir), **{"checkpoint_every": 3, "keep": 2} | config
    )
    said = [] if said is None else said
    return classifier_run.ClassifierRun(config, data_sets.open_data(f"folder:{photos}"), devices.Devices(), said.append)


@pytest.fixture(scope="module")
def finished(small, photos, tmp_path_factory):
    """A finished run, its results, and the lines it printed."""
    said = []
    run = _run(photos, tmp_path_factory.mktemp("finished") / "run", said)
    facts = run.train()
    run.close()
    return run, facts, said


def test_a_finished_run_has_written_all_files(finished):
    run, facts, said = finished
    folder = pathlib.Path(run.config.run_dir)
    with open(folder / "history.csv") as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows] == ["4", "8"]
    assert tuple(rows[0]) == reporting.COLUMNS
    told = json.loads((folder / "run.json").read_text())
    assert told["config"]["batch_size"] == 12
    assert told["data"]["train"]["photos"] == 48
    assert told["result"]["last"]["step"] == 8
    assert (folder / "classes.txt").read_text().split() == ["amber", "blue", "cyan"]
    assert (folder / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert [pathlib.Path(path).name for path in checkpoint.saved(str(folder / "checkpoints"))] == [
        "step_000000006.npz", "step_000000008.npz",
    ]  # fmt: skip
    assert list((folder / "tensorboard").iterdir())
    assert len(said) == 2
    assert said[0].startswith("epoch 1/2")
    assert facts["models"]["last"] in reporting.closing(run, facts)
    runs = run_record.runs_below([str(folder)])
    assert "small_0.25_32" in table2.table(runs)
    assert [row["epoch"] for row in table2.history_of(runs[0])] == [1, 2]


def test_the_saved_model_computes_probabilities_from_raw_images_with_averaged_weights(finished, photos):
    run, facts, _ = finished
    saved = load_model(facts["models"]["last"])
    image = imagenet.load_image(next((photos / "val" / "blue").iterdir()), (32, 32)).astype("float32")[None]
    scores = saved.predict_on_batch(image)
    assert scores.sum() == pytest.approx(1, abs=1e-5)
    for ours, average in zip(saved.get_weights(), run.trainee.averages, strict=True):
        np.testing.assert_array_equal(ours, average.numpy())


def test_validation_metrics_are_those_of_the_saved_model(finished, photos):
    from fd_keras.training import accuracy, input_pipeline

    run, facts, _ = finished
    model = load_model(facts["models"]["last"])
    scored = accuracy.score(accuracy.keras_classifier(model), run.data["val"], 32, 7, input_pipeline.Feed())
    assert scored.images == 15
    assert scored.percentages()["top1"] == pytest.approx(100 * facts["last"]["val_top1"], abs=1e-4)


def test_a_finished_run_does_not_train_again(finished, photos):
    run, facts, _ = finished
    said = []
    again = _run(photos, run.config.run_dir, said)
    assert "resumed at step 8 of 8" in said[0]
    assert again.train()["last"] == facts["last"]
    again.close()


@pytest.mark.parametrize(
    ("change", "flag"),
    [
        ({"seed": 5}, "--seed"),
        ({"recipe": RECIPE.override(epochs=3)}, "--epochs"),
        ({"freeze": "backbone"}, "--freeze"),
    ],
)
def test_a_run_with_other_settings_is_not_resumed(finished, photos, change, flag):
    with pytest.raises(ValueError, match=f"{flag} was .*another --run_dir"):
        _run(photos, finished[0].config.run_dir, **change)


def test_a_run_on_other_photos_is_not_resumed(finished, photos, tmp_path):
    shutil.copytree(photos, tmp_path / "photos")
    os.unlink(tmp_path / "photos" / "train" / "blue" / "blue_003.jpg")
    with pytest.raises(ValueError, match="train had 48 photos, now 47. Restore them"):
        _run(tmp_path / "photos", finished[0].config.run_dir)


def test_a_folder_is_locked_for_other_processes(photos, tmp_path):
    run = _run(photos, tmp_path / "run")
    with pytest.raises(OSError, match="another process"):
        _run(photos, tmp_path / "run")
    run.close()


def test_an_unwritable_folder_is_reported_before_training(photos, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="--run_dir=.*cannot write"):
        _run(photos, tmp_path / "file" / "run")


def test_a_full_disk_is_reported_before_training(photos, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**9, 10**9 - 1000, 1000))
    with pytest.raises(OSError, match="MB free, but the run needs"):
        _run(photos, tmp_path / "run")


def test_a_full_disk_during_training_keeps_the_last_checkpoint(photos, tmp_path, monkeypatch):
    run = _run(photos, tmp_path / "run")
    path = run.save()
    monkeypatch.setattr(os, "fsync", lambda descriptor: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(TrainingError, match="No space left.*same command"):
        run.save()
    assert [path] == checkpoint.saved(str(tmp_path / "run" / "checkpoints"))
    assert [name for name in os.listdir(tmp_path / "run" / "checkpoints") if name.startswith(".")] == []


def test_a_nan_loss_stops_the_run_and_names_the_step(photos, tmp_path, monkeypatch):
    run = _run(photos, tmp_path / "run", recipe=RECIPE.override(learning_rate=1e9, epochs=30))
    with pytest.raises(TrainingError, match=r"NaN or infinite at step [1-9] \(epoch \d\).*learning_rate") as caught:
        run.train()
    assert "--mixed_precision" not in str(caught.value)
    monkeypatch.setattr(keras.config, "dtype_policy", lambda: keras.DTypePolicy("mixed_float16"))
    with pytest.raises(TrainingError, match="or bfloat16 instead of --mixed_precision=float16"):
        run._check_finite()
    for path in checkpoint.saved(str(tmp_path / "run" / "checkpoints")):
        arrays, _ = checkpoint.read(path)
        assert next(value for key, value in arrays.items() if key.endswith("bad_step")) == -1


def test_photos_that_cannot_be_decoded_are_counted_and_named(photos, tmp_path, caplog):
    shutil.copytree(photos, tmp_path / "photos")
    (tmp_path / "photos" / "train" / "blue" / "blue_003.jpg").write_bytes(b"no photo")
    broken = tmp_path / "photos" / "val" / "cyan" / "cyan_001.jpg"
    broken.write_bytes(broken.read_bytes()[:300])
    once = RECIPE.override(epochs=1)
    run = _run(tmp_path / "photos", tmp_path / "run", recipe=once)
    with caplog.at_level(logging.WARNING):
        facts = run.train()
    assert [pathlib.Path(name).name for name in facts["bad_images"]] == ["blue_003.jpg", "cyan_001.jpg"]
    assert "skipped photos that cannot be decoded: 1 so far (" in caplog.text
    assert "blue_003.jpg)" in caplog.text
    assert facts["last"]["step"] == 4
    assert np.isfinite(facts["last"]["val_loss"])
    strict = _run(tmp_path / "photos", tmp_path / "strict", recipe=once, max_bad_images=0)
    with pytest.raises(TrainingError, match=r"decoded: 1 \(.*(blue_003|cyan_001).jpg\), more than --max_bad_images=0"):
        strict.train()


def test_fine_tuning_loads_and_freezes_the_backbone(finished, photos, tmp_path):
    _, facts, _ = finished
    source = tmp_path / "weights.keras"
    shutil.copy(facts["models"]["last"], source)
    other = tmp_path / "photos"
    shutil.copytree(photos, other)
    for split in ("train", "val"):
        shutil.copytree(other / split / "cyan", other / split / "turquoise")
    said = []
    once = RECIPE.override(epochs=1)
    run = _run(other, tmp_path / "run", said, once, init_weights=str(source), freeze="backbone")
    assert "with a new classifier" in said[0]
    taken = load_model(facts["models"]["last"]).get_layer("conv_pw_2").get_weights()[0]
    np.testing.assert_array_equal(taken, run.trainee.net.get_layer("conv_pw_2").get_weights()[0])
    assert [variable.path for variable in run.trainee.trainable_variables] == ["predictions/kernel", "predictions/bias"]
    before = run.trainee.net.get_layer("conv1_bn").get_weights()
    run.train()
    for old, new in zip(before, run.trainee.net.get_layer("conv1_bn").get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


@pytest.mark.parametrize("freeze", ["all", "-1", "99"])
def test_an_invalid_freeze_is_rejected(photos, tmp_path, freeze):
    with pytest.raises(ValueError, match="--freeze="):
        _run(photos, tmp_path / "run", freeze=freeze)


def test_the_config_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        classifier_run.ClassifierRunConfig(RECIPE, small_network.NAME, alpha=0.25, run_dir="run").seed = 1


def test_rare_classes_have_larger_weights_with_a_mean_of_one(photos, tmp_path):
    shutil.copytree(photos, tmp_path / "photos")
    for path in sorted((tmp_path / "photos" / "train" / "blue").iterdir())[4:]:
        path.unlink()
    counts = np.array([16, 4, 16])
    for power, expected in ((0.5, counts**-0.5), (1.0, 1 / counts)):
        run = _run(tmp_path / "photos", tmp_path / f"run{power}", recipe=RECIPE.override(class_balance=power))
        run.close()
        weights = np.array(run.trainee._class_weights)
        np.testing.assert_allclose(weights / weights[0], expected / expected[0])
        assert (weights * counts).sum() == pytest.approx(counts.sum())
    run = _run(photos, tmp_path / "even")
    run.close()
    assert run.trainee._class_weights is None


_TINY = RECIPE.override(image_size=48, epochs=2, reparam=True, progressive_size=0.5, bn_batches=2, crop_scale=0.36)


@pytest.fixture(scope="module")
def tiny(small, photos, tmp_path_factory):
    """A run with the recipe for tiny networks, except for wider networks, which `test_run` trains."""
    run = _run(photos, tmp_path_factory.mktemp("tiny") / "run", recipe=_TINY)
    facts = run.train()
    run.close()
    return run, facts


def test_a_tiny_network_is_saved_as_a_plain_one(tiny):
    run, facts = tiny
    saved = load_model(facts["models"]["last"])
    plain = build_net(small_network.NAME, 0.25, 48, 3, activation="softmax")
    assert [(type(layer), layer.name) for layer in saved.layers] == [
        (type(layer), layer.name) for layer in plain.layers
    ]
    assert [weight.shape for weight in saved.weights] == [weight.shape for weight in plain.weights]
    assert len(run.trainee.averages) == len(run.trainee.net.weights) > len(plain.weights)


def test_a_tiny_network_is_saved_with_its_branches_and_new_statistics(tiny):
    """Except for the statistics, it computes the same as the averaged weights of the network with branches."""
    run, facts = tiny
    net, saved = run.trainee.net, load_model(facts["models"]["last"])
    net.set_weights([average.numpy() for average in run.trainee.averages])
    images = np.random.default_rng(0).uniform(0, 255, (4, 48, 48, 3)).astype("float32")
    wanted, features = (
        np.asarray(keras.Model(each.input, each.get_layer("conv1").output)(images)) for each in (net, saved)
    )
    offset = (wanted - features).mean((0, 1, 2))
    np.testing.assert_allclose(features + offset, wanted, atol=1e-4 * np.abs(wanted).max())
    running = saved.get_layer("conv_pw_3_bn").get_weights()
    run.trainee.give_weights(run.model)
    assert (run.model.get_layer("conv_pw_3_bn").get_weights()[2] != running[2]).any()
    run._update_model()
    np.testing.assert_array_equal(run.model.get_layer("conv_pw_3_bn").get_weights()[2], running[2])


def test_a_tiny_network_is_converted_to_int8(tiny, photos, programs, tmp_path):
    model = tiny[1]["models"]["last"]
    flags = [f"--keras_model={model}", "--recipes=int8", f"--calibration_dir={photos / 'train'}", "--output_dir=files"]
    converted = programs.run("fd_keras.tflite.convert", flags, tmp_path)
    assert converted.returncode == 0, converted.stderr
    images = np.stack([imagenet.load_image(path, (48, 48)) for path in sorted((photos / "val").glob("*/*.jpg"))])
    (file,) = (tmp_path / "files").glob("*_int8.tflite")
    scores, rounded = (image_classifier.open_classifier(str(path))(images) for path in (model, file))
    assert (rounded.argmax(axis=1) == scores.argmax(axis=1)).sum() >= 12  # of 15


@pytest.mark.parametrize(
    ("recipe", "config", "message"),
    [
        ({"netaug": 2.0}, {"freeze": "backbone"}, "--netaug=2 trains all layers, but --freeze=backbone"),
        ({"reparam": True}, {"freeze": "2"}, "--reparam trains all layers, but --freeze=2"),
        ({"reparam": True}, {"init_weights": "imagenet"}, "leave out --init_weights=imagenet, or pass --noreparam"),
    ],
)
def test_contradictory_flags_are_rejected(photos, tmp_path, recipe, config, message):
    with pytest.raises(ValueError, match=message):
        _run(photos, tmp_path / "run", recipe=RECIPE.override(**recipe), **config)


def test_early_stopping_ends_a_run(photos, tmp_path, monkeypatch):
    losses = iter([1.0, 0.8, 0.9, 0.85, 0.1, 0.1])
    run = _run(photos, tmp_path / "run", recipe=RECIPE.override(epochs=6, patience=2))
    monkeypatch.setattr(run, "_train_epoch", lambda epoch: dict.fromkeys(reporting.COLUMNS[1:], 0))
    monkeypatch.setattr(run, "_evaluate", lambda: {"val_loss": next(losses), "val_top1": 0.5, "val_top5": 1.0})
    run.train()
    assert [row["val_loss"] for row in run.history] == [1.0, 0.8, 0.9, 0.85]
    run.close()


def test_a_teacher_changes_the_weights_and_must_have_the_same_classes(finished, photos, tmp_path):
    teacher = finished[1]["models"]["last"]
    ended = []
    for name, arguments in (("alone", {}), ("taught", {"teacher": teacher})):
        run = _run(photos, tmp_path / name, recipe=RECIPE.override(epochs=1), **arguments)
        run.train()
        run.close()
        ended.append(run.model.get_weights())
    assert len(ended[0]) == len(ended[1])  # no weights of the teacher are saved
    assert any((one != other).any() for one, other in zip(*ended, strict=True))
    (tmp_path / "two").mkdir()
    for split in ("train", "val"):
        for name in ("amber", "blue"):
            shutil.copytree(photos / split / name, tmp_path / "two" / split / name)
    with pytest.raises(ValueError, match="has 3 classes, but RGB images and 2 classes are needed. Train a"):
        _run(tmp_path / "two", tmp_path / "fewer", teacher=teacher)
    shutil.copytree(photos, tmp_path / "renamed")
    for split in ("train", "val"):
        (tmp_path / "renamed" / split / "amber").rename(tmp_path / "renamed" / split / "dark")
    with pytest.raises(ValueError, match="its class 0 is 'amber', but here it is 'blue'. Train a"):
        _run(tmp_path / "renamed", tmp_path / "other", teacher=teacher)
    with pytest.raises(ValueError, match="--teacher was None, now "):
        _run(photos, tmp_path / "alone", recipe=RECIPE.override(epochs=1), teacher=teacher)


def test_statistics_need_the_last_epoch(photos, tmp_path):
    with pytest.raises(ValueError, match="--bn_batches=2 needs the last epoch, which --patience=3 may skip"):
        _run(photos, tmp_path / "run", recipe=RECIPE.override(bn_batches=2, patience=3))


def test_validation_photos_that_cannot_be_decoded_are_an_error(small, photos, tmp_path):
    shutil.copytree(photos / "train", tmp_path / "data" / "train")
    for name in ("amber", "blue", "cyan"):
        (tmp_path / "data" / "val" / name).mkdir(parents=True)
        (tmp_path / "data" / "val" / name / "a.jpg").write_text("not a photo")
    run = _run(tmp_path / "data", tmp_path / "run", recipe=RECIPE.override(epochs=1), max_bad_images=9)
    with pytest.raises(TrainingError, match="none of the validation photos can be decoded"):
        run.train()
    run.close()
