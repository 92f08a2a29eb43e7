"""Data that another repository versions with dv: imported at a revision, by pack, and updated."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from dvtool.format.manifest import decode
from dvtool.format.source import DataSource
from dvtool.verbs.imports.import_repo import repo_source
from tests.cli.conftest import Work
from tests.s3.conftest import use
from tests.s3.proxy import CountingProxy
from tests.s3.servers import S3Server


@pytest.fixture
def mine(tmp_path: Path) -> Work:
    root = tmp_path / "mine"
    subprocess.run(["git", "init", "-q", str(root)], check=True)
    mine = Work(root)
    mine.dv("init", "--no-hooks")
    mine.commit("init")
    return mine


def tree(top: Path) -> dict[str, str]:
    return {str(p.relative_to(top)): p.read_text() for p in top.rglob("*") if p.is_file()}


def source_of(work: Work, target: str) -> DataSource:
    source = decode(work.read(f"{target}.dv.json"), target).source
    assert source is not None
    return source


def test_a_target_at_a_revision_comes_and_follows(pushed: Work, mine: Work) -> None:
    pushed.git("tag", "v1")
    commit = pushed.git("rev-parse", "HEAD")
    url = f"{pushed.root}//data/images@v1"
    done = mine.dv("import", url, "pictures", "--json").json
    assert (done["added"], done["read"], done["written"]) == (3, 3, 3)
    assert tree(mine.root / "pictures") == tree(pushed.root / "data/images")
    source = source_of(mine, "pictures")
    assert source == DataSource("dv", str(pushed.root), commit, "data/images", "v1")
    # The very entries of the other repository: the manifest hash is the same.
    theirs = pushed.dv("describe", "--json").json["targets"][0]
    assert mine.dv("describe", "--json").json["targets"][0]["blake3"] == theirs["blake3"]
    mine.commit("imported")
    assert "unchanged" in mine.dv("update").out
    assert mine.git("status", "--porcelain") == ""
    assert "unchanged" in mine.dv("import", url, "pictures").out

    mine.dv("import", f"{pushed.root}//data/images/sub", "part")
    assert tree(mine.root / "part") == {"c.txt": "content of sub/c.txt"}
    mine.dv("import", f"{pushed.root}//data/images/a.txt")
    assert mine.read("a.txt") == b"content of a.txt"
    mine.dv("import", f"{pushed.root}//data", "everything")
    assert "table.csv" in tree(mine.root / "everything")
    mine.commit("more")

    pushed.write("data/images/a.txt", "another")
    (pushed.root / "data/images/b.txt").unlink()
    pushed.dv("add", "data/images")
    pushed.commit("changed")
    pushed.dv("push")
    standings = {
        one["target"]: one["standing"]
        for one in mine.dv("status", "--sources", "--json").json["sources"]
    }
    assert standings == {
        "a.txt": "behind",
        "everything": "behind",
        "part": "current",
        "pictures": "current",
    }
    before = mine.git("status", "--porcelain"), tree(mine.root / "everything")
    planned = mine.dv("update", "-n", "a.txt", "part")
    assert planned.out.splitlines() == [
        f"a.txt  behind  ({pushed.root})",
        f"part  as the source has it  ({pushed.root})",
    ]
    assert "nothing was changed" in planned.err
    asked = mine.dv("update", "--plan", "--json").json["targets"]
    assert {one["target"]: one["standing"] for one in asked} == standings
    assert "--dry-run changes nothing" in mine.dv("update", "-n", "--trust", "part", code=2).err
    assert before == (mine.git("status", "--porcelain"), tree(mine.root / "everything"))
    targets = {one["target"]: one for one in mine.dv("update", "--json").json["targets"]}
    assert {name for name, one in targets.items() if one["changed"]} == {"a.txt", "everything"}
    assert targets["everything"]["removed"] == ["images/b.txt"]
    assert mine.read("a.txt") == mine.read("everything/images/a.txt") == b"another"
    assert mine.read("pictures/a.txt") == b"content of a.txt"


def test_what_is_not_there_is_said_and_nothing_recorded(pushed: Work, mine: Work) -> None:
    for url, code, says in (
        (f"{pushed.root}//nothing", 4, "has no data of dv at nothing"),
        (f"{pushed.root}//data/images@v9", 2, "v9"),
        (f"{pushed.root}//data/../images", 2, "'..' component"),
        ("https://token@example.org/x.git//data", 2, "holds credentials"),
        (f"{pushed.root.parent}/none//data", 1, "none"),
    ):
        ran = mine.dv("import", url, "out", code=code)
        assert says in ran.err
    assert mine.git("status", "--porcelain") == ""
    ran = mine.dv("import", f"{pushed.root}//data/images", "out", "--limit", "3", code=2)
    assert "taken whole" in ran.err


def test_by_pack_and_only_from_a_remote_that_was_approved(
    mine: Work, bare: Work, moto_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(moto_server, monkeypatch)
    with CountingProxy(moto_server.endpoint_url) as proxy:
        place = f"s3://{moto_server.new_bucket()}/p"
        bare.dv("init", "--remote", place, "--endpoint-url", proxy.url)
        for number in range(300):
            bare.write(f"data/{number}", str(number))
        bare.dv("add", "data")
        bare.commit("data")
        bare.dv("push")
        clone = bare.clone("pulled", remote=False)
        proxy.reset()
        clone.dv("pull")
        of_a_pull = proxy.total
        plan = mine.dv("import", "--plan", f"file://{bare.root}//data", "data", "--json").json
        assert (plan["remote"], plan["files"]) == (place, 300)
        assert plan["bytes"] > 0 and plan["seconds"] is not None
        assert mine.git("status", "--porcelain") == ""
        proxy.reset()
        mine.dv("import", f"file://{bare.root}//data", "data")
        assert proxy.total <= of_a_pull
        assert plan["requests"]["get"] >= plan["objects"] > 0
        assert sum(plan["requests"].values()) <= of_a_pull
        again = mine.dv("import", "--plan", f"file://{bare.root}//data", "data")
        assert "nothing to transfer" in again.out
        assert len(tree(mine.root / "data")) == 300
        assert source_of(mine, "data").options == {"remote": f"{place}, endpoint-url {proxy.url}"}
        mine.commit("imported")
        # The other repository names another remote: nobody said that this may be asked.
        text = bare.read(".dvconfig").replace(b"/p\n", b"/q\n")
        bare.write(".dvconfig", text)
        bare.commit("moved")
        proxy.reset()
        ran = mine.dv("update", code=3)
        assert "nobody approved" in ran.err
        assert proxy.total == 0
        ran = mine.dv("update", "--trust", "data")
        moved = place.removesuffix("/p") + "/q"
        assert (
            f"from now on this clone asks file://{bare.root}, path data, remote {moved}" in ran.err
        )
        assert source_of(mine, "data").options["remote"].startswith(moved)
        assert len(tree(mine.root / "data")) == 300


def test_addresses(tmp_path: Path) -> None:
    here = str(tmp_path)
    for text, repo, path, rev in (
        ("https://h/x.git//data/a@v1", "https://h/x.git", "data/a", "v1"),
        ("git@h:team/x.git//data", "git@h:team/x.git", "data", ""),
        ("ssh://git@h/x//d@feature/y", "ssh://git@h/x", "d", "feature/y"),
        ("file:///srv/x//d", "file:///srv/x", "d", ""),
    ):
        assert repo_source(text, here) == DataSource("dv", repo, "", path, rev)
    for text in ("https://h/file.csv", "s3://b//x", "s3://b/p", "data/here"):
        assert repo_source(text, here) is None
