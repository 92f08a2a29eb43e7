"""Pages of the built site in a headless Chromium: pictures of them, and faults that can be counted.

`scripts/screens FOLDER` shows each page wide and narrow, light and dark.
The browser is driven through its DevTools protocol on two pipes: JSON messages that end in a zero
byte (https://chromedevtools.github.io/devtools-protocol).
"""

from __future__ import annotations

import base64
import contextlib
import io
import itertools
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
WAYS = tuple(itertools.product((1280, 390), ("light", "dark")))
"""Width in CSS pixels, and scheme of colours."""
SHEET_PX = 1560
WIDE_SCALE, NARROW_SCALE = 0.4, 0.55
COLUMN_GAP_PX = 8
FAULTS = (Path(__file__).parent / "faults.js").read_text("utf-8")


class Shot(NamedTuple):
    """A page in one way: `image` is None if no picture was asked for."""

    width_px: int
    scheme: str
    image: Image.Image | None
    faults: list[str]


class Browser:
    """A Chromium with one tab."""

    def __init__(self, profile: str) -> None:
        assert CHROMIUM is not None
        command_read, self._commands = os.pipe()
        self._answers, answer_write = os.pipe()
        command = [
            *(CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"),
            *("--disable-background-networking", f"--user-data-dir={profile}"),
            *("--remote-debugging-pipe", "about:blank"),
        ]
        # The protocol's pipes are the descriptors 3 and 4 of the browser.
        redirected = ["bash", "-c", f'exec "$@" 3<&{command_read} 4>&{answer_write}', "bash"]
        self._process = subprocess.Popen(
            redirected + command,
            pass_fds=(command_read, answer_write),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(command_read)
        os.close(answer_write)
        self._reader = os.fdopen(self._answers, "rb")
        self._rest = b""
        self._numbers = itertools.count(1)
        self._session: str | None = None
        tabs = self.call("Target.getTargets")["targetInfos"]
        tab = next(info["targetId"] for info in tabs if info["type"] == "page")
        answer = self.call("Target.attachToTarget", targetId=tab, flatten=True)
        self._session = answer["sessionId"]
        self.call("Page.enable")

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Return what a method of the protocol answers."""
        number = next(self._numbers)
        message: dict[str, Any] = {"id": number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._commands, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == number:
                if "error" in answer:
                    raise AssertionError(f"{method}: {answer['error']}")
                result: dict[str, Any] = answer["result"]
                return result

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            part = self._reader.read1(1 << 20)
            if not part:
                raise AssertionError("the browser ended")
            self._rest += part
        message, _, self._rest = self._rest.partition(b"\0")
        decoded: dict[str, Any] = json.loads(message)
        return decoded

    def open(self, url: str, width_px: int, scheme: str) -> None:
        """Show a page, and wait until it is loaded."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width_px,
            height=900,
            deviceScaleFactor=1,
            mobile=False,
        )
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.call("Emulation.setEmulatedMedia", features=features)
        self.call("Page.navigate", url=url)
        loaded = "new Promise(done => addEventListener('load', () => done(1)))"
        self.evaluate(f"document.readyState === 'complete' ? 1 : {loaded}")
        decoded = "Promise.all([...document.images].map(one => one.decode().catch(() => 0)))"
        self.evaluate(f"{decoded}.then(() => 1)")

    def evaluate(self, script: str) -> Any:
        """Return the value of a script of the page."""
        answer = self.call(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def picture(self) -> Image.Image:
        """Return the whole page, also what is below the window."""
        size = self.call("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}
        shot = self.call("Page.captureScreenshot", captureBeyondViewport=True, clip=clip)
        return Image.open(io.BytesIO(base64.b64decode(shot["data"]))).convert("RGB")

    def close(self) -> None:
        """End the browser."""
        with contextlib.suppress(AssertionError):
            self._session = None
            self.call("Browser.close")
        os.close(self._commands)
        self._reader.close()
        self._process.wait()


@contextlib.contextmanager
def browser() -> Iterator[Browser]:
    """Start a browser with a profile of its own."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        started = Browser(profile)
        try:
            yield started
        finally:
            started.close()


def shots(chromium: Browser, page: Path, *, pictures: bool) -> list[Shot]:
    """Return a page in all its ways."""
    taken = []
    for width_px, scheme in WAYS:
        chromium.open(page.as_uri(), width_px, scheme)
        faults = chromium.evaluate(FAULTS)
        taken.append(Shot(width_px, scheme, chromium.picture() if pictures else None, faults))
    return taken


def sheets(taken: list[Shot]) -> Iterator[Image.Image]:
    """Yield the pictures of a page beside each other, long ones cut into columns."""
    columns: list[Image.Image] = []
    for shot in taken:
        assert shot.image is not None
        scale = WIDE_SCALE if shot.width_px > 1000 else NARROW_SCALE
        size = (round(shot.image.width * scale), round(shot.image.height * scale))
        small = shot.image.resize(size, Image.Resampling.LANCZOS)
        for top in range(0, small.height, SHEET_PX):
            bottom = min(top + SHEET_PX, small.height)
            columns.append(small.crop((0, top, small.width, bottom)))
    while columns:
        row: list[Image.Image] = []
        while columns and (not row or sum(c.width for c in (*row, columns[0])) <= SHEET_PX + 40):
            row.append(columns.pop(0))
        width = sum(column.width + COLUMN_GAP_PX for column in row)
        sheet = Image.new("RGB", (width, max(column.height for column in row)), (255, 0, 255))
        left = 0
        for column in row:
            sheet.paste(column, (left, 0))
            left += column.width + COLUMN_GAP_PX
        yield sheet


def main() -> None:
    """Write the sheets of pages to a folder, and print the faults: SITE FOLDER [PAGE]…"""
    site, folder = Path(sys.argv[1]).resolve(), Path(sys.argv[2])
    names = sys.argv[3:] or sorted(
        path.relative_to(site).with_suffix("").as_posix()
        for path in site.rglob("*.html")
        if path.name not in ("search.html", "genindex.html")  # the theme's own
    )
    folder.mkdir(parents=True, exist_ok=True)
    with browser() as chromium:
        for name in names:
            taken = shots(chromium, site / f"{name}.html", pictures=True)
            for number, sheet in enumerate(sheets(taken), 1):
                sheet.save(folder / f"{name.replace('/', '-')}-{number}.png")
            for shot in taken:
                for fault in shot.faults:
                    print(f"{name} {shot.width_px} {shot.scheme}: {fault}")


if __name__ == "__main__":
    main()
