"""A headless Chromium, controlled with its DevTools protocol over a pipe."""

import base64
import contextlib
import itertools
import json
import os
import pathlib
import signal
import subprocess
from collections.abc import Iterator
from typing import Any

from tests import needs

_FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--mute-audio"),
    *("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream", "--remote-debugging-pipe"),
)


def when(condition: str) -> str:
    """JavaScript for a promise that resolves when an expression becomes true."""
    return (
        "new Promise((done) => { const look = () => { let now = false; "
        f"try {{ now = {condition}; }} catch {{ }} now ? done() : setTimeout(look, 20); }}; look(); }})"
    )


class Tab:
    """A tab.

    Attributes:
        requests: URLs that the page requested.
        messages: Console output and uncaught errors.
    """

    def __init__(self, browser: "Browser", session: str):
        self._browser, self._session = browser, session
        self.requests: list[str] = []
        self.messages: list[str] = []
        for domain in ("Page", "Runtime", "Network", "DOM", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **arguments: Any) -> dict[str, Any]:
        """Calls a method of the protocol."""
        return self._browser.call(method, self._session, **arguments)

    def open(self, address: str) -> None:
        """Opens a URL of the camera page in the foreground and waits until the page is ready."""
        self.call("Page.navigate", url="about:blank")
        self.call("Page.bringToFront")
        self.call("Page.navigate", url=address)
        self.wait("document.documentElement.dataset.ready === 'yes'")

    def run(self, script: str) -> Any:
        """Returns the value of an expression, or of the promise that it returns."""
        done = self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in done, done["exceptionDetails"]
        return done["result"].get("value")

    def wait(self, condition: str) -> None:
        """Waits for an expression to become true, without a deadline."""
        self.run(when(condition))

    def choose_file(self, selector: str, path: pathlib.Path) -> None:
        """Chooses a file in a file input, as a user does."""
        root = self.call("DOM.getDocument")["root"]["nodeId"]
        node = self.call("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.call("DOM.setFileInputFiles", nodeId=node, files=[str(path)])

    def show(self, width: int, height: int, dark: bool) -> None:
        """Sets the size of the window in CSS pixels, and the color scheme that the user prefers."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])

    def screenshot(self, path: pathlib.Path) -> None:
        """Writes a PNG of the whole page."""
        done = self.call("Page.captureScreenshot", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(done["data"]))

    def note(self, event: dict[str, Any]) -> None:
        """Records a request or a message from an event."""
        parameters = event["params"]
        if event["method"] == "Network.requestWillBeSent":
            self.requests.append(parameters["request"]["url"])
        elif event["method"] == "Runtime.consoleAPICalled":
            self.messages.append(" ".join(str(value.get("value", "")) for value in parameters["args"]))
        elif event["method"] == "Runtime.exceptionThrown":
            details = parameters["exceptionDetails"]
            self.messages.append(details.get("exception", {}).get("description") or details["text"])
        elif event["method"] == "Log.entryAdded":
            self.messages.append(f"{parameters['entry']['text']} {parameters['entry'].get('url', '')}")


class Browser:
    """A browser.

    Args:
        profile: Folder for its profile; it may exist.
        flags: Additional flags.
    """

    def __init__(self, profile: pathlib.Path, *flags: str):
        program = needs.program("chromium", "google-chrome")
        (its_in, our_out), (our_in, its_out) = os.pipe(), os.pipe()
        # Chromium reads from file descriptor 3 and writes to 4.
        script = f'exec "$@" 3<&{its_in} 4>&{its_out}'
        command = ["bash", "-c", script, "bash", program, *_FLAGS, f"--user-data-dir={profile}", *flags]
        self._process = subprocess.Popen(
            command,
            pass_fds=(its_in, its_out),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        os.close(its_in)
        os.close(its_out)
        self._out, self._in = os.fdopen(our_out, "wb", 0), os.fdopen(our_in, "rb")
        self._numbers, self._tabs, self._rest = itertools.count(1), {}, b""

    def tab(self) -> Tab:
        """Opens a new tab."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self._tabs[session] = tab = Tab(self, session)
        return tab

    def call(self, method: str, session: str = "", **arguments: Any) -> dict[str, Any]:
        """Calls a method of the protocol; passes the events that arrive before its result to their tabs."""
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": arguments, **({"sessionId": session} if session else {})}
        self._out.write(json.dumps(message).encode() + b"\0")
        while True:
            answer = self._read()
            if answer.get("id") == number:
                assert "error" not in answer, (method, answer["error"])
                return answer["result"]
            if tab := self._tabs.get(answer.get("sessionId")):
                tab.note(answer)

    def close(self) -> None:
        """Kills the browser and all its processes."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._out.close()
        self._in.close()

    def _read(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            content = self._in.read1(1 << 20)
            assert content, "the browser has exited"
            self._rest += content
        message, _, self._rest = self._rest.partition(b"\0")
        return json.loads(message)


@contextlib.contextmanager
def started(profile: pathlib.Path, *flags: str) -> Iterator[Browser]:
    """Starts a browser and closes it at the end of the block."""
    browser = Browser(profile, *flags)
    try:
        yield browser
    finally:
        browser.close()
