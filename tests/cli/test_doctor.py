from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from dataclasses import asdict
from typing import Any

import pytest

from dvtool.remotes.transports.base import Features
from dvtool.repo import Repo
from dvtool.verbs import doctor
from tests.cli.conftest import Work
from tests.s3.proxy import Fault, Guarded, Request
from tests.s3.servers import S3Server


def test_doctor_is_content(pushed: Work) -> None:
    ran = pushed.dv("doctor")
    assert "FAIL" not in ran.out
    assert ran.lines[-1] == "everything that dv needs works"
    found = pushed.dv("doctor", "--json").json
    assert found["ok"] is True
    assert [one["name"] for one in found["checks"]] == [
        *("python", "git", "packages", "repository", "settings"),
        *("manifests", "store", "disk", "hooks", "remote"),
    ]
    assert set(found["checks"][0]) == {"name", "state", "detail", "hint", "bytes"}


def test_hooks_in_place_and_not(pushed: Work) -> None:
    pushed.dv("hooks", "uninstall")
    found = _state(pushed, "hooks")
    assert (found["state"], found["detail"]) == ("ok", "not installed")
    assert "dv hooks install" in found["hint"]
    pushed.dv("hooks", "install")
    found = _state(pushed, "hooks")
    assert found["state"] == "ok"
    assert found["detail"].startswith("installed in ")
    (pushed.root / ".git/hooks/pre-push").write_text("#!/bin/sh\n")
    found = _state(pushed, "hooks")
    assert found["state"] == "warning"
    assert found["detail"].startswith("pre-push: ")


def _state(work: Work, name: str, *, code: int = 0) -> dict[str, str]:
    checks = work.dv("doctor", "--json", code=code).json["checks"]
    return next(one for one in checks if one["name"] == name)


def test_doctor_without_init(bare: Work) -> None:
    ran = bare.dv("doctor", code=1)
    assert "FAIL  settings: not set up" in ran.out
    assert "hint: run: dv init" in ran.out
    assert _state(bare, "remote", code=1)["state"] == "warning"


def test_doctor_outside_git(work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(work.root.parent))
    ran = work.dv("-C", "..", "doctor", code=1)
    assert "FAIL  repository: not inside a git repository" in ran.out


def test_doctor_and_the_remote(data: Work) -> None:
    found = _state(data, "remote")
    assert (found["state"], found["hint"]) == ("warning", "run: dv push")
    remote = data.root.parent / "remote"
    (remote / "thesis.doc").write_text("x")
    assert "other things" in _state(data, "remote", code=1)["detail"]
    shutil.rmtree(remote)
    assert _state(data, "remote", code=1)["state"] == "failed"
    remote.mkdir()
    (remote / "dv.json").write_text('{"dv": 99, "id": "' + "0" * 32 + '", "created": "x"}')
    assert "newer dvtool" in _state(data, "remote", code=1)["hint"]


def test_doctor_and_manifests(data: Work) -> None:
    data.write("data/images.dv.json", "broken")
    assert "data/images.dv.json" in _state(data, "manifests", code=1)["detail"]


def test_doctor_and_the_store(data: Work) -> None:
    data.write(".git/dv/store.db", b"this is no database" * 100)
    assert _state(data, "store", code=1)["state"] == "failed"


LIMITED = "-dac_override,-dac_read_search"


@pytest.mark.skipif(shutil.which("setpriv") is None, reason="needs setpriv, of util-linux")
@pytest.mark.parametrize(
    ("folder", "mode", "said"),
    [(".git/dv", 0o555, "only be read"), (".git/dv/packs", 0, "not be read")],
)
def test_doctor_where_the_store_may_not_be_written(
    data: Work, folder: str, mode: int, said: str
) -> None:
    program = [sys.executable, "-m", "dvtool", "doctor", "--json"]
    if os.geteuid() == 0:  # whose right to write everywhere is taken from it
        limits = (f"--bounding-set={LIMITED}", f"--inh-caps={LIMITED}")
        program = ["setpriv", *limits, *program]
    os.chmod(data.root / folder, mode)
    try:
        ran = subprocess.run(program, cwd=data.root, capture_output=True, text=True, check=False)
    finally:
        os.chmod(data.root / folder, 0o755)
    assert ran.returncode == 1, ran.stderr
    assert "Traceback" not in ran.stderr
    store = next(check for check in json.loads(ran.stdout)["checks"] if check["name"] == "store")
    assert store["state"] == "failed"
    assert store["detail"].startswith(f"{data.root / folder} may {said} by this user")
    assert store["hint"].startswith("check who owns it")


def test_doctor_and_unknown_settings(work: Work) -> None:
    work.write(".dvconfig", work.read(".dvconfig") + b"[future]\n\tthing = 1\n")
    assert "future.thing" in _state(work, "settings")["detail"]


def test_doctor_without_git(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", os.devnull)
    git = next(check for check in doctor.check_machine() if check.name == "git")
    assert git.state == "failed"
    assert "PATH" in (git.hint or "")


def test_doctor_reports_a_machine_without_git(work: Work) -> None:
    # In a process of its own: git is looked for when the package is imported.
    ran = work.process("doctor", "--json", code=1, env={"PATH": os.devnull})
    states = {one["name"]: one["state"] for one in ran.json["checks"]}
    assert (states["git"], states["repository"]) == ("failed", "failed")


def test_doctor_names_missing_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        doctor.importlib.metadata, "requires", lambda _: ["there-is-none>=1", 'x; extra == "dev"']
    )
    packages = next(check for check in doctor.check_machine() if check.name == "packages")
    assert packages.detail == "missing: there-is-none"
    assert packages.state == "failed"


def _found(ran_json: Any) -> dict[str, dict[str, Any]]:
    return {check["name"]: check for check in ran_json["checks"]}


def _bucket(work: Work, server: S3Server, monkeypatch: pytest.MonkeyPatch) -> str:
    for name, value in server.env.items():
        monkeypatch.setenv(name, value)
    bucket = server.new_bucket()
    url = server.endpoint_url
    work.dv("remote", "set", "origin", f"s3://{bucket}/p", "--endpoint-url", url)
    return bucket


def test_doctor_tries_a_bucket_out(
    data: Work, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = _bucket(data, s3_server, monkeypatch)
    before = _found(data.dv("doctor", "--remote", "--json").json)
    assert before["remote"]["state"] == "warning"
    data.dv("push")
    ran = data.dv("doctor", "--remote", "--json").json
    found = _found(ran)
    honoured = s3_server.name == "moto"
    assert found["remote"]["state"] == "ok"
    assert found["permissions"]["detail"] == "read, list, write, delete"
    assert found["conditional put"]["detail"].startswith("honoured" if honoured else "not honoured")
    assert found["ranged get"]["detail"] == "honoured"
    assert found["checksums"]["detail"] == "Content-MD5: accepted; ETag: is the MD5"
    assert found["clock"]["state"] == "ok"
    assert found["upload"]["bytes"] > 0
    assert found["download"]["bytes"] > 0
    features = ran["features"]
    assert features["conditional_put"] is honoured
    assert features["delete_allowed"] is True
    assert 0 < features["latency_s"] < 10
    with s3_server.client() as client:
        keys = [one["Key"] for one in client.list_objects_v2(Bucket=bucket)["Contents"]]
    assert not [key for key in keys if "probe" in key]
    lines = data.dv("doctor", "--remote", "origin").lines
    assert lines[-1] == "everything that dv needs works"
    assert "a second, one transfer at a time" in "\n".join(lines)


def test_what_doctor_finds_is_remembered(
    data: Work, moto_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    _bucket(data, moto_server, monkeypatch)
    with Repo.open(str(data.root)) as repo:
        assert repo.config.open_remote().backend.features == Features()
    features = data.dv("doctor", "--remote", "--json").json["features"]
    with Repo.open(str(data.root)) as repo:
        assert asdict(repo.config.open_remote().backend.features) == features


def test_what_a_push_learns_is_remembered(
    data: Work, moto_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    _bucket(data, moto_server, monkeypatch)
    data.dv("push")
    with Repo.open(str(data.root)) as repo:
        known = repo.config.open_remote().backend.features
    assert (known.conditional_put, known.content_md5, known.list_allowed) == (True, True, True)
    # An index from before there was this table, and one that holds something else.
    with sqlite3.connect(data.root / ".git/dv/store.db") as db:
        db.execute("UPDATE remote_features SET text = 'no json'")
    data.dv("push")
    with sqlite3.connect(data.root / ".git/dv/store.db") as db:
        db.execute("DROP TABLE remote_features")
    db.close()
    data.dv("push")


def test_doctor_tries_a_folder_out(pushed: Work) -> None:
    found = _found(pushed.dv("doctor", "--remote", "--json").json)
    assert found["permissions"]["detail"] == "read, list, write, delete"
    assert "clock" not in found
    remote = pushed.root.parent / "remote"
    assert not any(path.is_file() for path in remote.glob("probe/*"))


def test_doctor_writes_nothing_beside_the_objects_of_others(data: Work) -> None:
    remote = data.root.parent / "remote"
    (remote / "thesis.doc").write_text("x")
    found = _found(data.dv("doctor", "--remote", "--json", code=1).json)
    assert "thesis.doc" in found["remote"]["detail"]
    assert "writing was not tried" in found["permissions"]["detail"]
    assert os.listdir(remote) == ["thesis.doc"]


def test_doctor_leaves_no_old_versions_of_its_probe(
    data: Work, moto_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = _bucket(data, moto_server, monkeypatch)
    with moto_server.client() as client:
        client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
        found = _found(data.dv("doctor", "--remote", "--json").json)
        versions = client.list_object_versions(Bucket=bucket).get("Versions", [])
    assert "versioning on" in found["bucket"]["detail"]
    assert found["permissions"]["detail"] == "read, list, write, delete"
    assert all(version["Size"] < 1000 for version in versions)


def test_doctor_names_what_is_not_allowed(
    data: Work, moto_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = _bucket(data, moto_server, monkeypatch)

    def refuses(request: Request) -> Fault | None:
        kinds = ("LIST", "DELETE")  # what a careful team grants to its trainers
        return Fault(request.kind, 403, "AccessDenied") if request.kind in kinds else None

    data.dv("push")
    with Guarded(moto_server.endpoint_url, refuses) as proxy:
        data.dv("remote", "set", "origin", f"s3://{bucket}/p", "--endpoint-url", proxy.url)
        ran = data.dv("doctor", "--remote", "--json").json
        plain = _state(data, "remote")
    assert (plain["state"], "may not be listed" in plain["detail"]) == ("warning", True)
    found = _found(ran)
    assert found["permissions"]["state"] == "warning"
    for deed in ("no list: ", "no delete: ", "writing was not tried"):
        assert deed in found["permissions"]["detail"]
    assert ran["features"]["list_allowed"] is False
    assert ran["features"]["delete_allowed"] is False


def test_doctor_of_a_remote_that_is_not_there(work: Work) -> None:
    ran = work.dv("doctor", "--remote", "nope", "--json", code=1).json
    assert "not configured" in _found(ran)["remote"]["detail"]
    assert ran["features"] is None
