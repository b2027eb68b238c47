"""A headless Chromium, driven over its debugging protocol: what tests need of a real browser, and no more."""

import asyncio
import itertools
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aiohttp

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
_OPTIONS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--remote-debugging-port=0",
)


class Page:
    """One page. ``messages`` are its console's errors and warnings and its exceptions, ``requests`` the URLs that it asked for."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse, loop: asyncio.AbstractEventLoop) -> None:
        self._socket, self._loop, self._ids = socket, loop, itertools.count(1)
        self.messages: list[str] = []
        self.requests: list[str] = []

    def call(self, method: str, **parameters: Any) -> Any:
        """A method of the debugging protocol; events that come meanwhile are noted."""
        return self._loop.run_until_complete(asyncio.wait_for(self._call(method, parameters), 300))

    async def _call(self, method: str, parameters: dict[str, Any]) -> Any:
        number = next(self._ids)
        await self._socket.send_json({"id": number, "method": method, "params": parameters})
        while True:
            said = await self._socket.receive_json()
            if said.get("id") == number:
                assert "error" not in said, said["error"]
                return said["result"]
            self._note(said.get("method", ""), said.get("params", {}))

    def _note(self, event: str, of: dict[str, Any]) -> None:
        if event == "Network.requestWillBeSent":
            self.requests.append(of["request"]["url"])
        elif event == "Runtime.exceptionThrown":
            self.messages.append(
                str(of["exceptionDetails"].get("exception", {}).get("description", of["exceptionDetails"]["text"]))
            )
        elif event == "Runtime.consoleAPICalled" and of["type"] in ("error", "warning"):
            self.messages.append(" ".join(str(part.get("value", part.get("description"))) for part in of["args"]))
        elif event == "Log.entryAdded" and of["entry"]["level"] in ("error", "warning"):
            self.messages.append(of["entry"]["text"])

    def evaluate(self, script: str) -> Any:
        """The value of a script, awaited where it is a promise."""
        found = self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def wait_for(self, condition: str, seconds: float = 120) -> None:
        """Until the script ``condition`` holds, looked at in each of the browser's frames."""
        began = f"const began = performance.now(), wait = () => ({condition}) ? done(true)"
        rest = f": performance.now() - began > {seconds * 1000} ? done(false) : setTimeout(wait, 20); wait()"
        assert self.evaluate(f"new Promise((done) => {{ {began} {rest} }})"), f"never true in the page: {condition}"

    def press(self, key: str) -> None:
        for kind in ("keyDown", "keyUp"):
            self.call(
                "Input.dispatchKeyEvent",
                type=kind,
                key=key,
                **({"text": key} if len(key) == 1 and kind == "keyDown" else {}),
            )


@contextmanager
def opened(path: Path, width: int = 1400, height: int = 900, fragment: str = "") -> Iterator[Page]:
    """The file in a browser window of its own, once its HTML is read."""
    assert CHROMIUM
    loop = asyncio.new_event_loop()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        browser = subprocess.Popen(
            [CHROMIUM, *_OPTIONS, f"--user-data-dir={folder}", "about:blank"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        session = None
        try:
            port = Path(folder, "DevToolsActivePort")
            until = time.monotonic() + 180
            while not (port.exists() and len(port.read_text().splitlines()) == 2):
                assert browser.poll() is None, "the browser ended"
                assert time.monotonic() < until, "the browser does not start"
                time.sleep(0.05)
            address = f"http://127.0.0.1:{port.read_text().splitlines()[0]}/json"

            async def connect() -> tuple[aiohttp.ClientSession, aiohttp.ClientWebSocketResponse]:
                made = aiohttp.ClientSession()
                while True:  # it answers before its first page is there
                    async with made.get(address) as reply:
                        pages = [one for one in await reply.json(content_type=None) if one["type"] == "page"]
                    if pages or time.monotonic() > until:
                        break
                    await asyncio.sleep(0.05)
                return made, await made.ws_connect(pages[0]["webSocketDebuggerUrl"], max_msg_size=0)

            session, socket = loop.run_until_complete(connect())
            page = Page(socket, loop)
            for domain in ("Page", "Runtime", "Network", "Log"):
                page.call(f"{domain}.enable")
            page.call(
                "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False
            )
            page.call("Page.navigate", url=path.as_uri() + fragment)
            while True:
                try:
                    page.wait_for("document.readyState !== 'loading' && location.protocol === 'file:'")
                    break
                except AssertionError:  # the question may have met the page that is left
                    if time.monotonic() > until:
                        raise
            yield page
        finally:
            if session:
                loop.run_until_complete(session.close())
            browser.terminate()
            browser.wait(120)
            loop.close()
