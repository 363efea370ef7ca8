from pathlib import Path

import pytest

from fd_keras.android_bench.errors import BenchError
from fd_keras.android_bench.models import ModelFile
from fd_keras.android_bench.plan import BenchPlan, parse_threads, split_list


def _models(*names):
    return tuple(ModelFile(Path(f"{name}_int8.tflite"), name, "int8", 1, "0") for name in names)


def test_each_round_has_each_job_once_in_a_new_order():
    plan = BenchPlan(_models("a", "b", "c"), threads=(1, 2, 1), rounds=6)
    visits = list(plan.schedule())
    assert len(visits) == 6 * 3 * 2
    rounds = [[launch.job for launch in visits if launch.round == n] for n in range(1, 7)]
    assert all(len(jobs) == 6 and set(jobs) == set(plan.jobs) for jobs in rounds)
    assert len({tuple(jobs) for jobs in rounds}) > 1
    assert [launch.place for launch in visits] == list(range(1, 7)) * 6
    assert visits == list(plan.schedule())


def test_extra_launches_come_after_the_rounds():
    plan = BenchPlan(
        _models("a", "b"), rounds=1, extras=("profile", "memory"), cores=("big", "80"), delegates=("none",)
    )
    visits = list(plan.schedule())
    assert [launch.kind for launch in visits] == ["time"] * 4 + ["profile"] * 4 + ["memory"] * 4
    assert len({launch.key for launch in visits}) == 12
    assert {launch.job.core for launch in visits} == {"big", "80"}


def test_remaining_launches_skip_the_completed_and_end_when_stopped():
    plan = BenchPlan(_models("a", "b"), rounds=2)
    first, *rest = plan.schedule()
    assert list(plan.remaining({first.key}, lambda: False)) == rest
    answers = iter([False, True])
    assert list(plan.remaining({first.key}, lambda: next(answers))) == rest[:1]


def test_identity_changes_with_what_is_measured_and_where():
    plan = BenchPlan(_models("a"))
    assert plan.identity("phone") == BenchPlan(_models("a")).identity("phone")
    others = [
        plan.identity("other"),
        BenchPlan(_models("b")).identity("phone"),
        BenchPlan(_models("a"), runs=3).identity("phone"),
    ]
    assert plan.identity("phone") not in others
    assert len(set(others)) == 3


@pytest.mark.parametrize("core", ["middle", "", "0", "0x", "xyz"])
def test_an_unknown_core_is_named(core):
    with pytest.raises(BenchError, match="core must be big, little, any or a hexadecimal mask"):
        BenchPlan(_models("a"), cores=(core,))


def test_an_unknown_delegate_is_named():
    with pytest.raises(BenchError, match="unknown delegate 'hexagon': choose from xnnpack"):
        BenchPlan(_models("a"), delegates=("hexagon",))


def test_the_order_depends_on_the_seed():
    orders = {tuple(BenchPlan(_models(*"abcdef"), rounds=2, seed=seed).schedule()) for seed in range(4)}
    assert len(orders) > 1


@pytest.mark.parametrize(
    "options",
    [
        {"threads": ()},
        {"threads": (0,)},
        {"threads": (1, -1)},
        {"threads": (10**6,)},
        {"rounds": 0},
        {"runs": 0},
        {"warmup": -1},
        {"min_secs": -0.1},
        {"min_secs": float("nan")},
        {"min_secs": float("inf")},
    ],
)
def test_numbers_out_of_range_are_named(options):
    with pytest.raises(BenchError, match=f"{next(iter(options))} must be"):
        BenchPlan(_models("a"), **options)


def test_parse_threads():
    assert parse_threads("1") == (1,)
    assert parse_threads("1, 4") == (1, 4)
    for text in ("", "1,", "a", "1.5"):
        with pytest.raises(BenchError, match="threads must be integers"):
            parse_threads(text)


def test_the_order_and_identity_of_a_plan_never_change():
    """The values are those of the first release, since runs in old folders must be able to continue."""
    plan = BenchPlan(_models("a", "b"), threads=(1, 2), cores=("big", "little"), rounds=1)
    order = [(launch.job.model.name, launch.job.threads, launch.job.core) for launch in plan.schedule()]
    assert order == [
        ("b", 1, "big"),
        ("a", 1, "little"),
        ("b", 1, "little"),
        ("a", 2, "big"),
        ("a", 1, "big"),
        ("a", 2, "little"),
        ("b", 2, "little"),
        ("b", 2, "big"),
    ]
    assert plan.identity("phone") == "40a3beac1e00"


def test_split_list():
    assert split_list("a, b,,c ") == ("a", "b", "c")
    assert split_list("") == ()
