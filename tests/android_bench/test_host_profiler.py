import shutil

import pytest

from fd_keras.android_bench import host_profiler
from fd_keras.android_bench.errors import BenchError
from fd_keras.android_bench.models import read_model
from fd_keras.android_bench.plan import Job


@pytest.mark.parametrize("events", [[("Invoke", 1, 5), ("op", 2, 50)], [("op", 2, 5)], [("Invoke", 1, 5)]])
def test_an_inconsistent_profile_is_rejected(events):
    events = [host_profiler._Event(tag=tag.encode(), type=kind, elapsed=us) for tag, kind, us in events]
    with pytest.raises(BenchError, match="is not supported"):
        host_profiler._ops(events)


@pytest.fixture(scope="module")
def job(converted, tmp_path_factory):
    path = tmp_path_factory.mktemp("large") / "large.tflite"
    shutil.copy(converted / "large.bin", path)
    return Job(read_model(path))


def test_the_profile_names_the_ops_and_adds_up(job):
    found = host_profiler.run_in_subprocess(job, "profile", 3)
    assert len(found["samples_ns"]) == 3
    assert len(found["ops"]) >= 2
    # A median of three is at most half of their sum, so all medians add up to at most 1.5 times the longest run.
    rounding_ms = 0.001 * len(found["ops"])
    assert 0 < sum(ms for _, ms, _ in found["ops"]) <= 1.5 * max(found["samples_ns"]) / 1e6 + rounding_ms


def test_memory_includes_the_activations(job):
    found = host_profiler.run_in_subprocess(job, "memory", 3)
    # The activations, 80 x 80 x 4 floats, are 0.1 MB.
    assert 0.1 < found["memory_mb"]["peak"] < 200
    assert found["memory_mb"]["overall"] <= found["memory_mb"]["peak"]


def test_a_process_that_fails_is_named(job, tmp_path):
    path = tmp_path / "broken.tflite"
    path.write_bytes(job.model.path.read_bytes()[:400])
    with pytest.raises(BenchError, match=r"broken\.tflite: the memory failed with status 1: "):
        host_profiler.run_in_subprocess(Job(read_model(path)), "memory", 1)
