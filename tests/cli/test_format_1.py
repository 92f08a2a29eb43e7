"""Format 1 lasts: a repository and its remote as the first release wrote them come back whole.

What lies in tests/data/format-1 is not to be made again: see tests/data/make_format_1.py.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
import struct
import subprocess
from pathlib import Path
from typing import Any

import pytest
from blake3 import blake3

from dvtool.errors import CorruptError, SetupError
from dvtool.format.digest import digest_of
from dvtool.format.locations import split_object
from dvtool.format.manifest import decode, encode, encode_entries, manifest_digest
from dvtool.format.pack import TRAILER, encode_index, read_index, verify_pack
from dvtool.remotes.objects import decode_mark, decode_root
from tests.cli.conftest import Work

GOLDEN = Path(__file__).parent.parent / "data" / "format-1"
VERSIONS: list[dict[str, Any]] = json.loads((GOLDEN / "versions.json").read_text())
BUNDLE = GOLDEN / "repository.bundle"


def objects(kind: str) -> list[Path]:
    return sorted(path for path in (GOLDEN / "remote" / kind).rglob("*") if path.is_file())


@pytest.fixture
def golden(tmp_path: Path) -> Work:
    """A clone of the golden repository, with a copy of its remote."""
    shutil.copytree(GOLDEN / "remote", tmp_path / "remote")
    subprocess.run(
        ["git", "clone", "-q", "-b", "main", str(BUNDLE), "work"], cwd=tmp_path, check=True
    )
    work = Work(tmp_path / "work")
    work.dv("remote", "add", "origin", tmp_path / "remote")
    return work


def contents(top: Path) -> list[str]:
    """Return what is there, as the lists beside the golden repository say it."""
    found = []
    for folder, folders, files in os.walk(top / "data"):
        for name in (*folders, *files):
            path = Path(folder, name)
            key = str(path.relative_to(top))
            mode = path.lstat().st_mode
            if key.endswith((".dv.json", ".gitignore")):
                continue
            if stat.S_ISLNK(mode):
                found.append(f"link {json.dumps(os.readlink(path))} {json.dumps(key)}")
            elif stat.S_ISDIR(mode):
                found += [] if os.listdir(path) else [f"empty-folder {json.dumps(key)}"]
            else:
                kind = "executable" if mode & stat.S_IXUSR else "file"
                sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
                found.append(f"{kind} {sha256} {json.dumps(key)}")
    return sorted(found)


def expected(number: int) -> list[str]:
    lines = (GOLDEN / f"contents-{number}.txt").read_text().splitlines()
    assert len(lines) > 1_050
    return sorted(lines)


def test_both_versions_come_back_byte_for_byte(golden: Work) -> None:
    assert [golden.git("rev-parse", rev) for rev in ("HEAD~1", "HEAD")] == [
        version["commit"] for version in VERSIONS
    ]
    golden.dv("pull")
    assert contents(golden.root) == expected(2)
    golden.dv("checkout", VERSIONS[0]["commit"])
    assert contents(golden.root) == expected(1)
    golden.dv("checkout", "HEAD")
    assert contents(golden.root) == expected(2)
    assert golden.dv("status", "--json").json


def test_the_same_files_give_the_same_manifests_and_nothing_to_push(golden: Work) -> None:
    golden.dv("pull")
    for target in VERSIONS[1]["manifests"]:
        golden.dv("rm", target)
    golden.dv("add", *VERSIONS[1]["manifests"])
    golden.git("diff", "--exit-code", "HEAD", "--", "*.dv.json")
    before = sorted(str(path) for path in (golden.root.parent / "remote").rglob("*"))
    golden.dv("push")
    assert sorted(str(path) for path in (golden.root.parent / "remote").rglob("*")) == before


@pytest.mark.parametrize("version", VERSIONS, ids=["first", "second"])
def test_manifests_are_written_as_they_were(golden: Work, version: dict[str, Any]) -> None:
    forms = set()
    for target, said in version["manifests"].items():
        text = subprocess.run(
            ["git", "show", f"{version['commit']}:{target}.dv.json"],
            cwd=golden.root,
            capture_output=True,
            check=True,
        ).stdout
        manifest = decode(text, target)
        assert blake3(text).hexdigest() == said["text"]
        assert encode(manifest) == text
        assert manifest_digest(manifest).hex() == said["manifest"]
        forms.add((manifest.kind, bool(manifest.shards)))
    assert forms == {("dir", False), ("dir", True), ("file", False)}


def test_manifests_with_a_source_are_read_and_written_as_they_were(tmp_path: Path) -> None:
    said = json.loads((GOLDEN / "sources.json").read_text())
    shutil.copytree(GOLDEN / "remote", tmp_path / "remote")
    bundle = str(GOLDEN / "sources.bundle")
    subprocess.run(["git", "clone", "-q", "-b", "main", bundle, "work"], cwd=tmp_path, check=True)
    work = Work(tmp_path / "work")
    kinds = set()
    for target, hashes in said.items():
        text = work.read(f"{target}.dv.json")
        manifest = decode(text, target)
        assert manifest.source is not None
        kinds.add(manifest.source.kind)
        assert blake3(text).hexdigest() == hashes["text"]
        assert encode(manifest) == text
        # The same data as before: the source is no part of the hash.
        assert hashes["manifest"] == VERSIONS[1]["manifests"][target]["manifest"]
        assert manifest_digest(manifest).hex() == hashes["manifest"]
    assert kinds == {"s3", "dv", "sql"}
    work.dv("remote", "add", "origin", tmp_path / "remote")
    work.dv("pull")
    assert contents(work.root) == expected(2)


def test_every_object_of_the_remote_is_what_its_name_says() -> None:
    codecs, recipes, grouped = set(), 0, 0
    for path in objects("packs"):
        data = path.read_bytes()
        assert digest_of(data).hex() == path.name
        with path.open("rb") as file:
            index = read_index(file, size=len(data), where=path.name)
            verify_pack(file, index, where=path.name)
        codecs |= {data[offset] for offset in index.frame_offsets()}
        recipes += len(index.recipes)
        grouped += len(index.chunk_digests) - len(index.frame_sizes)
        stored_size, raw_size, *_ = TRAILER.unpack(data[-TRAILER.size :])
        assert len(encode_index(index)) == raw_size
        assert stored_size + index.data_size + TRAILER.size == len(data)
    assert codecs == {0, 1}
    assert recipes >= 3
    assert grouped > 1_000
    for path in objects("shards"):
        text, locations = split_object(path.read_bytes(), path.name)
        assert digest_of(text).hex() == path.name
        assert text.startswith(encode_entries({})[:1])
        assert locations
    roots = objects("roots")
    assert len(roots) == 2
    for path in roots:
        assert f"{digest_of(path.read_bytes()).hex()}.json" == path.name
        assert decode_root(path.read_bytes(), path.name).manifests


# --- what a later version will write --------------------------------------------------------


def newer(data: bytes) -> bytes:
    assert data.count(b'"dv":1') == 1
    return data.replace(b'"dv":1', b'"dv":2')


def test_a_newer_manifest_is_refused_with_its_version(golden: Work) -> None:
    path = golden.root / "data/images.dv.json"
    path.write_bytes(b'{"dv": 2, "kind": "dir", "trees": {"a": [1]}}\n')
    for verb in ("status", "pull", "checkout", "push", "ls"):
        golden.git("commit", "-qa", "--allow-empty", "-m", "newer")
        ran = golden.dv(verb, code=6)
        assert "data/images.dv.json: is of format 2, this dvtool reads format 1" in ran.err
        assert "install a newer dvtool" in ran.err
    assert not (golden.root / "data/images").exists()


def test_a_newer_remote_is_refused_and_left_alone(golden: Work) -> None:
    mark = golden.root.parent / "remote/dv.json"
    mark.write_bytes(newer(mark.read_bytes()))
    # Of a large manifest pull gets the shard first, which then is what is missing.
    for verb, code in (("pull", 4), ("pull data/images", 3), ("push", 3)):
        ran = golden.dv(*verb.split(), code=code)
        assert "is of format 2; this dvtool knows format 1" in ran.err
    mark.write_bytes(b'{"dv":2,"uuid":"another form altogether"}\n')
    assert "is of format 2" in golden.dv("pull", "data/images", code=3).err
    for text in (mark.read_bytes(), newer((GOLDEN / "remote/dv.json").read_bytes())):
        with pytest.raises(SetupError, match="format 2"):
            decode_mark(text, "s3://b")


def test_a_newer_root_is_refused_with_its_version() -> None:
    for path in objects("roots"):
        for text in (newer(path.read_bytes()), b'{"dv":2,"trees":[]}\n'):
            with pytest.raises(SetupError, match="is of format 2; this dvtool knows format 1"):
                decode_root(text, path.name)


def test_a_newer_pack_is_refused_with_its_version(tmp_path: Path) -> None:
    data = bytearray(objects("packs")[0].read_bytes())
    struct.pack_into("<I", data, len(data) - TRAILER.size + 16, 2)
    (tmp_path / "pack").write_bytes(data)
    with (tmp_path / "pack").open("rb") as file, pytest.raises(CorruptError) as caught:
        read_index(file, size=len(data), where="p")
    assert "pack format 2, this dvtool reads 1" in str(caught.value)
    assert "reads format 2" in str(caught.value.hint)


def test_a_shard_object_of_another_version_is_refused() -> None:
    data = objects("shards")[0].read_bytes()
    with pytest.raises(CorruptError, match="not a shard of format 1"):
        split_object(data.replace(b"\x89dvshrd\n", b"\x89dvshr2\n"), "s")
