"""What works with a store that lacks something, and with users who may do less: a table.

The same table is in docs/remotes.md, and is compared with it here.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from dvtool.errors import DvError, RemoteError
from dvtool.remotes.transports.s3.backend import S3Backend
from dvtool.remotes.transports.s3.options import S3Options
from tests.s3.hostile import hostile
from tests.s3.incomplete import IncompleteStore
from tests.s3.test_stores import credentials
from tests.scenario import Clone, Remote, noise

__all__ = ["credentials"]
DOC = Path(__file__).parents[2] / "docs/remotes.md"
BUCKET = "bucket"

LACKS = {
    "a store without HEAD": {"HEAD"},
    "a store without LIST v2": {"LIST"},
    "a store without conditional PUT": {"conditions"},
    "a store without ranges": {"ranges"},
    "a store without DELETE": {"DELETE"},
}
DENIES = {
    "a user who may not list": {"list"},
    "a user who may only read": {"write", "delete"},
    "a user who may read, and not list": {"write", "delete", "list"},
    "a user who may only write": {"read", "list", "delete"},
}
NAMED = {
    "HEAD": "HEAD",
    "LIST": "LIST v2",
    "DELETE": "DELETE",
    "conditions": "If-None-Match",
    "ranges": "Range",
    "list": "s3:ListBucket",
    "write": "s3:PutObject",
    "read": "s3:GetObject",
    "delete": "s3:DeleteObject",
}
"""How an error names a power or a right that is missing."""
DEEDS = ("first push", "next push", "push of nothing new", "pull", "fsck --remote", "gc --remote")


class Day:
    """Two clones and a store; each deed is done with the store as it is to be tried."""

    def __init__(self, folder: Path, lacks: set[str], denies: set[str]) -> None:
        self.whole = IncompleteStore(objects={})
        self.tried = IncompleteStore(frozenset(lacks), frozenset(denies), self.whole.objects)
        self.tried._written = self.whole._written
        self.folder = folder
        self.answering: Callable[..., object] = self.whole

    def do(self, deed: str, url: str) -> None:
        remote = Remote(f"s3://{BUCKET}/p", url)
        mine = Clone.new(self.folder / "mine", remote)
        for number in range(5):
            mine.write(f"data/{number}", noise(3000, number))
        mine.add("data")
        mine.commit("one")
        if deed == "first push":
            self._push(mine)
            assert self._pulled(mine, remote, whole=True) == mine.tree("data")
            return
        self.answering = self.whole
        with mine.repo() as repo:
            repo.push()
        if deed == "next push":
            mine.write("data/more", noise(5000, 9))
            mine.add("data")
            mine.commit("two")
        self.answering = self.tried
        if deed == "pull":
            assert self._pulled(mine, remote, whole=False) == mine.tree("data")
        elif deed == "fsck --remote":
            with mine.repo() as repo:
                assert repo.fsck(remote="origin").clean
        elif deed == "gc --remote":
            with mine.repo() as repo:
                repo.remotes.gc(grace_s=0)
        else:
            self._push(mine)
            assert self._pulled(mine, remote, whole=True) == mine.tree("data")

    def _push(self, clone: Clone) -> None:
        self.answering = self.tried
        before = dict(self.whole.objects)
        try:
            with clone.repo() as repo:
                repo.push()
        finally:
            # Whatever else: what was there is there, and is the same.
            assert before.items() <= self.whole.objects.items()

    def _pulled(self, clone: Clone, remote: Remote, *, whole: bool) -> dict[str, str]:
        self.answering = self.whole if whole else self.tried
        theirs = clone.clone(self.folder / "theirs", remote)
        with theirs.repo() as repo:
            repo.pull()
        return theirs.tree("data")


def documented() -> dict[tuple[str, str], str]:
    """Return (store, deed) -> the cell of the table in docs/remotes.md."""
    rows = [line.strip("|").split("|") for line in DOC.read_text().splitlines() if "|" in line]
    tables = [[cell.strip() for cell in row] for row in rows]
    head = next(row for row in tables if row[1:] == list(DEEDS))
    names = {*LACKS, *DENIES}
    return {
        (row[0], deed): cell
        for row in tables
        if row[0] in names and len(row) == len(head)
        for deed, cell in zip(DEEDS, row[1:], strict=True)
    }


@pytest.mark.parametrize("deed", DEEDS)
@pytest.mark.parametrize("name", [*LACKS, *DENIES])
def test_a_cell_of_the_table(
    credentials: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, deed: str
) -> None:
    # Nothing here is worth another attempt, and a test that waits for one would only be slow.
    monkeypatch.setattr("dvtool.remotes.transports.retry.PAUSE_FIRST_S", 0.0)
    day = Day(tmp_path, LACKS.get(name, set()), DENIES.get(name, set()))
    with hostile(lambda asked: day.answering(asked)) as server:  # type: ignore[arg-type,return-value]
        try:
            day.do(deed, server.url)
        except DvError as error:
            assert error.hint, error
            assert not re.search(r"loses data|is not a dvtool remote", f"{error} {error.hint}")
            assert documented()[name, deed] == "refused", error
            missing = {NAMED[one] for one in (*LACKS.get(name, ()), *DENIES.get(name, ()))}
            assert any(one in f"{error} {error.hint}" for one in missing), f"{error} {error.hint}"
        else:
            assert documented()[name, deed] == "works"


@pytest.mark.parametrize(
    ("deed", "said"),
    [("first push", "may write there but not read"), ("next push", "may not be read")],
)
def test_who_may_only_write_is_told_which_right_is_missing(
    credentials: None, tmp_path: Path, deed: str, said: str
) -> None:
    day = Day(tmp_path, set(), DENIES["a user who may only write"])
    with (
        hostile(lambda asked: day.answering(asked)) as server,  # type: ignore[arg-type,return-value]
        pytest.raises(DvError, match=said) as caught,
    ):
        day.do(deed, server.url)
    assert "s3:GetObject" in (caught.value.hint or "")


def test_a_listing_is_asked_for_once_where_there_is_none(credentials: None) -> None:
    store = IncompleteStore(frozenset({"LIST"}))
    with hostile(store) as server:
        s3 = S3Backend(BUCKET, "p", S3Options(endpoint_url=server.url))
        with pytest.raises(RemoteError, match="LIST v2"):
            list(s3.list(""))
        assert s3.features.list_allowed is False
        s3.close()
