"""A headless Firefox, controlled with Marionette, the protocol of its WebDriver."""

import contextlib
import json
import os
import pathlib
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from typing import Any

from tests import needs
from tests.browser import when

_PREFERENCES = {
    "marionette.port": 0,  # any free port; MarionetteActivePort in the profile contains it
    "media.navigator.permission.disabled": True,
    "media.navigator.streams.fake": True,
    "browser.shell.checkDefaultBrowser": False,
    "datareporting.policy.dataSubmissionEnabled": False,
    "app.normandy.enabled": False,
    "network.captive-portal-service.enabled": False,
    "network.connectivity-service.enabled": False,
}
_DEADLINE_MS = 2**31 - 1  # timeout of scripts; in effect none


class Firefox:
    """A browser with one tab.

    Args:
        profile: Empty folder for its profile.
    """

    def __init__(self, profile: pathlib.Path):
        program = needs.program("firefox-esr", "firefox")
        lines = [f"user_pref({json.dumps(name)}, {json.dumps(value)});" for name, value in _PREFERENCES.items()]
        (profile / "user.js").write_text("\n".join(lines))
        self._process = subprocess.Popen(
            [program, "--headless", "--marionette", "--no-remote", "--profile", str(profile)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=os.environ | {"HOME": str(profile)},
            start_new_session=True,
        )
        try:
            self._connect(profile / "MarionetteActivePort")
        except BaseException:
            self.close()
            raise

    def open(self, address: str) -> None:
        """Opens a URL of the camera page and waits until the page is ready."""
        self._call("WebDriver:Navigate", url=address)
        self.wait("document.documentElement.dataset.ready === 'yes'")

    def run(self, script: str) -> Any:
        """Returns the value of an expression, or of the promise that it returns."""
        body = (
            f"const done = arguments[0]; Promise.resolve({script}).then(v => done([v]), e => done([null, String(e)]))"
        )
        arguments = {"scriptTimeout": _DEADLINE_MS, "sandbox": None, "newSandbox": False}
        value, *error = self._call("WebDriver:ExecuteAsyncScript", script=body, args=[], **arguments)["value"]
        assert not error, error
        return value

    def wait(self, condition: str) -> None:
        """Waits for an expression to become true."""
        self.run(when(condition))

    def choose_file(self, selector: str, path: pathlib.Path) -> None:
        """Chooses a file in a file input, as a user does."""
        found = self._call("WebDriver:FindElement", using="css selector", value=selector)["value"]
        self._call("WebDriver:ElementSendKeys", id=next(iter(found.values())), text=str(path))

    def close(self) -> None:
        """Kills the browser and all its processes."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def _connect(self, port_file: pathlib.Path) -> None:
        while not (port_file.exists() and port_file.read_text().strip()):
            assert self._process.poll() is None, "firefox has exited"
            time.sleep(0.05)
        self._socket = socket.create_connection(("127.0.0.1", int(port_file.read_text())))
        self._file = self._socket.makefile("rb")
        self._read()  # the greeting
        self._call("WebDriver:NewSession", strictFileInteractability=False)
        self._call("WebDriver:SetTimeouts", script=_DEADLINE_MS, pageLoad=_DEADLINE_MS)

    def _call(self, method: str, **arguments: Any) -> dict[str, Any]:
        message = json.dumps([0, 1, method, arguments])
        self._socket.sendall(f"{len(message)}:{message}".encode())
        _, _, error, result = self._read()
        assert error is None, (method, error)
        return result

    def _read(self) -> Any:
        length = b""
        while not length.endswith(b":"):
            byte = self._file.read(1)
            assert byte, "firefox has exited"
            length += byte
        return json.loads(self._file.read(int(length[:-1])))


@contextlib.contextmanager
def started(profile: pathlib.Path) -> Iterator[Firefox]:
    """Starts a browser and closes it at the end of the block."""
    browser = Firefox(profile)
    try:
        yield browser
    finally:
        browser.close()
