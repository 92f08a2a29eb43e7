"""The page and the comment: what they show, and that nothing in the data comes to life in them."""

from __future__ import annotations

import html.parser
import io
import re
import shutil
import struct
import subprocess
import wave
import zlib
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy
import pytest
from PIL import Image

from dvtool import Report, snapshot
from dvtool.repo import Repo
from dvtool.reports.markup import text
from tests.scenario import Clone, Remote, noise

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
LOADING = ("src", "href", "srcset", "data", "action", "poster", "background", "xlink:href")


class _Checked(html.parser.HTMLParser):
    """Reads a page, and refuses what loads or runs anything."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.images: list[str] = []
        self.text = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag not in ("script", "iframe", "object", "embed", "link", "base", "form", "b2")
        for name, value in attrs:
            assert not name.startswith("on"), (tag, name)
            if name in LOADING:
                assert (value or "").startswith(("#", "data:image/webp;base64,")), (tag, value)
        if tag == "img":
            self.images.append(dict(attrs)["src"] or "")

    def handle_data(self, data: str) -> None:
        self.text += data


def checked(report: Report) -> _Checked:
    page = report.html
    assert len(page.encode()) < 5_000_000
    assert len(report.markdown) < 65_000
    assert "@import" not in page and "url(" not in page.replace("&", "")
    return _Checked(page)


def picture(color: str, *, spot: str | None = None, size: tuple[int, int] = (64, 48)) -> bytes:
    image = Image.new("RGB", size, color)
    if spot is not None:
        image.paste(spot, (0, 0, size[0] // 2, size[1] // 2))
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def sound(level: int) -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as written:
        written.setparams((1, 2, 8_000, 0, "NONE", ""))
        written.writeframes(struct.pack("<h", level) * 4_000)
    return file.getvalue()


def array(shift: float) -> bytes:
    file = io.BytesIO()
    numpy.save(file, numpy.arange(12.0).reshape(3, 4) + shift)
    return file.getvalue()


def hdf5(shift: int) -> bytes:
    file = io.BytesIO()
    with h5py.File(file, "w") as written:
        written["group/x"] = numpy.arange(6) + shift
        written["elsewhere"] = h5py.ExternalLink("/etc/passwd", "/x")
    return file.getvalue()


def safetensors(value: int) -> bytes:
    header = b'{"w":{"dtype":"I32","shape":[2],"data_offsets":[0,8]}}'
    return len(header).to_bytes(8, "little") + header + struct.pack("<ii", value, value)


def report_of(
    tmp_path: Path, old: dict[str, bytes], new: dict[str, bytes], **options: object
) -> Report:
    clone = Clone.new(tmp_path / "work", Remote(str(tmp_path / "remote")))
    for message, files in (("one", old), ("two", new)):
        if (clone.path / "data").exists():
            clone.remove("data")
        for name, data in {"kept.bin": noise(9), **files}.items():
            clone.write(f"data/{name}", data)
        clone.add("data")
        clone.commit(message)
    with clone.repo() as repo:
        repo.push()
        return repo.reports.changes("HEAD~1", "HEAD", **options)  # type: ignore[arg-type]


def test_what_changed_of_each_kind(tmp_path: Path) -> None:
    make: dict[str, Callable[[int], bytes]] = {
        "img/p.png": lambda n: picture("red", spot="blue" if n else None),
        "img/sized.png": lambda n: picture("red", size=(20 + n, 20)),
        "a.wav": lambda n: sound(9_000 * (n + 1)),
        "a.npy": array,
        "a.h5": hdf5,
        "a.safetensors": safetensors,
        "t.csv": lambda n: b"id,v\n" + b"".join(b"%d,%d\n" % (k, k * (n + 1)) for k in range(30)),
        "notes.txt": lambda n: b"same\n" + (b"changed\n" if n else b"before\n"),
    }
    old = {name: write(0) for name, write in make.items()} | {"gone.txt": b"x", "m.txt": b"move"}
    new = {name: write(1) for name, write in make.items()} | {"n.txt": b"move"}
    report = report_of(tmp_path, old, new, key=["id"])
    page = checked(report)
    assert len(page.images) == 5  # two pairs, and a difference of the one with equal sizes
    for shown in (
        *("25.0 % of the pixels differ", "no difference view: the sizes differ"),
        *("before: 0.50 s, 8,000 Hz, mono, 16 bit", "3 × 4", "float64", "6.5", "group/x", "I32"),
        *("29 changed", "by id", "cells that differ: v 29", "-before", "+changed"),
        *("data/n.txt from m.txt", "data/gone.txt", "renamed"),
    ):
        assert shown in page.text, shown
    for shown in ("29 changed", "25.0 % of the pixels differ", "`data/n.txt` from `m.txt`"):
        assert shown in report.markdown
    assert page.text.count("elsewhere") == 0  # a link to another file is not followed


def _png_of_size(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        body = kind + data
        return len(data).to_bytes(4, "big") + body + zlib.crc32(body).to_bytes(4, "big")

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    data = chunk(b"IDAT", zlib.compress(bytes(1 << 20)))
    return b"\x89PNG\r\n\x1a\n" + head + data + chunk(b"IEND", b"")


EVIL = "<img src=x onerror=alert(1)>"
HOSTILE: dict[str, tuple[bytes, str]] = {
    "markup.csv": (f'id,"{EVIL}"\n1,"{EVIL}"\n2,=cmd()\n'.encode(), EVIL),
    "drawing.svg": (b"<svg onload='alert(1)'><script>alert(2)</script></svg>", "<svg onload="),
    "page.html": (b"</pre><script src=http://evil.example/x.js></script>", "</pre><script"),
    "bomb.png": (_png_of_size(60_000, 60_000), "not decoded"),
    "large.png": (_png_of_size(9_000, 9_000), "81,000,000".replace("81,000,000", "9,000 × 9,000")),
    "broken.jpg": (b"\xff\xd8\xff\xe0 no such thing", "cannot be decoded"),
    "named.png.jpg": (b"<svg onload=alert(1)>", "cannot be decoded"),
    "deep.json": (b'{"images":' + b"[" * 50_000 + b"]" * 50_000, ""),
    "deep.jsonl": (b"[" * 50_000 + b"]" * 50_000, "nested too deeply"),
    "pickle.npy": (b"\x93NUMPY\x01\x00\x10\x00{'descr':'O'}   \n", "cannot be read"),
    "claims.npy": (array(1.0)[:-8], "claims more than the file has"),
    "claims.safetensors": (b"\xff" * 8 + b"{}", "too large"),
    "claims.wav": (sound(1)[:30], "cannot be read"),
    "broken.h5": (b"\x89HDF\r\n\x1a\n" + bytes(90), "cannot be read"),
    "ticks.md": (b"```\n# @everyone ![x](http://evil.example/x.png)\n", "@everyone"),
}


def test_hostile_content_is_inert(tmp_path: Path) -> None:
    names = {f'"><script>alert(1)</script>{EVIL.replace("/", "")}.txt'.replace("/", "_"): b"a"}
    names |= {"`|![x](http:evil).txt": b"b", "\x1b[31m\u202e.txt": b"c"}
    report = report_of(tmp_path, {}, {name: data for name, (data, _) in HOSTILE.items()} | names)
    page = checked(report)  # refuses what came to life
    for name, (_, shown) in HOSTILE.items():
        assert name in page.text
        assert shown in page.text, name
    assert "\x1b" not in report.html + report.markdown and "\u202e" not in report.html
    outside = re.sub(r"(?ms)^(`{3,})diff\n.*?^\1$", "", report.markdown)
    outside = re.sub(r"(`+)(?!`).+?(?<!`)\1(?!`)", "", outside)
    assert not re.search(r"!\[|<script|<img|@everyone|evil", outside), outside


def test_much_is_sampled_and_it_says_how(tmp_path: Path) -> None:
    pictures = {f"img/{n:04}.png": picture((n % 256, 0, 0)) for n in range(120)}  # type: ignore[arg-type]
    texts = {f"text/{n:04}.txt": b"line\n" * 100 for n in range(700)}
    report = report_of(tmp_path, {}, pictures | texts)
    page = checked(report)
    assert len(page.images) == 24
    assert "24 of 120 are shown, spread evenly over the paths" in page.text
    assert "the first 500 of 820" in page.text
    assert "… 720 more" in report.markdown


def test_pages_and_comments_stay_below_their_limits(tmp_path: Path) -> None:
    noisy = io.BytesIO()
    Image.frombytes("RGB", (320, 320), noise(320 * 320 * 3)).save(noisy, "PNG")
    wide = b",".join(b"column%d" % n for n in range(300)) + b"\n" + b",".join([b"x" * 190] * 300)
    files = {f"img/{n}.png": noisy.getvalue()[:-12] + noise(4, n) for n in range(30)}
    files |= {f"t{n}.csv": wide + b"\n" + wide for n in range(14)}
    files |= {f"{n}{'long name ' * 20}.txt": noise(90, n).hex().encode() * 40 for n in range(200)}
    checked(report_of(tmp_path, {}, files))


@pytest.mark.parametrize("revisions", [("HEAD~1", "HEAD")])
def test_a_repository_by_url_reads_from_its_remote(
    tmp_path: Path, revisions: tuple[str, str]
) -> None:
    report_of(tmp_path, {"p.png": picture("red")}, {"p.png": picture("blue")})
    url = f"file://{tmp_path / 'work'}"
    environ = {"DV_REMOTE_ORIGIN_URL": str(tmp_path / "remote")}
    commits = [snapshot(rev, url, environ=environ) for rev in revisions]
    with Repo.open(commits[0].git_dirs[1], environ=environ) as repo:
        page = checked(repo.reports.changes(commits[0].commit, commits[1].commit))
    assert len(page.images) == 3 and commits[1].commit[:10] in page.text


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed (apt install chromium)")
@pytest.mark.parametrize("width", [360, 1200])
def test_a_browser_shows_the_page(tmp_path: Path, width: int) -> None:
    report = report_of(tmp_path, {"p.png": picture("red")}, {"p.png": picture("red", spot="blue")})
    (tmp_path / "page.html").write_text(report.html, encoding="utf-8")
    assert CHROMIUM is not None
    frame = f'<iframe src="page.html" width="{width}" height="1500" style="border:0"></iframe>'
    (tmp_path / "frame.html").write_text(f'<body style="margin:0">{frame}')
    shot = tmp_path / "shot.png"
    subprocess.run(
        [
            *(CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu"),
            *("--disable-background-networking", f"--user-data-dir={tmp_path / 'profile'}"),
            *(f"--screenshot={shot}", f"--window-size={max(width, 500)},1500"),
            (tmp_path / "frame.html").as_uri(),
        ],
        check=True,
        capture_output=True,
        timeout=120,
    )
    with Image.open(shot) as image:
        colours = {colour for _, colour in image.convert("RGB").getcolors(1 << 24) or ()}
    assert any(red > 200 and green < 60 and blue < 60 for red, green, blue in colours)


def test_an_address_in_text_of_others_is_none_in_the_page() -> None:
    for foreign in ("<img src=http://evil.example/x>", "HTTPS://evil.example", "see http:x"):
        escaped = text(foreign)
        assert not re.search("https?:", escaped, re.IGNORECASE)
        assert html.unescape(escaped) == foreign
