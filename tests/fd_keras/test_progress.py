import io

import pytest

from fd_keras import progress as progress_module
from fd_keras.progress import progress, progress_line


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def clock(monkeypatch):
    """A clock that the test advances."""
    now = [0.0]
    monkeypatch.setattr(progress_module.time, "monotonic", lambda: now[0])
    return now


@pytest.mark.parametrize(
    ("done", "total", "seconds", "line"),
    [
        (120, 240, 3.42, "[##########----------] 120/240 images  35.1/s  3 s left"),
        (5, 1000, 1.0, "[--------------------]    5/1000 images  5.0/s  3:19 min left"),
        (10, 10, 2.0, "[####################] 10/10 images  5.0/s  0 s left"),
        (0, 10, 1.0, "[--------------------]  0/10 images  0.0/s  ?"),
        (7, None, 2.0, "7 images  3.5/s"),
        (7, 0, 2.0, "7 images  3.5/s"),
        (7, None, 0, "7 images  0.0/s"),
    ],
)
def test_the_line_has_bar_count_rate_and_remaining_time(done, total, seconds, line):
    assert progress_line(done, total, seconds, "images") == line


def test_items_are_yielded_in_order():
    assert list(progress(range(5))) == [0, 1, 2, 3, 4]
    assert list(progress(iter("abc"), unit="letters")) == ["a", "b", "c"]


def test_nothing_is_written_without_a_terminal(capsys, clock):
    for _ in progress(range(100)):
        clock[0] += 1
    assert capsys.readouterr() == ("", "")


def test_nothing_is_written_for_quick_work(monkeypatch, clock):
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    for _ in progress(range(100), delay=1.0):
        clock[0] += 0.001
    assert terminal.getvalue() == ""


def test_progress_is_shown_in_a_terminal(monkeypatch, clock):
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    for _ in progress(range(4), unit="files", delay=1.0):
        clock[0] += 2
    lines = terminal.getvalue().split("\r\x1b[K")
    assert "1/4 files" in lines[1]
    assert lines[-1] == progress_line(4, 4, 8.0, "files") + "\n"


def test_the_total_of_a_generator_can_be_given(monkeypatch, clock):
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    for _ in progress(iter(range(2)), 2):
        clock[0] += 2
    assert "2/2 images" in terminal.getvalue()


def test_the_line_is_ended_when_the_loop_breaks(monkeypatch, clock):
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    items = progress(range(10))
    for item in items:
        clock[0] += 2
        if item == 3:
            break
    items.close()
    assert terminal.getvalue().endswith("\n")
