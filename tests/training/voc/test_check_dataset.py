import sys

import pytest

from fd_keras.training.voc import annotation, check_dataset


def test_the_program_prints_a_report_and_returns_a_status(devkit, voc_object, capsys):
    devkit.add(
        "a", voc_object("cat", 1, 1, 9, 9), voc_object("cat", 1, 1, 99, 9), voc_object("dog", 1, 1, 9, 9, difficult=1)
    )
    devkit.add("b", voc_object("cat", 9, 1, 1, 9))
    devkit.split("train", "a", "b")
    devkit.split("cat_train", "a 1")
    assert check_dataset.main([str(devkit)]) == 0
    out = capsys.readouterr().out
    lines = {line.split()[0]: line.split()[1:] for line in out.splitlines() if line.strip()}
    assert lines["cat"] == ["1", "2"]
    assert lines["dog"] == ["0", "0"]
    assert lines["all"] == ["2", "2"]
    assert lines["difficult,"][-2:] == ["1", "1"]
    assert lines["without"][-2:] == ["1", "0"]
    assert f"1 box {annotation.INVERTED}:\n  {devkit.xml('b')}" in out
    assert f"1 box {annotation.CLIPPED}:\n  {devkit.xml('a')}" in out
    assert f" detect train --voc_dir={devkit} --split=train --init_weights=imagenet --run_dir=run" in out

    devkit.image("a").write_bytes(devkit.image("a").read_bytes()[:-300])  # its size can still be read
    assert check_dataset.main([str(devkit)]) == 1
    out = capsys.readouterr().out
    assert f"1 unusable:\n  {devkit.image('a')}: not a readable image" in out
    assert "next:" not in out
    assert check_dataset.main([str(devkit), "--classes=dog,cat", "--split=val"]) == 1
    assert "val.txt: no such list; found train" in capsys.readouterr().out
    with pytest.raises(ValueError, match=f"{devkit}/nowhere: no such folder"):
        check_dataset.main([f"{devkit}/nowhere"])


def test_names_in_two_folders_are_reported(devkit, capsys):
    devkit.add("a")
    devkit.split("train", "a")
    assert check_dataset.main([f"{devkit},{devkit}"]) == 1
    assert "unusable together: 1 image names are in more than one folder, for example a" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("argument", "name"),
    [("fd-keras detect check", "fd-keras detect check"), ("check.py", "python -m fd_keras.training.voc.check_dataset")],
)
def test_the_help_names_the_command(monkeypatch, argument, name):
    monkeypatch.setattr(sys, "argv", [argument])
    assert check_dataset.parser().prog == name
