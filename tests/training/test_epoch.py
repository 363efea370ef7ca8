import keras
import numpy as np
import pytest

from fd_keras.training import epoch
from fd_keras.training.input_pipeline import Arrivals


@pytest.fixture
def clock(monkeypatch):
    """A clock that the test advances."""
    now = [0.0]
    monkeypatch.setattr(epoch.time, "perf_counter", lambda: now[0])
    return now


def test_the_first_step_is_not_measured(clock):
    timer = epoch.EpochTimer()
    for at, waited in ((50.0, 40.0), (52.0, 0.5), (54.0, 0.5)):
        clock[0] = at
        timer.step_done(waited)
    clock[0] = 1000.0  # time after the steps, such as an evaluation, is not counted
    assert timer.total == epoch.Timing(steps=2, seconds=4.0, waited=1.0)
    assert (timer.total.seconds_per_step, timer.total.steps_per_second, timer.total.input_bound) == (2.0, 0.5, 0.25)


def test_without_steps_all_rates_are_zero():
    timing = epoch.EpochTimer().total
    assert (timing.seconds_per_step, timing.steps_per_second, timing.input_bound) == (0.0, 0.0, 0.0)


def test_timings_can_be_subtracted():
    assert epoch.Timing(5, 10.0, 3.0) - epoch.Timing(2, 4.0, 1.0) == epoch.Timing(3, 6.0, 2.0)


@pytest.fixture
def model():
    net = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    net.compile("sgd", "mse", weighted_metrics=["mae"])
    return net


ONES = np.ones((24, 2), "float32"), np.ones((24, 1), "float32")


def test_fit_continues_from_a_step_and_stops_on_request(model):
    seen, timer = [], epoch.EpochTimer()

    def after_step(step, logs):
        seen.append((step, set(logs)))
        return step < 9

    model.fit(*ONES, batch_size=4, verbose=0, callbacks=[epoch.EpochCallback(7, timer, Arrivals(), after_step, [])])
    assert seen == [(8, {"loss", "mae"}), (9, {"loss", "mae"})]
    assert timer.total.steps == 1


def test_the_running_means_stay_on_the_device(model):
    """As numbers, they would make the host wait for every step."""
    seen = []

    def after_step(step, logs):
        seen.append(logs["loss"])
        return True

    callback = epoch.EpochCallback(0, epoch.EpochTimer(), Arrivals(), after_step, [])
    callbacks = epoch.EpochCallbacks([callback], add_history=True, model=model)
    history = model.fit(*ONES, batch_size=4, verbose=0, callbacks=callbacks).history
    assert len(seen) == 6
    assert not any(isinstance(loss, float) for loss in seen)
    assert float(seen[-1]) == pytest.approx(history["loss"][-1])


def test_metrics_are_restored(model):
    model.fit(*ONES, batch_size=24, verbose=0)
    model.optimizer.learning_rate = 0.0
    count = next(variable for variable in model.metrics_variables if "count" in variable.path)
    state = [(variable, variable.numpy()) for variable in model.metrics_variables]
    callback = epoch.EpochCallback(1, epoch.EpochTimer(), Arrivals(), lambda step, logs: True, state)
    before = float(count.numpy())
    model.fit(*ONES, batch_size=24, verbose=0, callbacks=[callback])
    assert float(count.numpy()) == 2 * before


def test_an_evaluation_stops_on_request(model):
    asked = iter([False, True])
    model.evaluate(*ONES, batch_size=4, verbose=0, callbacks=[epoch.EvaluationCallback(lambda: next(asked))])
    assert next(asked, None) is None
