"""Rows and members as other programs write them: quotes, marks, long fields, links, empty files."""

from __future__ import annotations

import io
import shutil
import tarfile
from pathlib import Path
from typing import Any

import pytest

from dvtool import InputError
from dvtool.stream import Stream, line_index
from tests.scenario import Clone

LONG = "x" * 200_000
TWO_WAYS = b'a,b\tc\nx,1\t"y\nx,2\tz\nx,3\tw"\nx,4\tv\n'
"""As CSV each line is a row; as TSV a quote joins the second to the fourth."""
OPEN_QUOTE = b'a,b\n1,xyz\n2,"5 nails\n' + b"3,x\n" * 5000
MARK = b"\xef\xbb\xbf"

ROWS: dict[str, tuple[bytes, list[Any]]] = {
    "quotes.csv": (
        b'id,text\r\n1,"a\r\nb"\r\n2,"say ""hi"""\r\n3,5" nail\r\n4,plain\r\n5,6" nail',
        [["1", "a\r\nb"], ["2", 'say "hi"'], ["3", '5" nail'], ["4", "plain"], ["5", '6" nail']],
    ),
    "long.csv": (f"id,text\n1,{LONG}\n2,y\n".encode(), [["1", LONG], ["2", "y"]]),
    "mark.csv": (MARK + b'"i\nd",text\n1,x\n', [["1", "x"]]),
    "tabs.tsv": (b"a\tb\n1\t2\n\t\n\n3\t4\n", [["1", "2"], ["", ""], ["3", "4"]]),
    "mark.jsonl": (MARK + b'{"a": 1}\n\r\n{"a": 2}', [[1], [2]]),
    "blank.jsonl": (b"\n \n", []),
    "empty.jsonl": (b"", []),
}
BAD = {
    "return.csv": (b'a,b\n1,2\n"3",4\r5\n', "rows", "the row at byte 8 of bad/return.csv"),
    "packed.csv.gz": (b"", "rows", "bad/packed.csv.gz cannot be read by ranges: it is compressed"),
}


def tar_of(*members: tarfile.TarInfo, content: bytes = b"") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for member in members:
            member.size = len(content) if member.isreg() else 0
            tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def linked(name: str, to: str, kind: bytes = tarfile.LNKTYPE) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, to
    return member


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    clone = Clone.new(tmp_path_factory.mktemp("odd") / "repo")
    with clone.repo() as repo:
        repo.config.init()
    for name, (content, _) in ROWS.items():
        clone.write(f"rows/{name}", content)
    for name, (content, _, _) in BAD.items():
        clone.write(f"bad/{name}", content)
    long = f"{'n' * 180}/{'m' * 120}.seg.png"
    members = [tarfile.TarInfo("d/1.jpg"), linked("d/2.jpg", "d/1.jpg"), tarfile.TarInfo(long)]
    symlink = linked("d/3.jpg", "1.jpg", tarfile.SYMTYPE)
    clone.write("tars/links.tar", tar_of(*members, symlink, content=b"data"))
    clone.write("tars/none.tar", tar_of())
    clone.write("lost.tar", tar_of(linked("d/2.jpg", "d/1.jpg")))
    sparse = tarfile.TarInfo("holes.bin")
    sparse.pax_headers = {"GNU.sparse.map": "0,0", "GNU.sparse.size": "9"}
    clone.write("sparse.tar", tar_of(sparse))
    clone.write("both/t.csv", TWO_WAYS)
    clone.write("both/t.tsv", TWO_WAYS)
    clone.write("open.csv", OPEN_QUOTE)
    clone.add("rows", "bad", "tars", "lost.tar", "sparse.tar", "both", "open.csv")
    clone.git("add", "--all")
    clone.commit("odd")
    return clone.path


@pytest.mark.parametrize("name", ROWS)
def test_rows_are_those_that_other_programs_read(odd: Path, name: str) -> None:
    stream = Stream(f"rows/{name}", repo=odd, samples="rows", shuffle=False)
    for _ in range(2):  # the second time from the index that was kept
        assert [list(sample.data.values()) for sample in stream.epoch(0)] == ROWS[name][1]
        stream = Stream(f"rows/{name}", repo=odd, samples="rows", shuffle=False)


@pytest.mark.parametrize("name", BAD)
def test_no_row_is_left_out_silently(odd: Path, name: str) -> None:
    _, samples, message = BAD[name]
    with pytest.raises(InputError, match=message):
        len(Stream(f"bad/{name}", repo=odd, samples=samples))  # type: ignore[arg-type]


@pytest.mark.parametrize("order", [("csv", "tsv"), ("tsv", "csv")], ids="-".join)
def test_bytes_that_are_csv_and_tsv_have_the_rows_of_each(odd: Path, order: list[str]) -> None:
    """Whichever name was indexed first: the same content has other rows as CSV and as TSV."""
    shutil.rmtree(odd / ".git" / "dv" / "indexes", ignore_errors=True)
    rows = {
        name: [
            sample.data
            for sample in Stream(f"both/t.{name}", repo=odd, samples="rows", shuffle=False).epoch(0)
        ]
        for name in order
    }
    assert rows == {
        "csv": [{"a": "x", "b\tc": value} for value in ('1\t"y', "2\tz", '3\tw"', "4\tv")],
        "tsv": [{"a,b": "x,1", "c": "y\nx,2\tz\nx,3\tw"}, {"a,b": "x,4", "c": "v"}],
    }


def test_a_quote_that_stays_open_does_not_take_the_file_into_memory(
    odd: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(line_index, "ROW_LINES_BYTES_MAX", 10_000)
    with pytest.raises(InputError, match=r"row at byte 10 of open\.csv .* a quote is open"):
        len(Stream("open.csv", repo=odd, samples="rows"))
    monkeypatch.setattr(line_index, "ROW_LINES_BYTES_MAX", len(OPEN_QUOTE))
    assert len(Stream("open.csv", repo=odd, samples="rows")) == 2


def test_hard_links_in_a_tar_file_have_the_bytes_of_their_member(odd: Path) -> None:
    stream = Stream("tars", repo=odd, samples="tar", shuffle=False)
    assert {sample.key: sample.data for sample in stream.epoch(0)} == {
        "tars/links.tar#d/1": {"jpg": b"data"},
        "tars/links.tar#d/2": {"jpg": b"data"},
        f"tars/links.tar#{'n' * 180}/{'m' * 120}": {"seg.png": b"data"},
    }


def test_members_that_are_not_in_one_piece_are_refused(odd: Path) -> None:
    for name, reason in (("lost", "a link to d/1.jpg, not before it"), ("sparse", "a sparse file")):
        with pytest.raises(InputError, match=reason):
            len(Stream(f"{name}.tar", repo=odd, samples="tar"))
