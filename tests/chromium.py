"""A headless Chromium spoken to over its DevTools protocol: what a reader's browser does, seen from a test."""

from __future__ import annotations

import base64
import itertools
import json
import shutil
import subprocess
import time
import urllib.request
from pathlib import Path
from typing import Any

import websocket

EXECUTABLE = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
         "--disable-background-networking", "--disable-component-update", "--remote-debugging-port=0",
         "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"]  # fmt: skip


class Chromium:
    """One browser without any network, with one page. `requests` and `errors` are those since the last `open`."""

    def __init__(self, profile: Path) -> None:
        self.process = subprocess.Popen(
            [EXECUTABLE, *FLAGS, f"--user-data-dir={profile}", "about:blank"], stderr=subprocess.DEVNULL
        )
        port = self._wait_for_port(profile / "DevToolsActivePort")
        pages = json.load(urllib.request.urlopen(f"http://127.0.0.1:{port}/json", timeout=120))
        target = next(page for page in pages if page["type"] == "page")["webSocketDebuggerUrl"]
        self.socket = websocket.create_connection(target, timeout=120, suppress_origin=True)
        self.numbers = itertools.count(1)
        self.events: list[dict[str, Any]] = []
        for domain in ("Page", "Network", "Runtime"):
            self.send(f"{domain}.enable")

    def _wait_for_port(self, file: Path) -> str:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            if file.exists() and (lines := file.read_text().split()):
                return lines[0]
            time.sleep(0.05)
        self.process.kill()
        raise TimeoutError("Chromium did not open its DevTools port within 120 s.")

    def send(self, method: str, **params: Any) -> dict[str, Any]:
        """Call a DevTools method and return its result; events that arrive meanwhile are kept."""
        number = next(self.numbers)
        self.socket.send(json.dumps({"id": number, "method": method, "params": params}))
        while True:
            message = json.loads(self.socket.recv())
            if message.get("id") == number:
                if "error" in message:
                    raise RuntimeError(f"{method}: {message['error']['message']}")
                return message["result"]
            self.events.append(message)

    def open(self, url: str, width: int = 1440, height: int = 900, dark: bool = False) -> None:
        """Load a page at a width in CSS pixels and wait until it has been laid out."""
        self.resize(width, height)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.send("Emulation.setEmulatedMedia", features=[scheme])
        self.events.clear()
        self.send("Page.navigate", url=url)
        while not any(event["method"] == "Page.loadEventFired" for event in self.events):
            self.events.append(json.loads(self.socket.recv()))

    def resize(self, width: int, height: int = 900) -> None:
        """Show the page at another width, below 700 as a telephone does."""
        is_phone = width < 700
        self.send(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=is_phone
        )

    def evaluate(self, script: str) -> Any:
        """The value of a script in the page; a promise is awaited."""
        result = self.send("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in result:
            raise RuntimeError(result["exceptionDetails"].get("exception", {}).get("description", "script failed"))
        return result["result"].get("value")

    @property
    def requests(self) -> list[str]:
        return [e["params"]["request"]["url"] for e in self.events if e["method"] == "Network.requestWillBeSent"]

    @property
    def errors(self) -> list[str]:
        thrown = [e["params"]["exceptionDetails"] for e in self.events if e["method"] == "Runtime.exceptionThrown"]
        return [details.get("exception", {}).get("description", details["text"]) for details in thrown]

    @property
    def refusals(self) -> list[str]:
        """What the page's Content Security Policy has refused, once `Log.enable` was sent."""
        entries = [e["params"]["entry"]["text"] for e in self.events if e["method"] == "Log.entryAdded"]
        return [text for text in entries if "Content Security Policy" in text]

    def screenshot(self, path: Path) -> None:
        """Save the whole page, not just the visible part."""
        size = self.send("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": min(size["height"], 16_000), "scale": 1}
        image = self.send("Page.captureScreenshot", clip=clip, captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(image["data"]))

    def close(self) -> None:
        self.socket.close()
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
