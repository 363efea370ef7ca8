import io

from fd_keras.android_bench.run_progress import RunProgress


class _Terminal(io.StringIO):
    def isatty(self):
        return True


def test_progress_of_a_counted_row_is_in_instructions(make_count_row):
    stream = io.StringIO()
    with RunProgress(1, stream) as progress:
        progress._logged -= 60  # as if a minute had passed
        progress.add(make_count_row("a", instructions=12_345_678))
    assert "a_float32 12.3 M instructions" in stream.getvalue()


def test_progress_rewrites_a_line_only_in_a_terminal(make_row):
    for stream, controls in ((_Terminal(), True), (io.StringIO(), False)):
        with RunProgress(3, stream) as progress:
            progress.skip(1)
            progress.add(make_row("a", [1_000_000], round=1))
            progress._logged -= 60  # as if a minute had passed
            progress.add(make_row("a", [1_000_000], round=2, attempt=2, flags=["hot"]))
        text = stream.getvalue()
        assert ("\r" in text) == controls
        assert ("\n" in text) != controls
        assert "2 of 3" in text
        assert "a_float32 1.000 ms (unreliable: hot)" in text
