import http.server
import json
import threading

import pytest

from fd_keras.android_bench import fetch
from fd_keras.android_bench.errors import BenchError

ELF = b"\x7fELF and so on"


@pytest.fixture
def server(monkeypatch):
    """A local web server in place of the official one; it sends its `answer` and records requests in `asked`."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.server.asked.append(self.path)
            status, content, length = self.server.answer
            self.send_response(status)
            self.send_header("Content-Length", str(length or len(content)))
            self.send_header("Last-Modified", "Mon, 01 Jan 2024 00:00:00 GMT")
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        running.answer, running.asked = (200, ELF, None), []
        url = f"http://127.0.0.1:{running.server_port}"
        moved = {
            name: {key: url + "/" + address.split("/", 3)[3] for key, address in urls.items()}
            for name, urls in fetch.URLS.items()
        }
        monkeypatch.setattr(fetch, "URLS", moved)
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield running
        running.shutdown()


def test_the_build_for_the_device_is_downloaded_once(server, tmp_path):
    path = fetch.fetch("litert", "android", ["arm64-v8a", "armeabi-v7a"], tmp_path / "new")
    assert path.read_bytes() == ELF
    assert path.stat().st_mode & 0o111
    assert server.asked == ["/litert/binaries/latest/android_arm64/benchmark_model"]
    record = json.loads(path.with_name(path.name + ".json").read_text())
    assert len(record["sha256"]) == 64
    assert record["version"].startswith("Mon, 01 Jan 2024")
    assert fetch.fetch("litert", "android", ["arm64-v8a"], tmp_path / "new") == path
    assert len(server.asked) == 1


def test_a_change_of_the_latest_build_is_reported(server, tmp_path, capsys):
    fetch.fetch("classic", "android", ["armeabi-v7a"], tmp_path)
    fetch.fetch("classic", "android", ["armeabi-v7a"], tmp_path, refresh=True)
    assert not capsys.readouterr().err
    server.answer = (200, ELF + b" newer", None)
    path = fetch.fetch("classic", "android", ["armeabi-v7a"], tmp_path, refresh=True)
    assert "has changed" in capsys.readouterr().err
    assert path.read_bytes().endswith(b"newer")


def test_a_damaged_file_is_downloaded_again(server, tmp_path, capsys):
    path = fetch.fetch("classic", "linux", ["x86_64"], tmp_path)
    path.write_bytes(b"half")
    assert fetch.fetch("classic", "linux", ["x86_64"], tmp_path).read_bytes() == ELF
    assert "downloading it again" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ((404, b"", None), "cannot be downloaded"),
        ((200, b"<html>", None), "not an ELF binary"),
        ((200, ELF, len(ELF) + 5), "cannot be downloaded|not an ELF binary"),
    ],
)
def test_an_incomplete_binary_is_rejected_and_leaves_no_files(server, tmp_path, answer, message):
    server.answer = answer
    with pytest.raises(BenchError, match=message) as caught:
        fetch.fetch("litert", "linux", ["arm64-v8a"], tmp_path)
    assert "--benchmark_binary=PATH" in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_if_there_is_no_build_the_other_generation_is_suggested(tmp_path):
    with pytest.raises(
        BenchError, match="no official litert build for android on armeabi-v7a; use --fetch_binary=classic"
    ):
        fetch.fetch("litert", "android", ["armeabi-v7a"], tmp_path)
    with pytest.raises(BenchError, match="on riscv64; build the tool"):
        fetch.fetch("litert", "android", ["riscv64"], tmp_path)
