import pytest

from fd_keras.android_bench import run
from fd_keras.android_bench.device_settings import DeviceSettings
from fd_keras.android_bench.errors import BenchError


@pytest.mark.parametrize(
    "flag", ["--timeout=0", "--cooldown=-1", "--patience=nan", "--max_temp=inf", "--max_temp=0", "--timeout=1e300"]
)
def test_settings_out_of_range_are_named(converted, flag, capsys):
    assert run.main([f"--models={converted}", "--benchmark_binary=/bin/true", flag]) == 2
    assert f"error: {flag.split('=')[0]} must be a number of at least" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["cooldown", "max_temp", "max_wait", "patience", "timeout"])
def test_every_number_is_checked(name):
    with pytest.raises(BenchError, match=f"{name} must be a number of at least"):
        DeviceSettings(**{name: -1.0})
