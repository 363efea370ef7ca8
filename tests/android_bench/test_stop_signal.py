import signal

from fd_keras.android_bench.stop_signal import StopSignal
from tests import needs


@needs.posix_signals
def test_a_closed_terminal_stops_the_run(capfd):
    with StopSignal() as stop:
        signal.raise_signal(signal.SIGHUP)
        assert stop.signal is signal.SIGHUP
    assert "stopping after this launch; repeat to stop at once" in capfd.readouterr().err


@needs.posix_signals
def test_handlers_are_restored_and_ignored_signals_stay_ignored():
    before = signal.getsignal(signal.SIGTERM), signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with StopSignal() as stop:
            signal.raise_signal(signal.SIGINT)
            assert not stop()
            signal.raise_signal(signal.SIGTERM)
            assert stop()
            assert signal.getsignal(signal.SIGTERM) is before[0]
    finally:
        signal.signal(signal.SIGINT, before[1])
    assert signal.getsignal(signal.SIGTERM) is before[0]
