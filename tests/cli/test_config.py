from __future__ import annotations

import pytest

from tests.cli.conftest import Work


def test_config_lists(work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DV_CORE_JOBS", "7")
    monkeypatch.delenv("DV_HOOKS_INSTALL")
    ran = work.dv("config")
    assert ran.out == work.dv("config", "--list").out
    rows = {line.split()[0]: line.split()[1:] for line in ran.lines}
    assert rows["core.jobs"] == ["7", "environment"]
    assert rows["core.repoid"][1] == ".dvconfig"
    assert rows["remote.origin.url"][1] == ".git/config"
    assert rows["hooks.install"] == ["true", "default"]
    assert "Worker processes" in work.dv("config", "-v").out


def test_config_json(work: Work) -> None:
    settings = work.dv("config", "--json").json["settings"]
    assert {"key": "store.keep", "value": "all", "source": "default"} in settings
    assert work.dv("config", "store.keep", "--json").json["settings"] == [
        {"key": "store.keep", "value": "all", "source": "default"}
    ]


def test_config_sets_where_it_belongs(work: Work) -> None:
    assert ".dvconfig (staged)" in work.dv("config", "hooks.autofetch", "true").out
    assert "autofetch = true" in work.read(".dvconfig").decode()
    assert "in .git/config" in work.dv("config", "store.keep", "unpushed").out
    assert "in .git/config" in work.dv("config", "--local", "hooks.autofetch", "false").out
    assert work.dv("config", "hooks.autofetch").out == "false\n"
    assert "in .git/config" in work.dv("config", "remote.disk.url", "/mnt/disk").out
    assert work.dv("config", "CORE.Remote", code=1).out == ""


def test_config_unset(work: Work) -> None:
    work.dv("config", "hooks.autofetch", "true")
    work.dv("config", "--local", "hooks.autofetch", "false")
    assert ".git/config" in work.dv("config", "--unset", "hooks.autofetch").out
    assert work.dv("config", "hooks.autofetch").out == "true\n"
    assert (
        "not set in .git/config"
        in work.dv("config", "--unset", "--local", "hooks.autofetch", code=2).err
    )
    assert ".dvconfig" in work.dv("config", "--unset", "hooks.autofetch").out
    assert "not set in any file" in work.dv("config", "--unset", "hooks.autofetch", code=2).err


def test_config_warns_of_what_has_no_effect(work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    work.dv("config", "--local", "hooks.autofetch", "false")
    assert "warning: the value in .git/config" in work.dv("config", "hooks.autofetch", "yes").err
    monkeypatch.setenv("DV_HOOKS_AUTOFETCH", "1")
    assert "warning: the value in the environment" in work.dv("config", "hooks.autofetch", "no").err
    assert "there is no remote nope yet" in work.dv("config", "core.remote", "nope").err


def test_config_unknown_settings(work: Work) -> None:
    ran = work.dv("config", "core.remot", code=2)
    assert "did you mean core.remote?" in ran.err
    work.write(".dvconfig", work.read(".dvconfig") + b"[future]\n\tthing = 1\n")
    assert "warning: this version of dvtool does not know the setting future.thing" in (
        work.dv("config").err
    )


@pytest.mark.parametrize(
    "args",
    [
        ("core.jobs", "many"),
        ("store.keep", "some"),
        ("remote.origin.url", "s3://id:secret@bucket"),
        ("--unset",),
        ("--unset", "core.jobs", "1"),
        ("--list", "core.jobs"),
        ("a", "b", "c"),
    ],
)
def test_config_refuses(work: Work, args: tuple[str, ...]) -> None:
    before = work.read(".dvconfig"), work.read(".git/config")
    ran = work.dv("config", *args, code=2)
    assert ran.err.startswith("error: ")
    assert "secret" not in ran.err
    assert (work.read(".dvconfig"), work.read(".git/config")) == before


@pytest.mark.parametrize(
    "text",
    ['[remote "x"]\n\tsecretaccesskey = k\n', "[core\n", "[core]\n\tjobs = 3\n"],
)
def test_a_bad_dvconfig_is_named(work: Work, text: str) -> None:
    work.write(".dvconfig", work.read(".dvconfig") + text.encode())
    ran = work.dv("status", code=3)
    assert ".dvconfig" in ran.err
    assert "hint: " in ran.err


def test_a_store_whose_disk_is_away_is_refused(data: Work) -> None:
    disk = data.root.parent / "disk"
    data.dv("config", "--local", "store.path", disk / "store")
    data.write("data/images/new.txt", "new")
    data.dv("add", "data/images")
    data.dv("status")
    disk.rename(data.root.parent / "away")
    for command in (["add", "data/images"], ["fsck"], ["checkout"], ["push"], ["gc"]):
        data.write("data/images/new.txt", "newer")
        ran = data.dv(*command, code=3)
        assert "store.path: the local store was in" in ran.err
        assert "mount the disk" in ran.err
    assert not (disk / "store" / "packs").exists()
    (data.root.parent / "away").rename(disk)
    data.dv("add", "data/images")
    data.dv("config", "--local", "store.path", data.root.parent / "other")
    data.dv("status")


def test_global_settings_are_the_weakest(work: Work) -> None:
    ran = work.dv("config", "--global", "core.jobs", "3")
    assert ran.out == "core.jobs = 3  in ~/.config/dv/config\n"
    other = Work(work.root.parent / "other")
    other.root.mkdir()
    other.git("init", "-q")
    assert other.dv("config", "core.jobs").out == "3\n"
    row = next(r for r in other.dv("config", "--json").json["settings"] if r["key"] == "core.jobs")
    assert row["source"] == "~/.config/dv/config"
    work.dv("config", "--local", "core.jobs", "2")
    assert work.dv("config", "core.jobs").out == "2\n"
    assert "stronger" in work.dv("config", "--global", "core.jobs", "5").err
    work.dv("config", "--global", "--unset", "core.jobs")
    assert other.dv("config", "core.jobs").out == "0\n"
    assert "not set" in work.dv("config", "--global", "--unset", "core.jobs", code=2).err
    assert "of one repository" in work.dv("config", "--global", "core.repoid", "0" * 32, code=2).err
    work.dv("config", "--global", "core.jobs", "x", code=2)
