"""The page and the comment: what they show, and that nothing in the data comes to life in them."""

from __future__ import annotations

import html.parser
import io
import json
import re
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy
import pytest
import vega_datasets
from PIL import Image, ImageOps

from dvtool import Report, snapshot
from dvtool.repo import Repo
from dvtool.reports.markup import text
from tests.scenario import Clone, Remote, noise
from tests.site.browser import CHROMIUM, browser, shots
from tests.unit.reports.files import (
    HOSTILE,
    coco,
    hdf5,
    hostile_files,
    npy,
    picture,
    safetensors,
    sound,
)

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
        "a.wav": lambda n: sound([9_000 * (n + 1)] * 4_000),
        "a.npy": lambda n: npy(numpy.arange(12.0).reshape(3, 4) + n),
        "a.h5": lambda n: hdf5({"group/x": numpy.arange(6) + n}),
        "a.safetensors": lambda n: safetensors({"w": numpy.full(2, n, "int32")}),
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


def test_hostile_content_is_inert(tmp_path: Path) -> None:
    report = report_of(tmp_path, {}, hostile_files())
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
def test_a_browser_shows_the_page(tmp_path: Path) -> None:
    """Wide and narrow, light and dark: nothing sticks out or is pale, and pictures are there."""
    source = Path(vega_datasets.__file__).parent / "_data"
    tables = {name: (source / name).read_bytes() for name in ("stocks.csv", "seattle-weather.csv")}
    lines = {name: data.splitlines(keepends=True) for name, data in tables.items()}
    fewer = {name: b"".join(found[:90] + found[99:]) for name, found in lines.items()}
    old = {"p.png": picture("red"), "labels.json": json.dumps(coco(0)).encode()}
    new = {"p.png": picture("red", spot="blue"), "labels.json": json.dumps(coco(1)).encode()}
    sklearn = find_spec("sklearn")
    assert sklearn is not None and sklearn.origin is not None
    with Image.open(Path(sklearn.origin).parent / "datasets" / "images" / "flower.jpg") as image:
        for side, shown in ((old, image), (new, ImageOps.mirror(image))):
            file = io.BytesIO()
            shown.save(file, "JPEG")
            side["photo.jpg"] = file.getvalue()
    report = report_of(tmp_path, old | tables, new | fewer | hostile_files())
    (tmp_path / "page.html").write_text(report.html, encoding="utf-8")
    with browser() as chromium:
        taken = shots(chromium, tmp_path / "page.html", pictures=True)
    for shot in taken:
        assert not shot.faults, (shot.width_px, shot.scheme)
        assert shot.image is not None
        colours = {colour for _, colour in shot.image.getcolors(1 << 24) or ()}
        assert any(red > 200 and green < 60 and blue < 60 for red, green, blue in colours)
        assert sum(shot.image.getpixel((2, 2))) > 700 or shot.scheme == "dark"
        assert sum(shot.image.getpixel((2, 2))) < 100 or shot.scheme == "light"


def test_an_address_in_text_of_others_is_none_in_the_page() -> None:
    for foreign in ("<img src=http://evil.example/x>", "HTTPS://evil.example", "see http:x"):
        escaped = text(foreign)
        assert not re.search("https?:", escaped, re.IGNORECASE)
        assert html.unescape(escaped) == foreign
