"""Serves the camera page's folder on 127.0.0.1, and receives the page's timings."""

import functools
import http.server
import json
import secrets
import sys
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

_LARGEST = 8 << 20  # maximum bytes of a measurement
HOST = "127.0.0.1"
_HEADERS = {
    "Content-Security-Policy": "frame-ancestors 'none'",  # the rest is in index.html, so that it applies on any server
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}
_TYPES = {".js": "text/javascript", ".wasm": "application/wasm", ".webmanifest": "application/manifest+json"}

Save = Callable[[Any], int]  # stores a measurement; returns the number of rows, or raises ValueError with the reason


class PageServer(http.server.ThreadingHTTPServer):
    """The server.

    Only a page opened at `address` can send measurements, since the address has a token after the #, which other pages
    cannot read.

    Args:
        folder: The page's folder.
        port: Port; 0 for any free port.
        save: See `Save`.

    Attributes:
        token: Token that a request with a measurement must include.
    """

    daemon_threads = True

    def __init__(self, folder: str, port: int, save: Save):
        self.token, self.save = secrets.token_urlsafe(16), save
        super().__init__((HOST, port), functools.partial(_Handler, directory=folder))

    @property
    def address(self) -> str:
        """The address to open."""
        return f"http://{HOST}:{self.server_port}/#save={self.token}"


class _Handler(http.server.SimpleHTTPRequestHandler):
    server: PageServer
    extensions_map = {**http.server.SimpleHTTPRequestHandler.extensions_map, **_TYPES}

    def parse_request(self) -> bool:
        """Rejects requests from other sites, and requests for another host, as in DNS rebinding."""
        if not super().parse_request():
            return False
        own = {f"{host}:{self.server.server_port}" for host in (HOST, "localhost")}
        origin = self.headers.get("Origin")
        if self.headers.get("Host") in own and (origin is None or origin.removeprefix("http://") in own):
            return True
        self.send_error(HTTPStatus.FORBIDDEN)
        return False

    def do_POST(self) -> None:  # noqa: N802  (the base class's name)
        if self.path != "/measurements":
            self.send_error(HTTPStatus.NOT_FOUND)
        elif not secrets.compare_digest(self.headers.get("X-Token", "").encode(), self.server.token.encode()):
            self._answer(HTTPStatus.FORBIDDEN, error="open the camera page at the address that `fd-keras page` printed")
        else:
            self._answer(*self._saved())

    def list_directory(self, path: Any) -> None:
        """Refuses to list folders."""
        self.send_error(HTTPStatus.NOT_FOUND)

    def end_headers(self) -> None:
        """Adds the headers of every response."""
        for name, value in _HEADERS.items():
            self.send_header(name, value)
        super().end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Logs nothing, since a line per request would bury the program's output."""

    def _saved(self) -> tuple[HTTPStatus, int, str]:
        try:
            return HTTPStatus.OK, self.server.save(self._content()), ""
        except ValueError as error:
            return HTTPStatus.BAD_REQUEST, 0, str(error)
        except (OSError, RuntimeError) as error:
            return HTTPStatus.INTERNAL_SERVER_ERROR, 0, str(error)

    def _content(self) -> Any:
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal() or int(length) > _LARGEST:
            raise ValueError(f"the measurement has {length or 'an unknown number of'} bytes (limit {_LARGEST})")
        try:
            return json.loads(self.rfile.read(int(length)))
        except (ValueError, RecursionError) as error:
            raise ValueError(f"not JSON ({error})") from error

    def _answer(self, status: HTTPStatus, rows: int = 0, error: str = "") -> None:
        content = json.dumps({"rows": rows, "error": error}).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


def serve(server: PageServer) -> None:
    """Serves until Ctrl-C."""
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
