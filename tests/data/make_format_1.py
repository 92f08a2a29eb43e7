"""Makes format-1/: a repository of format 1 with its remote, which every later version must read.

It was run once and is not to be run again for format 1: what lies there was written by the first
release, and that is its worth. Usage: python tests/data/make_format_1.py FOLDER
With --sources it adds what came later: the last version, with manifests that have a `source`.
With --references (and PYTHONPATH=.) it adds data that stays at its source, of which one file has a
copy: a bundle, and a remote of its own.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

from blake3 import blake3
from msgspec import structs

from dvtool.format.manifest import decode, encode, manifest_digest
from dvtool.format.source import DataSource
from dvtool.repo import Repo

ENVIRONMENT = {
    "GIT_AUTHOR_NAME": "dvtool",
    "GIT_AUTHOR_EMAIL": "dvtool@example.org",
    "GIT_AUTHOR_DATE": "2026-01-31T12:00:00+00:00",
    "GIT_COMMITTER_NAME": "dvtool",
    "GIT_COMMITTER_EMAIL": "dvtool@example.org",
    "GIT_COMMITTER_DATE": "2026-01-31T12:00:00+00:00",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_NOSYSTEM": "1",
}


def noise(seed: str, size: int) -> bytes:
    """Bytes that do not compress: their frames are raw."""
    return blake3(seed.encode()).digest(size)


def prose(seed: str, lines: int) -> bytes:
    """Bytes that compress well."""
    return b"".join(
        b"%s line %06d of many that are much alike\n" % (seed.encode(), n) for n in range(lines)
    )


def write(top: Path, path: str, data: bytes, *, executable: bool = False) -> None:
    place = top / path
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(data)
    place.chmod(0o755 if executable else 0o644)


def first(top: Path) -> None:
    write(top, "data/images/cat.jpg", noise("cat", 20_000))
    write(top, "data/images/dogs/small.txt", b"a small one\n")
    write(top, "data/images/dogs/same.txt", b"a small one\n")
    write(top, "data/images/empty.bin", b"")
    write(top, "data/images/run.sh", b"#!/bin/sh\necho hi\n", executable=True)
    write(top, "data/images/large.bin", noise("large", 400_000))
    write(top, "data/images/prose.txt", prose("prose", 6_000))
    write(top, "data/images/ünïcödé/図 \U0001f600.txt", "naïve".encode())
    write(top, 'data/images/odd names/quo"te\\back\ttab\nnewline\x1b[31m.txt', b"odd\n")
    (top / "data/images/nothing here").mkdir()
    (top / "data/images/link").symlink_to("dogs/small.txt")
    for number in range(1_050):
        write(
            top, f"data/labels/{number // 100:02d}/{number:04d}.json", b'{"label": %d}\n' % number
        )
    write(top, "data/table.csv", b"x,y\n1,2\n")


def second(top: Path) -> None:
    large = noise("large", 400_000)
    write(top, "data/images/large.bin", large[:150_000] + b"inserted" + large[150_000:])
    write(top, "data/images/added.txt", b"new in the second version\n")
    (top / "data/images/run.sh").chmod(0o644)
    (top / "data/images/link").unlink()
    (top / "data/images/link").symlink_to("cat.jpg")
    (top / "data/images/nothing here").rmdir()
    (top / "data/images/dogs/same.txt").unlink()
    for number in range(0, 1_050, 250):
        write(top, f"data/labels/{number // 100:02d}/{number:04d}.json", b'{"label": "other"}\n')
    write(top, "data/table.csv", b"x,y\n1,2\n3,4\n")


def listed(top: Path) -> list[str]:
    """Return what must come back, a line each: what it is, and the path as JSON.

    Of files the SHA-256, which the format does not use: so this is a word of its own.
    """
    found: list[str] = []
    for folder, folders, files in os.walk(top / "data"):
        for name in (*folders, *files):
            path = Path(folder, name)
            key = str(path.relative_to(top))
            if key.endswith((".dv.json", ".gitignore")):
                continue
            if path.is_symlink():
                what = f"link {json.dumps(os.readlink(path))}"
            elif path.is_dir():
                if os.listdir(path):
                    continue
                what = "empty-folder"
            else:
                executable = path.stat().st_mode & stat.S_IXUSR
                kind = "executable" if executable else "file"
                what = f"{kind} {hashlib.sha256(path.read_bytes()).hexdigest()}"
            found.append(f"{what} {json.dumps(key)}")
    return sorted(found, key=lambda line: line.rpartition(" ")[2])


def manifests(top: Path) -> dict[str, object]:
    """Return target -> manifest hash, and the digest of the manifest's text."""
    return {
        str(path.relative_to(top)).removesuffix(".dv.json"): {
            "manifest": manifest_digest(decode(path.read_bytes(), path.name)).hex(),
            "text": blake3(path.read_bytes()).hexdigest(),
        }
        for path in sorted((top / "data").glob("*.dv.json"))
    }


SOURCES = {
    "data/images": DataSource(
        "s3",
        "s3://lab-images/ünïcödé 図/",
        blake3(b"listing").hexdigest(),
        options={"addressing": "path", "endpoint_url": "https://s3.example.org"},
        include=("**/*.jpg", 'quo"te\\\n'),
        exclude=("tmp",),
        limit=1_000_000,
        edited=True,
    ),
    "data/labels": DataSource(
        "dv", "https://git.example.org/labels.git", "0123456789abcdef" * 2, "data/labels", "v1.0"
    ),
    "data/table.csv": DataSource(
        "sql",
        "postgresql://db.example.org/lab",
        blake3(b"rows").hexdigest(),
        query="SELECT x, y\nFROM points ORDER BY x",
        rows=0,
        schema=("x int64", "y double"),
    ),
}


def with_sources(folder: Path) -> None:
    """Add the bundle and the list of a third version, of the same data with sources."""
    work = folder / "work"
    bundle = str(folder / "repository.bundle")
    subprocess.run(["git", "clone", "-q", "-b", "main", bundle, work], check=True)
    for target, source in SOURCES.items():
        path = work / f"{target}.dv.json"
        now = decode(path.read_bytes(), path.name)
        path.write_bytes(encode(structs.replace(now, source=source)))
    for command in (
        ["commit", "-qam", "sources"],
        ["bundle", "create", "--quiet", str(folder / "sources.bundle"), "main"],
    ):
        subprocess.run(["git", *command], cwd=work, check=True)
    (folder / "sources.json").write_text(json.dumps(manifests(work), indent=1) + "\n")
    shutil.rmtree(work)


REFERENCED = {
    "a.txt": b"alpha\n",
    "empty": b"",
    "sub/large.bin": noise("large", 400_000),
    "sub/same.txt": b"alpha\n",
    "sub/copied.bin": noise("copied", 3_000),
    "\u00fcn\u00efc\u00f6d\u00e9 \u56f3.txt": b"odd\n",
}


def with_references(folder: Path) -> None:
    """Add a bundle, a remote and a list of data that was imported by reference."""
    from dvtool.verbs.imports.import_data import ImportRequest
    from tests.s3.servers import moto_server

    work, remote = folder / "work", folder / "references"
    work.mkdir()
    subprocess.run(["git", "init", "--quiet", "--initial-branch=main"], cwd=work, check=True)
    with tempfile.TemporaryDirectory() as log, moto_server(Path(log)) as server:
        os.environ.update({**server.env, "AWS_ENDPOINT_URL": server.endpoint_url})
        with server.client() as client:
            client.create_bucket(Bucket="lab-scans")
            versions = {"Status": "Enabled"}
            client.put_bucket_versioning(Bucket="lab-scans", VersioningConfiguration=versions)
            for name, data in REFERENCED.items():
                client.put_object(Bucket="lab-scans", Key=f"scans/{name}", Body=data)
        with Repo.open(str(work)) as repo:
            repo.config.init()
            repo.config.set_remote("origin", str(remote))
            request = ImportRequest(
                "s3://lab-scans/scans/", str(work / "data/scans"), reference=True
            )
            repo.imports.import_data(request)
            subprocess.run(["git", "commit", "-qm", "scans"], cwd=work, check=True)
            repo.imports.materialise([str(work / "data/scans/sub/copied.bin")])
            repo.push()
    subprocess.run(
        ["git", "bundle", "create", "--quiet", str(folder / "references.bundle"), "main"],
        cwd=work, check=True,
    )  # fmt: skip
    (folder / "references.json").write_text(json.dumps(manifests(work), indent=1) + "\n")
    shutil.rmtree(work)


def main() -> None:
    if sys.argv[1] == "--sources":
        os.environ.update(ENVIRONMENT)
        with_sources(Path(sys.argv[2]).absolute())
        return
    if sys.argv[1] == "--references":
        os.environ.update(ENVIRONMENT)
        with_references(Path(sys.argv[2]).absolute())
        return
    folder = Path(sys.argv[1]).absolute()
    if (folder / "versions.json").exists():
        sys.exit(f"{folder} is there; it is kept as it is")
    os.environ.update(ENVIRONMENT)
    work = folder / "work"
    work.mkdir(parents=True)

    def git(*args: str) -> str:
        done = subprocess.run(["git", *args], cwd=work, check=True, capture_output=True, text=True)
        return done.stdout.strip()

    git("init", "--quiet", "--initial-branch=main")
    versions = []
    with Repo.open(str(work)) as repo:
        repo.config.init()
        repo.config.set_remote("origin", str(folder / "remote"))
        for number, change in enumerate((first, second), 1):
            change(work)
            repo.add(
                [str(work / path) for path in ("data/images", "data/labels", "data/table.csv")]
            )
            git("commit", "--quiet", "--message", f"version {number}")
            repo.push()
            commit = git("rev-parse", "HEAD")
            versions.append({"commit": commit, "manifests": manifests(work)})
            (folder / f"contents-{number}.txt").write_text("\n".join(listed(work)) + "\n")
    git("bundle", "create", "--quiet", str(folder / "repository.bundle"), "main")
    (folder / "versions.json").write_text(json.dumps(versions, indent=1) + "\n")
    shutil.rmtree(work)


if __name__ == "__main__":
    main()
