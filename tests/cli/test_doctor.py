from __future__ import annotations

import os
import shutil

import pytest

from dvtool.ops import doctor
from tests.cli.conftest import Work


def test_doctor_is_content(pushed: Work) -> None:
    ran = pushed.dv("doctor")
    assert "FAIL" not in ran.out
    assert ran.lines[-1] == "everything that dv needs works"
    found = pushed.dv("doctor", "--json").json
    assert found["ok"] is True
    assert [one["name"] for one in found["checks"]] == [
        *("python", "git", "packages", "repository", "settings"),
        *("manifests", "store", "disk", "remote"),
    ]
    assert set(found["checks"][0]) == {"name", "state", "detail", "hint", "bytes"}


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
