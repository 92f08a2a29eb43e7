"""The site is built without a warning, and all that its pages link to is there."""

from __future__ import annotations

import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest

from tests.site.blocks import DOCS, PROJECT

OUTSIDE = re.compile(r"[a-z][a-z0-9+.-]*:|//")


class Page(HTMLParser):
    """The links and the anchors of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.anchors: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if value and (name == "id" or (tag == "a" and name == "name")):
                self.anchors.add(value)
            elif value and name in ("href", "src"):
                self.links.append(value)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "--fail-on-warning", "--keep-going", "--quiet"]
    command += ["-b", "html", "-d", str(folder / "doctrees"), str(DOCS), str(folder / "html")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "html"


def test_every_link_and_anchor_is_there(site: Path) -> None:
    pages = {path: Page(path.read_text("utf-8")) for path in site.rglob("*.html")}
    assert len(pages) > len(list(DOCS.rglob("*.md")))
    missing = []
    for path, page in pages.items():
        for link in page.links:
            if OUTSIDE.match(link):
                continue
            name, _, anchor = unquote(link.partition("?")[0]).partition("#")
            anchor = anchor or unquote(link).partition("#")[2]
            target = (path.parent / name).resolve() if name else path
            if not target.exists():
                missing.append(f"{path.relative_to(site)}: {link}")
            elif anchor and target in pages and anchor not in pages[target].anchors:
                missing.append(f"{path.relative_to(site)}: no anchor {link}")
    assert not missing, "\n".join(missing)


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md"])
def test_pages_beside_the_site_link_to_what_is_there(name: str) -> None:
    links = re.findall(r"\]\(([^)\s]+)\)", (PROJECT / name).read_text("utf-8"))
    missing = [
        link
        for link in links
        if not OUTSIDE.match(link)
        and link.partition("#")[0]
        and not (PROJECT / link.partition("#")[0]).exists()
    ]
    assert not missing


def test_no_page_is_left_out(site: Path) -> None:
    index = (site / "index.html").read_text("utf-8")
    for path in DOCS.rglob("*.md"):
        page = path.relative_to(DOCS).with_suffix(".html").as_posix()
        if not page.startswith("decisions/0") and page != "index.html":
            assert f'href="{page}"' in index, f"{page} is in no navigation of docs/index.md"
