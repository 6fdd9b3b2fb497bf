"""A real browser without a driver: headless Chromium over its DevTools pipe."""

from __future__ import annotations

import base64
import contextlib
import fcntl
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
_FLAGS = (
    "--headless",
    "--no-sandbox",  # it would not start for root; the pages are ours
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-extensions",
    "--disable-features=IsolateSandboxedIframes,MediaRouter,OptimizationHints,Translate",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND",
    "--no-default-browser-check",
    "--no-first-run",
    "--no-proxy-server",
    "--remote-debugging-pipe",
)
_PLUMB = (  # the pipe must be file descriptors 3 and 4
    "import os, sys; os.dup2(int(sys.argv[1]), 3); os.dup2(int(sys.argv[2]), 4); "
    "os.execv(sys.argv[3], sys.argv[3:])"
)
_SECONDS = 60.0  # for any one answer, on a busy machine


def find_browser() -> str | None:
    """Return a browser's path: that of $CHROME, else the first of `NAMES`.

    Raises:
        FileNotFoundError: If $CHROME is no program.
    """
    named = os.environ.get("CHROME")
    if named:
        found = shutil.which(named)
        if found is None:
            msg = f"CHROME={named} is no program"
            raise FileNotFoundError(msg)
        return found
    return next((found for name in NAMES if (found := shutil.which(name))), None)


class Browser:
    """A browser with a profile of its own; a context manager that ends it.

    Args:
        program: Its path.
        folder: Where its profile and its log lie.
    """

    def __init__(self, program: str, folder: Path) -> None:
        ours_in, theirs_out = _pipe()
        theirs_in, ours_out = _pipe()
        self._in, self._out = ours_in, ours_out
        self._log = folder / "browser.log"
        self._buffer = b""
        self._count = 0
        self.events: dict[str, list[dict[str, Any]]] = {}
        plumb = [sys.executable, "-I", "-S", "-c", _PLUMB, str(theirs_in), str(theirs_out)]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [*plumb, program, *_FLAGS, f"--user-data-dir={folder / 'profile'}", "about:blank"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=(theirs_in, theirs_out),
                start_new_session=True,
            )
        os.close(theirs_in)
        os.close(theirs_out)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError, TimeoutError):
            self.send("Browser.close")
        try:
            self._process.wait(10.0)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        os.close(self._in)
        os.close(self._out)

    def send(self, method: str, session: str | None = None, **params: Any) -> dict[str, Any]:
        """Call a method of the DevTools protocol, and return what it answers."""
        self._count += 1
        number = self._count
        message: dict[str, Any] = {"id": number, "method": method, "params": params}
        if session is not None:
            message["sessionId"] = session
        data = json.dumps(message).encode() + b"\0"
        while data:
            data = data[os.write(self._out, data) :]
        while True:
            answer = self._receive()
            if answer.get("id") == number:
                if "error" in answer:
                    msg = f"{method}: {answer['error']}"
                    raise OSError(msg)
                result: dict[str, Any] = answer["result"]
                return result

    def wait_for(self, session: str, method: str) -> None:
        """Wait until a session tells of an event."""
        while not any(event["method"] == method for event in self.events[session]):
            self._receive()

    @contextlib.contextmanager
    def tab(self) -> Iterator[Tab]:
        """A fresh tab."""
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        attached = self.send("Target.attachToTarget", targetId=target, flatten=True)
        try:
            yield Tab(self, attached["sessionId"])
        finally:
            self.send("Target.closeTarget", targetId=target)

    def _receive(self) -> dict[str, Any]:
        """Return the next message; events are kept as well."""
        end = time.monotonic() + _SECONDS
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._in], [], [], max(end - time.monotonic(), 0.0))
            if not ready:
                msg = f"the browser said nothing for {_SECONDS:.0f} s; {self._said()}"
                raise TimeoutError(msg)
            read = os.read(self._in, 1 << 20)
            if not read:
                msg = f"the browser left; {self._said()}"
                raise ConnectionError(msg)
            self._buffer += read
        data, _, self._buffer = self._buffer.partition(b"\0")
        message: dict[str, Any] = json.loads(data)
        if "method" in message and "sessionId" in message:
            self.events.setdefault(message["sessionId"], []).append(message)
        return message

    def _said(self) -> str:
        return f"its last words: {self._log.read_text(errors='replace')[-2000:]}"


class Tab:
    """One page of a browser, with everything it asked for and complained about."""

    def __init__(self, browser: Browser, session: str) -> None:
        self._browser = browser
        self._session = session
        browser.events[session] = []
        for domain in ("Page", "Network", "Runtime", "Log"):
            self.send(f"{domain}.enable")
        self.send("Emulation.setFocusEmulationEnabled", enabled=True)

    def send(self, method: str, **params: Any) -> dict[str, Any]:
        """Call a method of the DevTools protocol for this page."""
        return self._browser.send(method, self._session, **params)

    def open(self, file: Path) -> None:
        """Load a page, wholly."""
        self._browser.events[self._session].clear()
        answer = self.send("Page.navigate", url=file.as_uri())
        assert "errorText" not in answer, answer
        self._browser.wait_for(self._session, "Page.loadEventFired")

    def look(self, width: int, height: int = 800, *, scheme: str = "light") -> None:
        """Set the window's size and the colour scheme that the user prefers."""
        self.send(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        feature = {"name": "prefers-color-scheme", "value": scheme}
        self.send("Emulation.setEmulatedMedia", features=[feature])

    def run(self, script: str) -> Any:
        """Return what a JavaScript expression yields."""
        answer = self.send("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    @property
    def asked(self) -> list[str]:
        """Addresses that the page asked for, its own included."""
        events = self._browser.events[self._session]
        return [
            event["params"]["request"]["url"]
            for event in events
            if event["method"] == "Network.requestWillBeSent"
        ]

    @property
    def problems(self) -> list[str]:
        """Errors of scripts, and whatever else the console shows."""
        kinds = ("Log.entryAdded", "Runtime.exceptionThrown", "Runtime.consoleAPICalled")
        events = self._browser.events[self._session]
        return [json.dumps(event["params"]) for event in events if event["method"] in kinds]

    def point_at(self, selector: str) -> tuple[float, float]:
        """Move the mouse over the first element of a kind."""
        x, y = self.run(
            f"""(() => {{
                const found = document.querySelector({json.dumps(selector)});
                found.scrollIntoView({{block: "center"}});
                const box = found.getBoundingClientRect();
                return [box.left + Math.min(box.width / 2, 40), box.top + box.height / 2];
            }})()"""
        )
        self.send("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
        return x, y

    def click(self, selector: str) -> None:
        """Click the first element of a kind."""
        x, y = self.point_at(selector)
        for kind in ("mousePressed", "mouseReleased"):
            button = {"button": "left", "clickCount": 1}
            self.send("Input.dispatchMouseEvent", type=kind, x=x, y=y, **button)

    def press_tab(self) -> None:
        """Move the focus on."""
        for kind in ("rawKeyDown", "keyUp"):
            key = {"key": "Tab", "code": "Tab", "windowsVirtualKeyCode": 9}
            self.send("Input.dispatchKeyEvent", type=kind, **key)

    def picture(self, file: Path, *, whole: bool = False) -> None:
        """Save what is seen, or the whole page, as a PNG."""
        more: dict[str, Any] = {}
        if whole:
            size = self.send("Page.getLayoutMetrics")["cssContentSize"]
            more = {"clip": {**size, "scale": 1}, "captureBeyondViewport": True}
        file.write_bytes(base64.b64decode(self.send("Page.captureScreenshot", **more)["data"]))


def _pipe() -> tuple[int, int]:
    """Return a pipe whose ends are above 3 and 4."""
    ends = os.pipe()
    high = tuple(fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in ends)
    for end in ends:
        os.close(end)
    return high[0], high[1]
