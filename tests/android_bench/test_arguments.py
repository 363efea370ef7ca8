"""Every flag of `bench` and `report` rejects invalid values before anything is loaded, measured or written."""

import pytest

from fd_keras.android_bench import report, run

NUMBERS = ("", " ", "x", "nan", "inf", "-inf", "-1", "1e400", "9" * 30)
INTEGERS = (*NUMBERS, "1.5")
OWN = {
    "models": ("", " ", ",", " , ", "a.tflite,a.tflite", "nowhere.tflite"),
    "output_dir": ("", " ", "{file}", "{file}/below"),
    "target": ("", "usb"),
    "serial": ("", ","),
    "benchmark_binary": ("", " ", "nowhere", "."),
    "fetch_binary": ("", "newest"),
    "adb": ("", " "),
    "ssh": ("", "'", 'ssh -p "2222'),
    "threads": ("", ",", "0", "-1", "1,,2", "two", "1.5", "1,1", "257", "9" * 30),
    "core": ("", ",", "middle", "0", "0x", "big,big", "big,huge"),
    "libraries": ("", " ", "{file}", "nowhere"),
    "delegates": ("", ",", "hexagon", "xnnpack,xnnpack", "gpu,tpu", "npu"),
    "baseline": ("", " "),
    "emulator": ("", " "),
    "baseline_file": ("", " ", "{file}", "nowhere.json"),
    "tolerance": (*NUMBERS, "%", "1001%"),
    "max_temp": (*NUMBERS, "0", "1000"),
    "timeout": (*NUMBERS, "0"),
    "rounds": (*INTEGERS, "0"),
    "runs": (*INTEGERS, "0"),
    "energy": (*NUMBERS, "0s", "6m", "soon"),
    "sustained": (*NUMBERS, "0m", "soon"),
    "seed": ("", "x", "nan", "1.5", "9" * 30),
}


def _cases():
    for action in run.parser()._actions:
        name = action.option_strings[-1].lstrip("-")
        if action.nargs == 0:
            continue
        values = OWN.get(name) or {int: INTEGERS, float: NUMBERS}[action.type]
        yield from ((name, value) for value in values)


def _status(main, arguments):
    try:
        return main(arguments)
    except SystemExit as ended:
        return ended.code


def test_invalid_values_of_all_flags_are_rejected(models, tmp_path, monkeypatch, capsys):
    work, file = tmp_path / "work", tmp_path / "file"
    work.mkdir()
    file.write_text("")
    monkeypatch.chdir(work)
    count = 0
    for name, value in _cases():
        given = {"models": models, "target": "host", name: value.format(file=file)}
        assert _status(run.main, [f"--{flag}={given[flag]}" for flag in given]) == 2, (name, value)
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("error: "), (name, value, line)
        assert name in line or value.strip() in line, (name, value, line)
        assert not list(work.iterdir()), (name, value)
        count += 1
    assert count > 100


@pytest.mark.parametrize("arguments", [[""], [" "], [], ["nowhere"], ["--folder=x"], ["a", "b"]])
def test_report_rejects_paths_that_are_not_folders(arguments, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert _status(report.main, arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert not list(tmp_path.iterdir())


def test_a_value_of_a_boolean_flag_is_rejected(capsys):
    flags = [action.option_strings[-1] for action in run.parser()._actions if action.nargs == 0]
    assert len(flags) >= 6
    for flag in flags:
        assert _status(run.main, [f"{flag}=1"]) == 2
        assert flag in capsys.readouterr().err


def test_a_serial_that_looks_like_a_flag_of_ssh_is_rejected(models, capsys):
    arguments = [f"--models={models}", "--target=ssh", "--serial=-oProxyCommand=x", "--benchmark_binary=/bin/true"]
    assert run.main(arguments) == 2
    assert "--serial=-oProxyCommand=x: not a host" in capsys.readouterr().err
