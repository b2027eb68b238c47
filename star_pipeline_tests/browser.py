"""A headless Chromium, driven over its debugging protocol: what tests need of a real browser, and no more."""

import asyncio
import itertools
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
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


_PATIENCE_S = 300.0


async def _session() -> aiohttp.ClientSession:
    return aiohttp.ClientSession()


class Page:
    """One page. ``messages`` are its console's errors and warnings and its exceptions, ``requests`` the URLs that it asked for."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse, loop: asyncio.AbstractEventLoop) -> None:
        self._socket, self._loop, self._ids = socket, loop, itertools.count(1)
        self.messages: list[str] = []
        self.requests: list[str] = []

    def call(self, method: str, **parameters: Any) -> Any:
        """A method of the debugging protocol; events that come meanwhile are noted."""
        return self._loop.run_until_complete(asyncio.wait_for(self._call(method, parameters), _PATIENCE_S))

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

    def wait_for(self, condition: str, seconds: float = _PATIENCE_S / 2) -> None:
        """Until the script ``condition`` holds, looked at in each of the browser's frames."""
        began = f"const began = performance.now(), wait = () => ({condition}) ? done(true)"
        rest = f": performance.now() - began > {seconds * 1000} ? done(false) : setTimeout(wait, 20); wait()"
        assert self.evaluate(f"new Promise((done) => {{ {began} {rest} }})"), f"never true in the page: {condition}"

    def is_at(self, protocol: str) -> bool:
        """Whether the HTML of a page of this protocol is read; not so while one page makes way for another, which nobody can be asked."""
        with suppress(AssertionError):
            asked = f"document.readyState !== 'loading' && location.protocol === '{protocol}'"
            return bool(self.evaluate(asked))
        return False

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
            until = time.monotonic() + _PATIENCE_S
            while not (port.exists() and len(port.read_text().splitlines()) == 2):
                assert browser.poll() is None, "the browser ended"
                assert time.monotonic() < until, "the browser does not start"
                time.sleep(0.05)
            address = f"http://127.0.0.1:{port.read_text().splitlines()[0]}/json"

            async def connect(session: aiohttp.ClientSession) -> aiohttp.ClientWebSocketResponse:
                while True:  # its first page may come after its port
                    async with session.get(address) as reply:
                        pages = [one for one in await reply.json(content_type=None) if one["type"] == "page"]
                    if pages:
                        return await session.ws_connect(pages[0]["webSocketDebuggerUrl"], max_msg_size=0)
                    assert time.monotonic() < until, "the browser opens no page"
                    await asyncio.sleep(0.05)

            session = loop.run_until_complete(_session())
            page = Page(loop.run_until_complete(connect(session)), loop)
            for domain in ("Page", "Runtime", "Network", "Log"):
                page.call(f"{domain}.enable")
            page.call(
                "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False
            )
            page.call("Page.navigate", url=path.as_uri() + fragment)
            while not page.is_at("file:"):
                assert time.monotonic() < until + _PATIENCE_S, "the browser does not open the page"
                time.sleep(0.02)
            yield page
        finally:
            if session:
                loop.run_until_complete(session.close())
            browser.terminate()
            try:
                browser.wait(60)
            except subprocess.TimeoutExpired:
                browser.kill()
                browser.wait()
            loop.close()
