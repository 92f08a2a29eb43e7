from __future__ import annotations

from blake3 import blake3

from tests.cli.conftest import ODD_NAMES, Work


def test_ls(data: Work) -> None:
    assert data.dv("ls").lines == [
        "data/images/a.txt",
        "data/images/b.txt",
        "data/images/sub/c.txt",
        "data/table.csv",
    ]
    assert data.dv("ls", "data/images/sub").lines == ["data/images/sub/c.txt"]
    assert data.dv("ls", "data/images/*.txt").lines == ["data/images/a.txt", "data/images/b.txt"]
    assert data.dv("ls", ".", cwd="data/images").lines[0] == "a.txt"


def test_ls_long(data: Work) -> None:
    (data.root / "data/images/link").symlink_to("a.txt")
    (data.root / "data/images/empty").mkdir()
    (data.root / "data/images/b.txt").chmod(0o755)
    data.dv("add", "data/images")
    digest = blake3(b"content of a.txt").hexdigest()
    lines = data.dv("ls", "-l", "data/images").lines
    assert f"-       16 B  {digest[:12]}  data/images/a.txt" in lines
    assert any(line.startswith("x ") and line.endswith("b.txt") for line in lines)
    assert any(line.startswith("d ") and line.endswith("data/images/empty/") for line in lines)
    assert any(line.startswith("l ") and line.endswith("link -> a.txt") for line in lines)
    assert all(len(line) <= 80 for line in lines)
    assert digest in data.dv("ls", "-l", "-v").out


def test_ls_json(data: Work) -> None:
    (data.root / "data/images/link").symlink_to("a.txt")
    data.dv("add", "data/images")
    entries = {one["path"]: one for one in data.dv("ls", "--json").json["entries"]}
    assert entries["data/images/a.txt"] == {
        "path": "data/images/a.txt",
        "target": "data/images",
        "type": "file",
        "size": 16,
        "blake3": blake3(b"content of a.txt").hexdigest(),
        "exec": False,
    }
    assert entries["data/images/link"]["symlink"] == "a.txt"


def test_ls_json_of_nothing(work: Work) -> None:
    assert work.dv("ls", "--json").json == {"schema": 1, "entries": []}


def test_ls_rev(data: Work) -> None:
    first = data.git("rev-parse", "HEAD")
    data.dv("rm", "--data", "data/images/a.txt")
    data.commit()
    assert "data/images/a.txt" not in data.dv("ls").lines
    assert "data/images/a.txt" in data.dv("ls", "--rev", first).lines
    assert "unknown revision" in data.dv("ls", "--rev", "nope", code=2).err


def test_ls_odd_names(work: Work) -> None:
    for name in ODD_NAMES:
        work.write(f"data/{name}")
    work.dv("add", "data")
    for args in ((), ("-l",), ("--json",)):
        ran = work.dv("ls", *args)
        assert all(line.isprintable() for line in ran.lines)
    assert len(work.dv("ls").lines) == len(ODD_NAMES)
    assert "data/new\\nline" in work.dv("ls").lines


def test_ls_of_no_target(data: Work) -> None:
    ran = data.dv("ls", "nope", code=2)
    assert "hint: " in ran.err


def test_ls_of_a_large_manifest(work: Work) -> None:
    for number in range(1_100):
        work.write(f"data/{number:04}", str(number))
    work.dv("add", "data")
    assert len(work.dv("ls").lines) == 1_100
    assert work.dv("ls", "data/0007").lines == ["data/0007"]
