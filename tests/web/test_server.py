"""The server: sends files to browsers on this machine, and accepts measurements only from the page."""

import http.client
import json
import threading

import pytest

from fd_keras.web.server import PageServer


@pytest.fixture
def served(tmp_path):
    """A server of a folder, and the measurements that it received."""
    (tmp_path / "index.html").write_text("page")
    (tmp_path / "a.wasm").write_bytes(b"\0asm")
    sent = []

    def save(content):
        if content == "bad":
            raise ValueError("that is bad")
        sent.append(content)
        return 3

    server = PageServer(str(tmp_path), 0, save)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server, sent
    server.shutdown()
    server.server_close()


def ask(server: PageServer, method: str, path: str, body: str | None = None, **headers: str):
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request(method, path, body, named)
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    return answer, content


def test_files_have_content_types_and_security_headers(served):
    server, _ = served
    answer, content = ask(server, "GET", "/")
    assert (answer.status, content) == (200, b"page")
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Content-Security-Policy"] == "frame-ancestors 'none'"
    assert ask(server, "GET", "/a.wasm")[0].headers["Content-Type"] == "application/wasm"


def test_the_server_is_only_reachable_from_this_machine(served):
    assert served[0].server_address[0] == "127.0.0.1"


@pytest.mark.parametrize("headers", [{"Host": "evil.example"}, {"Origin": "https://evil.example"}])
def test_requests_of_other_pages_are_rejected(served, headers):
    server, sent = served
    assert ask(server, "GET", "/", **headers)[0].status == 403
    assert ask(server, "POST", "/measurements", "1", X_Token=server.token, **headers)[0].status == 403
    assert not sent


def test_measurements_need_the_token(served):
    server, sent = served
    assert ask(server, "POST", "/measurements", "1")[0].status == 403
    answer, content = ask(server, "POST", "/measurements", '{"a": 1}', X_Token=server.token)
    assert (answer.status, json.loads(content)) == (200, {"rows": 3, "error": ""})
    assert sent == [{"a": 1}]


@pytest.mark.parametrize(("body", "fault"), [('"bad"', "that is bad"), ("{", "not JSON"), ("[" * 100_000, "not JSON")])
def test_invalid_measurements_are_answered_with_the_error(served, body, fault):
    answer, content = ask(served[0], "POST", "/measurements", body, X_Token=served[0].token)
    assert answer.status == 400
    assert fault in json.loads(content)["error"]


def test_large_measurements_and_other_paths_are_rejected(served):
    server, _ = served
    answer, _ = ask(server, "POST", "/measurements", "1", X_Token=server.token, Content_Length=str(1 << 30))
    assert answer.status == 400
    assert ask(server, "POST", "/other", "1", X_Token=server.token)[0].status == 404
    assert ask(server, "GET", "/../server.py")[0].status == 404
