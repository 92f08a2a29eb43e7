"""The source of a target through the commands that change, merge and show it."""

from __future__ import annotations

import pytest
from msgspec import structs

from dvtool.format.manifest import decode, encode
from dvtool.format.source import DataSource
from tests.cli.conftest import Work
from tests.cli.merging import TARGET, branches, change, conflicts, run, with_drivers

MANIFEST = f"{TARGET}.dv.json"
FIRST = DataSource("s3", "s3://b/p/", "1" * 64)


def source_of(work: Work, target: str = TARGET) -> DataSource:
    source = decode(work.read(f"{target}.dv.json"), target).source
    assert source is not None
    return source


def put_source(work: Work, source: DataSource) -> None:
    now = decode(work.read(MANIFEST), TARGET)
    (work.root / MANIFEST).write_bytes(encode(structs.replace(now, source=source)))
    work.git("commit", "-qam", "source")


@pytest.fixture
def sourced(pushed: Work) -> Work:
    put_source(pushed, FIRST)
    return pushed


def test_add_keeps_the_source_and_records_an_edit(sourced: Work) -> None:
    before = sourced.read(MANIFEST)
    sourced.dv("add", TARGET)
    assert sourced.read(MANIFEST) == before
    change(sourced, {"a.txt": "changed"})
    assert source_of(sourced) == structs.replace(FIRST, edited=True)
    sourced.dv("mv", TARGET, "data/moved")
    assert source_of(sourced, "data/moved") == structs.replace(FIRST, edited=True)
    assert "# from s3://b/p/, 1111" in sourced.dv("textconv", "data/moved.dv.json").out


@pytest.mark.parametrize(
    "verb", [("rm", f"{TARGET}/a.txt"), ("mv", f"{TARGET}/a.txt", f"{TARGET}/z")]
)
def test_rm_and_mv_of_entries_are_edits(sourced: Work, verb: tuple[str, ...]) -> None:
    sourced.dv(*verb)
    assert source_of(sourced).edited


def test_a_commands_data_id_has_no_source_in_it(sourced: Work) -> None:
    here = sourced.dv("describe", "--json").json
    put_source(sourced, structs.replace(FIRST, state="2" * 64))
    again = sourced.dv("describe", "--json").json
    assert here["targets"] == again["targets"]


def test_an_update_there_and_an_edit_here_merge(sourced: Work) -> None:
    with_drivers(sourced)
    branches(sourced, {"a.txt": "ours"}, {"b.txt": "theirs"})
    sourced.git("checkout", "-q", "other")
    put_source(sourced, structs.replace(FIRST, state="2" * 64))
    sourced.git("checkout", "-q", "main")
    run(sourced, "merge", "--no-edit", "other")
    assert source_of(sourced) == structs.replace(FIRST, state="2" * 64, edited=True)


def test_two_updates_conflict_by_name_and_are_settled(sourced: Work) -> None:
    with_drivers(sourced)
    branches(sourced, {"a.txt": "ours"}, {"b.txt": "theirs"})
    put_source(sourced, structs.replace(FIRST, state="2" * 64))
    sourced.git("checkout", "-q", "other")
    put_source(sourced, structs.replace(FIRST, state="3" * 64))
    sourced.git("checkout", "-q", "main")
    run(sourced, "merge", "--no-edit", "other", code=1)
    assert conflicts(sourced) == {TARGET: ["/source"]}
    assert f"both updated:     {TARGET} (where the data comes from)" in sourced.dv("status").out
    left = sourced.dv("resolve", code=1)
    assert f"{TARGET} (where the data comes from)" in left.out
    sourced.dv("resolve", "--theirs")
    assert source_of(sourced) == structs.replace(FIRST, state="3" * 64, edited=True)
    assert sourced.read(f"{TARGET}/a.txt") == b"ours"
    assert sourced.read(f"{TARGET}/b.txt") == b"theirs"
    sourced.git("commit", "-qm", "merged")
    sourced.dv("status", "--exit-code")


HOSTILE = {
    "a kind of tomorrow": (DataSource("gopher", "gopher://x/y", "1"), "which this version cannot"),
    "an option of a machine": (
        DataSource("s3", "s3://bb/p/", "1", options={"profile": "admin"}),
        "a source has no option profile",
    ),
    "an endpoint that is a file": (
        DataSource("s3", "s3://bb/p/", "1", options={"endpoint_url": "file:///etc"}),
        "file:///etc",
    ),
    "no bucket": (DataSource("s3", "s3://../p", "1"), "is not a bucket"),
    "a bucket that is a server": (DataSource("s3", "https://h/p", "1"), "is called s3, and is not"),
    "a file of this machine": (DataSource("web", "file:///etc/passwd", "1"), "nothing to import"),
    "a server without a file": (DataSource("web", "https://h/", "1"), "names no file"),
    "a database of no kind": (DataSource("sql", "mysql://h/d", "1", query="q"), "is no database"),
    "a file of passwords": (
        DataSource("sql", "postgresql://h/d?passfile=/etc/passwd", "1", query="q"),
        "sets passfile",
    ),
    "a user": (DataSource("sql", "postgresql://root@h/d", "1", query="q"), "names a user"),
    "no query": (DataSource("sql", "sqlite:///x.db", "1"), "there is no query"),
    "a way out": (DataSource("dv", "https://h/r", "1", "../secret"), "'..' component"),
    "no address of the hub": (DataSource("hf", "https://h/x", "1"), "no address of the hub"),
    "a reference to a file": (
        DataSource("web", "https://h/x", "1", reference=True),
        "is referred to, and",
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_source_that_can_be_none_is_refused_before_anybody_approves_it(
    pushed: Work, name: str
) -> None:
    source, says = HOSTILE[name]
    put_source(pushed, source)
    for verb in (("update",), ("update", "--trust", TARGET), ("update", "-n")):
        ran = pushed.dv(*verb, code=8)
        assert f"{MANIFEST}: its source " in ran.err
        assert says in ran.err
        assert f"git log -p -- {MANIFEST}" in ran.err
    assert "from now on" not in ran.err
    asked = pushed.dv("status", "--sources", "--json").json["sources"][0]
    assert (asked["standing"], says in asked["problem"]) == ("failed", True)
    assert not (pushed.root / ".git/dv/trusted-sources.json").exists()
    pushed.dv("status", "--exit-code")


def test_addresses_that_would_be_options_or_programs_of_git(pushed: Work) -> None:
    mark = pushed.root.parent / "pwned"
    for url, code in (("--upload-pack=touch pwned", 2), (f"ext::sh -c touch% {mark}", 1)):
        put_source(pushed, DataSource("dv", url, "1", TARGET))
        pushed.dv("update", code=3)
        pushed.dv("update", "--trust", TARGET, code=code)
        assert not mark.exists()
        assert not (pushed.root / ".git/dv/trusted-sources.json").exists()
