"""The program `fd-keras page`."""

import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import urllib.request

import pytest

from fd_keras.android_bench import results
from fd_keras.android_bench.errors import BenchError
from fd_keras.errors import ProgramError, UsageError
from fd_keras.web import page, server
from tests.web.conftest import write_packages
from tests.web.test_browser_rows import SENT

ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture
def runtime_dir(tmp_path) -> str:
    """A folder with fake packages of LiteRT.js, since the program only copies them."""
    return str(write_packages(tmp_path / "packages"))


def test_a_page_is_written_for_several_models(sources, runtime_dir, tmp_path, capsys):
    models = ",".join(str(source.path) for source in sources)
    assert page.main([models, f"--output_dir={tmp_path / 'page'}", f"--runtime_dir={runtime_dir}"]) == 0
    settings = json.loads((tmp_path / "page" / "models.json").read_text())
    assert [model["label"] for model in settings["models"]] == ["colors_float32", "colors_int8"]
    first, second, written, following = capsys.readouterr().out.splitlines()
    assert first == "colors_float32  classifier, 4 classes, 64x96x3"
    assert second.startswith("colors_int8  ")
    assert written.startswith(str(tmp_path / "page" / "index.html"))
    assert following.startswith("next: ")
    assert following.endswith(f" --serve {models}")


def test_nothing_is_written_when_a_model_is_missing_or_damaged(sources, runtime_dir, tmp_path):
    (tmp_path / "bad.tflite").write_text("<html>")
    for name, fault in (("bad.tflite", "a web page, not a TFLite model"), ("none.tflite", "no such file or folder")):
        with pytest.raises(ProgramError, match=fault):
            page.main([str(sources[0].path), str(tmp_path / name), f"--output_dir={tmp_path / 'p'}", "--runtime_dir=x"])
    assert not (tmp_path / "p").exists()


def test_flags_are_validated_before_models_are_read(tmp_path):
    with pytest.raises(UsageError, match="--port=70000"):
        page.main(["m.tflite", "--port=70000"])
    with pytest.raises(UsageError, match="--serial names a phone"):
        page.main(["m.tflite", "--serial=A"])
    with pytest.raises(UsageError, match="--serial=all: the camera page opens on one phone"):
        page.main(["m.tflite", "--phone", "--serial=all"])
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(ProgramError, match="contains files that are not a camera page"):
        page.main(["m.tflite", f"--output_dir={tmp_path}"])


def test_without_a_phone_the_way_to_open_the_page_here_is_named(monkeypatch):
    def choose(serial, program):
        raise BenchError("no phone is connected")

    monkeypatch.setattr(page.phone, "choose", choose)
    with pytest.raises(BenchError, match="no phone is connected; or pass --serve instead of --phone"):
        page._phone(page.parser().parse_args(["m.tflite", "--phone"]))


def test_serve_prints_the_address_serves_it_and_ends_with_ctrl_c(sources, runtime_dir, tmp_path):
    command = [sys.executable, "-m", "fd_keras.web.page", str(sources[0].path), "--serve", "--port=0"]
    command += [f"--output_dir={tmp_path / 'page'}", f"--runtime_dir={runtime_dir}"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment, cwd=tmp_path) as process:
        assert process.stdout is not None
        address = next(line.split()[0] for line in process.stdout if line.startswith("http://127.0.0.1:"))
        with urllib.request.urlopen(address) as answer:
            assert b"<title>Camera - fd_keras</title>" in answer.read()
        process.send_signal(signal.SIGINT)
        assert process.wait() == 0


def test_phone_opens_the_page_on_a_device_and_stores_its_timings(sources, runtime_dir, device, tmp_path, monkeypatch):
    device.write_command("am", "shift 4; echo $1 > /fake/opened")
    addresses = []

    def one_measurement(serving: server.PageServer) -> None:
        addresses.append(serving.address)
        assert serving.save(SENT) == 2

    monkeypatch.setattr(server, "serve", one_measurement)
    flags = ["--phone", "--port=0", f"--adb={device.adb}", f"--results_dir={tmp_path / 'results'}"]
    page.main([str(sources[0].path), f"--output_dir={tmp_path / 'page'}", f"--runtime_dir={runtime_dir}", *flags])
    assert (device.root / "fake/opened").read_text().split() == addresses
    assert {row.origin.device for row in results.read_rows(tmp_path / "results")} == {device.serial}


def test_a_port_in_use_is_named(sources, runtime_dir, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as used:
        port = used.getsockname()[1]
        command = [str(sources[0].path), f"--output_dir={tmp_path / 'page'}", f"--runtime_dir={runtime_dir}"]
        with pytest.raises(ProgramError, match=f"--port={port}: cannot be opened .*--port=0 for any"):
            page.main([*command, "--serve", f"--port={port}"])
