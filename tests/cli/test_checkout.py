from __future__ import annotations

import re
import subprocess

import pytest

from tests.cli.conftest import Work


def test_checkout_restores(data: Work) -> None:
    (data.root / "data/images/a.txt").unlink()
    ran = data.dv("checkout")
    assert ran.out == "data/images  1 file written, 16 B\n"
    assert data.read("data/images/a.txt") == b"content of a.txt"
    assert data.dv("checkout").out == "the workspace is as it should be\n"
    assert "data/table.csv  as it should be" in data.dv("checkout", "-v").out


def _second(data: Work) -> str:
    data.write("data/images/a.txt", "changed")
    data.write("data/images/new.txt", "new")
    data.dv("add", "data/images")
    data.commit("second")
    return data.git("rev-parse", "HEAD~1")


def test_checkout_a_revision(data: Work) -> None:
    first = _second(data)
    ran = data.dv("checkout", first)
    assert ran.out == "data/images  1 file written, 16 B; 1 removed\n"
    assert data.read("data/images/a.txt") == b"content of a.txt"
    assert not (data.root / "data/images/new.txt").exists()
    assert data.git("diff", "--cached", "--name-only") == "data/images.dv.json"
    data.dv("checkout", "HEAD")
    assert data.dv("status", "--exit-code").out.startswith("Clean")


def test_checkout_paths_and_dashes(data: Work) -> None:
    _second(data)
    data.dv("checkout", "HEAD~1", "--", "data/images/a.txt")
    assert data.read("data/images/a.txt") == b"content of a.txt"
    assert data.read("data/images/new.txt") == b"new"
    data.dv("checkout", "HEAD", "images/*.txt", cwd="data")
    assert data.read("data/images/a.txt") == b"changed"


def test_checkout_takes_everything_behind_dashes_as_a_path(data: Work) -> None:
    data.git("branch", "nope")
    data.dv("checkout", "nope")
    refused = data.dv("checkout", "--", "nope", code=2).err
    assert "nope is a revision, and paths are taken here" in refused


def test_checkout_json(data: Work) -> None:
    (data.root / "data/images/a.txt").unlink()
    assert data.dv("checkout", "data/images", "--json").json == {
        "schema": 1,
        "targets": [
            {"target": "data/images", "written": 1, "written_bytes": 16, "removed": 0},
        ],
        "fetched": None,
        "saved": [],
    }


def test_checkout_refuses_to_lose_changes(data: Work) -> None:
    data.write("data/images/a.txt", "precious")
    ran = data.dv("checkout", code=5)
    assert "saved nowhere; nothing was changed:\n  data/images/a.txt" in ran.err
    assert "--force" in ran.err
    assert data.read("data/images/a.txt") == b"precious"


@pytest.mark.parametrize("name", ["a b.txt", "quo'te", "new\nline", "esc\x1b[31m", "$HOME`x`"])
def test_checkout_force_says_how_to_get_it_back(work: Work, name: str) -> None:
    work.write(f"data/{name}", "old")
    work.dv("add", "data")
    work.commit()
    work.write(f"data/{name}", "precious")
    ran = work.dv("checkout", "--force", "-q")
    assert work.read(f"data/{name}") == b"old"
    assert all(line.isprintable() for line in ran.lines)
    hint = next(line for line in ran.lines if "dv cat --hash" in line)
    digest, place = re.fullmatch(r"  dv cat --hash (\w+) > (.*)", hint).groups()  # type: ignore[union-attr]
    assert work.dv("cat", "--hash", digest).out == "precious"
    # What is printed is what a shell takes for that very name.
    done = subprocess.run(
        ["bash", "-c", f"cat {place}"], cwd=work.root, capture_output=True, check=True
    )
    assert done.stdout == b"old"
    assert ".git/dv/saved" in ran.out
    assert len(list((work.root / ".git/dv/saved").iterdir())) == 1


def test_checkout_force_json(data: Work) -> None:
    data.write("data/images/a.txt", "precious")
    (saved,) = data.dv("checkout", "--force", "--json").json["saved"]
    assert saved["path"] == "data/images/a.txt"
    assert data.dv("cat", "--hash", saved["blake3"]).out == "precious"


def test_checkout_fetches_what_is_not_here(pushed: Work) -> None:
    clone = pushed.clone()
    ran = clone.dv("checkout", "--no-fetch", code=4)
    assert "hint: run: dv pull" in ran.err
    ran = clone.dv("checkout")
    assert ran.lines[0].startswith("fetched from ")
    assert clone.read("data/table.csv") == b"x,y\n1,2\n"


def test_checkout_without_remote(pushed: Work) -> None:
    ran = pushed.clone(remote=False).dv("checkout", code=4)
    assert "nothing was changed" in ran.err
    assert "dv remote add" in ran.err


def test_checkout_unknown_revision(data: Work) -> None:
    assert "neither a revision nor" in data.dv("checkout", "nope", code=2).err
    assert "unknown revision: nope" in data.dv("checkout", "nope", "--", code=2).err
    assert "too many revisions" in data.dv("checkout", "HEAD", "HEAD", code=2).err


def test_checkout_of_corrupt_content(data: Work) -> None:
    for pack in (data.root / ".git/dv/packs").rglob("*"):
        if pack.is_file():
            pack.chmod(0o600)
            content = bytearray(pack.read_bytes())
            content[5] ^= 0xFF
            pack.write_bytes(bytes(content))
    (data.root / "data/images/a.txt").unlink()
    ran = data.dv("checkout", code=6)
    assert ran.err.startswith("error: ")


def test_checkout_without_commits(work: Work) -> None:
    assert "no commit yet" in work.dv("checkout", "HEAD", "--", code=3).err
    assert work.dv("checkout").out == "no targets here\n"
