"""Base class of runs: folder, checkpoints, stops and results; interrupted runs resume with equal bits."""

import csv
import dataclasses
import os
import random
import signal
import time
import types

import keras
import numpy as np
import pytest

from fd_keras.program import Stopped
from fd_keras.training import checkpoint, run
from fd_keras.training.devices import Devices
from tests import small_network

STEPS = 4  # per epoch


@dataclasses.dataclass(frozen=True, kw_only=True)
class CountingConfig(run.RunConfig):
    name = "counter"


class CountingRun(run.TrainingRun):
    """A run that counts its steps, with a loss of 1 / step."""

    COLUMNS = ("epoch", "loss", "val_loss")

    def _build(self):
        self.recipe = types.SimpleNamespace(epochs=2, learning_rate=0.1)
        self.trainee = types.SimpleNamespace(
            steps=keras.Variable(0, dtype="int32", name="steps"), bad_step=keras.Variable(-1, dtype="int32", name="bad")
        )
        self.model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
        self.shown = []

    @property
    def variables(self):
        return [self.trainee.steps, self.trainee.bad_step]

    def learning_rate_at(self, step):
        return 0.1

    def _train_epoch(self, epoch):
        while self.step < (epoch + 1) * STEPS:
            step = self.step + 1
            self.trainee.steps.assign(step)
            self.on_step(step)
            if not self._after_step(step, lambda loss=1 / step: {"loss": loss}):
                break
        self._check_finite()
        self._stop_if_asked()
        return {"loss": 1 / self.step}

    def on_step(self, step):
        """Called in each step."""

    def _evaluate(self):
        return {"val_loss": 2 / self.step}

    def _show(self, step, losses):
        self.shown.append((step, losses["loss"]))

    def _epoch_line(self, row):
        return f"epoch {row['epoch']}"

    def _log_epoch(self, row):
        pass

    def _plot(self, path):
        open(path, "w").close()

    def _remedies(self, bad_step):
        return ", or another seed"

    def _facts(self):
        return {"model": self.model_path("last")}


@pytest.fixture
def made(tmp_path):
    """Starts or resumes the run of a folder; returns it and the lines it prints."""

    def make(leads=True, **config):
        said = []
        config = CountingConfig(**{"alpha": 1.0, "run_dir": str(tmp_path / "run")} | config)
        devices = Devices() if leads else Devices(2, type(Devices().share)(1, 2))
        description = {"config": config.fixed(), "data": {}}
        return CountingRun(config, description, STEPS, devices, said.append), said

    return make


def test_a_run_trains_to_its_end_and_writes_its_history(made, tmp_path):
    counting, said = made()
    facts = counting.train()
    assert said == ["epoch 1", "epoch 2"]
    assert counting.shown == [(4, 1 / 4), (8, 1 / 8)]
    assert facts["last"] == {"epoch": 2, "loss": 1 / 8, "val_loss": 2 / 8}
    assert os.path.getsize(facts["model"]) > 0
    with open(tmp_path / "run" / "history.csv") as file:
        assert [row["epoch"] for row in csv.DictReader(file)] == ["1", "2"]
    assert [path[-7:-4] for path in checkpoint.saved(str(tmp_path / "run" / "checkpoints"))] == ["004", "008"]


def test_a_folder_is_locked_until_the_run_is_closed(made):
    counting, _ = made()
    with pytest.raises(OSError, match="another process is training into it"):
        made()
    counting.close()
    made()[0].close()


def test_a_run_that_could_not_start_unlocks_the_folder(made):
    made()[0].close()
    with pytest.raises(ValueError, match="--seed was 0, now 1"):
        made(seed=1)
    made()[0].close()


def test_a_signal_saves_and_the_same_command_resumes(made):
    counting, said = made(checkpoint_every=100)
    counting.on_step = lambda step: step == 6 and os.kill(os.getpid(), signal.SIGTERM)
    with pytest.raises(Stopped, match="saved step 6 of 8 to .*step_000000006.npz; the same command resumes") as stopped:
        counting.train()
    assert stopped.value.signal == signal.SIGTERM
    assert said[-1] == "SIGTERM: saving and stopping; repeat to stop at once"
    counting.close()
    again, said = made(checkpoint_every=100)
    assert said[0].startswith("resumed at step 6 of 8")
    assert again.train()["last"]["epoch"] == 2
    assert [row["epoch"] for row in again.history] == [1, 2]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_all_stop_signals_save_even_without_a_terminal(made, number):
    def gone(line):
        raise OSError("Input/output error")

    counting, _ = made(checkpoint_every=100)
    counting.say = gone
    counting.on_step = lambda step: step == 3 and os.kill(os.getpid(), number)
    with pytest.raises(Stopped, match="saved step 3") as stopped:
        counting.train()
    assert stopped.value.signal == number
    counting.close()


def test_models_and_row_of_a_killed_epoch_are_written_on_resume(made, monkeypatch, tmp_path):
    def killed(*_, **__):
        raise KeyboardInterrupt

    counting, _ = made()
    with monkeypatch.context() as patched:
        patched.setattr(run.run_record, "save_model", killed)
        with pytest.raises(KeyboardInterrupt):
            counting.train()
    counting.close()
    assert not (tmp_path / "run" / "history.csv").exists()
    again, said = made()
    again.on_step = lambda step: pytest.fail("trained on") if step <= STEPS else None
    again.train()
    assert said[1:] == ["epoch 1", "epoch 2"]
    assert (tmp_path / "run" / "history.csv").read_text().count("\n") == 3
    again.close()
    finished, said = made()
    finished.train()
    assert said == [f"resumed at step 8 of 8 ({tmp_path / 'run'})"]


def test_a_full_disk_loses_the_models_but_not_the_epoch(made, monkeypatch, tmp_path):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    counting, _ = made()
    monkeypatch.setattr(run.run_record, "save_model", full)
    with pytest.raises(run.TrainingError, match=rf"step 4: cannot write {tmp_path / 'run'} .*No space left"):
        counting.train()
    assert checkpoint.saved(str(tmp_path / "run" / "checkpoints"))[-1].endswith("000004.npz")


def test_a_stop_waits_for_the_step_at_which_all_processes_agree(made, monkeypatch):
    counting, _ = made(leads=False, checkpoint_every=100)
    monkeypatch.setattr(Devices, "largest", lambda self, value: signal.SIGTERM if counting.step >= 4 else value)
    with pytest.raises(Stopped, match="stopped at step 4, which process 0 saves") as stopped:
        counting.train()
    assert stopped.value.signal == signal.SIGTERM


def test_a_lost_process_is_reported(made):
    class LostError(RuntimeError):
        __module__ = "jaxlib"

    def lose(step):
        raise LostError("Gloo: connection closed by peer [127.0.0.1]\nand more")

    counting, _ = made(leads=False)
    counting.on_step = lose
    with pytest.raises(run.LostProcessError, match="another process of this run was lost .Gloo: connection closed"):
        counting.train()


def test_a_loss_that_is_not_finite_stops_the_run_before_saving(made, tmp_path):
    counting, _ = made(checkpoint_every=2)
    counting.on_step = lambda step: step == 7 and counting.trainee.bad_step.assign(6)
    message = r"loss became NaN or infinite at step 6 \(epoch 2\).*step_000000006.npz.* than 0.1, or another seed"
    with pytest.raises(run.TrainingError, match=message):
        counting.train()
    assert checkpoint.saved(str(tmp_path / "run" / "checkpoints"))[-1].endswith("000006.npz")


def test_a_message_names_the_flag_of_the_folder(made):
    counting, _ = made(dir_flag="--output_dir")
    counting.on_step = lambda step: step == 1 and counting.trainee.bad_step.assign(0)
    with pytest.raises(run.TrainingError, match="With a new --output_dir, try a lower --learning_rate"):
        counting.train()


def test_a_path_in_the_folder_does_not_count_as_changed_when_the_folder_is_moved(made, tmp_path):
    made(init_weights=str(tmp_path / "run" / "start.keras"))[0].close()
    (tmp_path / "run").rename(tmp_path / "moved")
    moved = str(tmp_path / "moved")
    made(run_dir=moved, init_weights=f"{moved}/start.keras")[0].close()
    with pytest.raises(ValueError, match="--init_weights was start.keras, now other.keras"):
        made(run_dir=moved, init_weights=f"{moved}/other.keras")


def test_without_matplotlib_the_run_ends_without_curves(made, monkeypatch):
    def check_figure(path):
        raise ValueError(f"{path}: drawing needs matplotlib; pip install matplotlib.")

    monkeypatch.setattr(run, "check_figure", check_figure)
    counting, said = made()
    assert counting.train()["plot"] is None
    assert said[-1].startswith("no curves: ")
    assert said[-1].endswith("pip install matplotlib.")


def test_other_processes_write_nothing(made, tmp_path):
    counting, said = made(leads=False)
    assert counting.train()["last"]["epoch"] == 2
    assert said == []
    assert os.listdir(tmp_path / "run") == ["checkpoints"]


def test_state_contains_copies_of_the_values():
    variable = keras.Variable(np.ones(2, "float32"))
    ((kept, value),) = run.state_of([variable])
    variable.assign([5.0, 5.0])
    assert kept is variable
    assert value.tolist() == [1, 1]


@pytest.fixture(scope="module")
def program(photos, program_of, programs):
    """A program that trains two epochs of 48 photos in batches of 6, and saves a checkpoint every other step."""
    return program_of(
        programs, "tests.training.train_small", "--recipe=paper", f"--model={small_network.NAME}", "--alpha=0.25",
        f"--data=folder:{photos}", "--image_size=64", "--batch_size=6", "--epochs=2", "--mixup=0.2", "--cutmix=1.0",
        "--ema_decay=0.9", "--dropout=0.1", "--netaug=2", "--reparam", "--bn_batches=2", "--threads=2",
        "--checkpoint_every=2",
    )  # fmt: skip


@pytest.fixture(scope="module")
def whole(program, tmp_path_factory):
    """The uninterrupted run."""
    folder = tmp_path_factory.mktemp("runs") / "whole"
    program.finish(folder)
    return folder


def test_an_interrupted_run_resumes_with_equal_bits(program, whole, tmp_path, reliability_seconds):
    """Kills a run while it writes a checkpoint, stops it by a signal, and kills it at random moments."""
    broken, moments, end = tmp_path / "0", random.Random(1), time.monotonic() + reliability_seconds
    assert program.interrupt(broken, signal.SIGKILL, write=3) == -signal.SIGKILL, program.log(broken)
    assert list((broken / "checkpoints").glob(".writing-*"))
    assert program.newest(broken) == 4
    assert program.interrupt(broken, signal.SIGTERM, write=3) == 128 + signal.SIGTERM, program.log(broken)
    assert program.newest(broken) == 11  # the step after the signal
    assert "saved step 11 of 16" in program.log(broken)
    assert "the same command resumes from there" in program.log(broken)
    assert program.kill(broken, moments.randrange(5, 40)) == -signal.SIGKILL  # out of about 50 file operations
    assert "resumed at step 1" in program.finish(broken)
    _check_equal(program, whole, broken)

    attempt = 1
    while time.monotonic() < end:
        broken, attempt = tmp_path / str(attempt), attempt + 1
        program.kill(broken, moments.randrange(5, 90))
        program.finish(broken)
        _check_equal(program, whole, broken)


def _check_equal(program, whole, broken) -> None:
    kinds = ("kernel", "moving_variance", "average_of", "momentum", "iteration", "wider_networks", "point")
    program.assert_equal(whole, broken, 2, *kinds)
    assert sorted(path.name for path in broken.iterdir()) == sorted(path.name for path in whole.iterdir())
    assert not list(broken.rglob(".writing-*"))
