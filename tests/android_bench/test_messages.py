import sys

from fd_keras.android_bench.messages import log


def test_messages_go_to_standard_error_one_per_line(capsys):
    log("warning", "one", "two")
    log("error")
    assert capsys.readouterr() == ("", "warning: one\nwarning: two\n")


def test_in_a_terminal_the_progress_line_is_cleared_first(capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    log("note", "one")
    assert capsys.readouterr().err == "\r\033[Knote: one\n"
