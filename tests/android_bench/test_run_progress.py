import io

from fd_keras.android_bench.run_progress import RunProgress


class _Terminal(io.StringIO):
    def isatty(self):
        return True


def test_progress_rewrites_a_line_in_a_terminal_only(make_row):
    for stream, controls in ((_Terminal(), True), (io.StringIO(), False)):
        with RunProgress(3, stream) as progress:
            progress.skip(1)
            progress.add(make_row("a", [1_000_000], round=1))
            progress._logged -= 60  # as if a minute had gone by
            progress.add(make_row("a", [1_000_000], round=2, attempt=2, flags=["hot"]))
        text = stream.getvalue()
        assert ("\r" in text) == controls
        assert ("\n" in text) != controls
        assert "2 of 3" in text
        assert "a_float32 1.000 ms (doubtful: hot)" in text
