"""No address of a repository takes effect by looking at it: which requests are sent, and to whom.

A real server notes what it is asked. `.dvconfig` on a branch names it, as a pull request can.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import Work
from tests.cli.spoils import SPOILS, spoil
from tests.s3.hostile import Answer, Hostile, hostile

TOKEN = "the-token-of-whoever-looks"
IN_THE_CLEAR = "http://minio.example.org:9000"
LOOKS = (
    "status",
    "diff",
    "diff main pr",
    "ls",
    "log data",
    "cat data/f",
    "cat data/new",
    "describe",
    "checkout",
    "checkout pr",
    "add data",
    "doctor",
    "fsck --workspace",
    "resolve",
    "config",
    "remote list",
    "remote trust --dry-run",
    "hooks status",
)
REMOTE_VERBS = (
    "pull",
    "fetch",
    "push",
    "fetch --plan",
    "gc --remote",
    "drop data",
    "doctor --remote",
)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hostile]:
    for name, value in {
        "AWS_ACCESS_KEY_ID": "AKIAVICTIM",
        "AWS_SECRET_ACCESS_KEY": "secretsecret",
        "AWS_SESSION_TOKEN": TOKEN,
    }.items():
        monkeypatch.setenv(name, value)
    with hostile(lambda _: Answer(404)) as running:
        yield running


def git(work: Work, *args: str) -> str:
    """Run git with dvtool's hooks and drivers at work; whether git minds is its own affair."""
    done = subprocess.run(["git", *args], cwd=work.root, capture_output=True, check=False)
    return os.fsdecode(done.stdout + done.stderr)


def write_settings(work: Work, **settings: str) -> None:
    """Write settings of a remote `mirror` into .dvconfig as an attacker, or an editor, does."""
    for field, value in settings.items():
        work.git("config", "--file", ".dvconfig", f"remote.mirror.{field}", value)


def propose(work: Work, url: str) -> None:
    """Make the branch `pr`: another default remote, fetching on checkout, and data to fetch."""
    work.git("checkout", "--quiet", "-b", "pr")
    write_settings(work, url="s3://attacker/x", endpointurl=url)
    work.git("config", "--file", ".dvconfig", "core.remote", "mirror")
    work.git("config", "--file", ".dvconfig", "hooks.autofetch", "true")
    manifest = json.loads(work.read("data.dv.json"))
    manifest["entries"]["new"] = {"size": 5, "blake3": "1" * 64}
    work.write("data.dv.json", json.dumps(manifest))
    work.git("commit", "--quiet", "--all", "--no-verify", "--message", "Fix a typo")
    work.git("checkout", "--quiet", "main")


@pytest.fixture(params=["a clone that trusts a remote", "a clone that trusts nothing yet"])
def victim(
    request: pytest.FixtureRequest, work: Work, server: Hostile, monkeypatch: pytest.MonkeyPatch
) -> Work:
    """A clone with hooks and drivers, where somebody's branch `pr` was fetched."""
    work.write("data/f", "one\n")
    work.dv("add", "data")
    monkeypatch.delenv("DV_HOOKS_INSTALL")
    work.dv("hooks", "install")
    work.commit("data")
    work.dv("push")
    if "nothing" in request.param:
        work.dv("remote", "remove", "origin")
    propose(work, server.url)
    server.asked.clear()
    return work


def test_looking_at_a_branch_sends_no_request_to_an_address_of_its_file(
    victim: Work, server: Hostile
) -> None:
    said = git(victim, "checkout", "pr")
    assert "is not trusted in this clone" in said
    assert f"s3://attacker/x, endpoint-url {server.url}" in said
    for verb in LOOKS:
        victim.dv(*verb.split(), code=None)
        assert server.asked == [], verb
    for command in (
        "diff main pr",
        "log -p pr",
        "stash",
        "checkout --force main",
        "merge pr",
        "rebase pr",
        "cherry-pick pr",
        f"push {victim.root.parent}/elsewhere pr",
    ):
        git(victim, "init", "--quiet", "--bare", "../elsewhere")
        git(victim, *command.split())
        assert server.asked == [], command


def test_a_hook_does_not_push_to_an_address_that_a_branch_chose(
    victim: Work, server: Hostile
) -> None:
    git(victim, "checkout", "pr")
    victim.write("data/mine", "mine\n")
    victim.dv("add", "data")
    git(victim, "commit", "--all", "--message", "mine")
    git(victim, "init", "--quiet", "--bare", "../elsewhere")
    said = git(victim, "push", "../elsewhere", "pr")
    assert "is not trusted in this clone" in said
    assert "the push was stopped" in said
    assert server.asked == []


def test_typed_commands_refuse_an_address_that_came_later(work: Work, server: Hostile) -> None:
    work.write("data/f", "one\n")
    work.dv("add", "data")
    work.commit("data")
    work.dv("push")
    propose(work, server.url)
    work.git("checkout", "--quiet", "pr")
    for verb in REMOTE_VERBS:
        ran = work.dv(*verb.split(), code=None)
        assert ran.code in (1, 3), verb
        assert "mirror is not trusted in this clone" in ran.out + ran.err, verb
        assert "dv remote trust mirror" in " ".join((ran.out + ran.err).split()), verb
        assert server.asked == [], verb
    ran = work.dv("remote", "trust", "mirror")
    assert f"  .dvconfig says: s3://attacker/x, endpoint-url {server.url}" in ran.lines
    work.dv("fetch", code=None)
    assert server.asked


# --- the first use ----------------------------------------------------------------------------


@pytest.fixture
def fresh(data: Work, server: Hostile) -> Work:
    """A clone made by git, whose .dvconfig names a remote; nothing was typed in it yet."""
    write_settings(data, url="s3://team/data", endpointurl=server.url)
    data.git("config", "--file", ".dvconfig", "core.remote", "mirror")
    data.commit("a remote")
    return data.clone(remote=False)


@pytest.mark.parametrize("verb", ["pull", "fetch", "push", "pull --plan", "push --plan"])
def test_the_first_typed_transfer_trusts_the_committed_address_and_says_so(
    fresh: Work, server: Hostile, verb: str
) -> None:
    ran = fresh.dv(*verb.split(), code=None)
    assert "is not trusted" not in ran.err
    assert (
        f"trusts what .dvconfig says now: mirror (s3://team/data, endpoint-url {server.url})"
        in (ran.err)
    )
    assert server.asked
    assert server.asked[0].headers["X-Amz-Security-Token"] == TOKEN
    assert "trusts what" not in fresh.dv(*verb.split(), code=None).err


def test_clone_trusts_the_committed_address_and_says_so(fresh: Work, server: Hostile) -> None:
    folder = Work(fresh.root.parent)
    ran = folder.dv("clone", str(fresh.root), "second", code=None)
    assert "trusts what .dvconfig says now: mirror" in ran.err
    assert server.asked


@pytest.mark.parametrize("verb", [*LOOKS, "hooks run post-checkout HEAD HEAD 1"])
def test_only_a_transfer_is_a_first_use(fresh: Work, server: Hostile, verb: str) -> None:
    fresh.dv(*verb.split(), code=None)
    assert server.asked == []
    assert not (fresh.root / ".git/dv/trusted-remotes.json").exists()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("url", "s3://attacker/data"),
        ("url", "data-remote"),
        ("endpointurl", "https://s3.attacker.example"),
        ("endpointurl", ""),
        ("endpointurl", None),
        ("region", "eu-central-1"),
        ("addressing", "virtual"),
        ("anonymous", "true"),
    ],
)
def test_an_address_that_changed_is_refused_until_it_is_trusted(
    fresh: Work, server: Hostile, field: str, value: str | None
) -> None:
    fresh.dv("fetch", code=None)
    before = fresh.read(".dvconfig")
    server.asked.clear()
    if value is None:
        fresh.git("config", "--file", ".dvconfig", "--unset", f"remote.mirror.{field}")
    else:
        write_settings(fresh, **{field: value})
    for _ in range(2):
        ran = fresh.dv("fetch", code=3)
        assert "mirror is not trusted in this clone" in ran.err
        assert f"the trusted address is s3://team/data, endpoint-url {server.url}" in ran.err
        assert "dv remote trust mirror" in ran.err
    assert server.asked == []
    (listed,) = fresh.dv("remote", "list", "--json").json["remotes"]
    assert listed["trusted"] is False
    assert "not trusted" in fresh.dv("remote", "list").out
    shown = fresh.dv("remote", "trust").out
    assert f"  trusted before: s3://team/data, endpoint-url {server.url}" in shown
    assert "is not trusted" not in fresh.dv("fetch", code=None).err
    fresh.write(".dvconfig", before)  # as on another branch
    assert "is not trusted" not in fresh.dv("fetch", code=None).err
    assert fresh.dv("remote", "trust").out == "every remote is trusted already\n"


def test_what_chooses_no_address_needs_no_trust(fresh: Work, server: Hostile) -> None:
    fresh.dv("fetch", code=None)
    write_settings(fresh, storageclass="STANDARD_IA", sse="AES256")
    assert "is not trusted" not in fresh.dv("fetch", code=None).err


def test_dry_run_trusts_nothing(fresh: Work) -> None:
    assert "would be trusted: mirror" in fresh.dv("remote", "trust", "--dry-run").out
    (listed,) = fresh.dv("remote", "list", "--json").json["remotes"]
    assert listed["trusted"] is False
    assert "not configured" in fresh.dv("remote", "trust", "other", code=3).err


def test_an_endpoint_in_the_clear_is_no_first_use(fresh: Work) -> None:
    write_settings(fresh, endpointurl=IN_THE_CLEAR)
    for verb in ("pull", "fetch", "push"):
        ran = fresh.dv(verb, code=3)
        assert "not encrypted" in ran.err
        assert "dv remote trust mirror" in ran.err
    fresh.dv("remote", "trust", "mirror")
    (listed,) = fresh.dv("remote", "list", "--json").json["remotes"]
    assert listed["trusted"] is True


# --- what a person set here -------------------------------------------------------------------


def test_what_is_typed_is_trusted(data: Work, server: Hostile) -> None:
    ran = data.dv("remote", "add", "mirror", "s3://team/data", "--endpoint-url", IN_THE_CLEAR)
    assert "not encrypted" in ran.err
    data.dv("remote", "set", "mirror", "--endpoint-url", server.url)
    data.dv("config", "remote.mirror.region", "eu-central-1")
    data.dv("push", "--remote", "mirror", code=None)
    assert server.asked
    data.dv("config", "--unset", "remote.mirror.region")
    data.dv("remote", "set", "mirror", "s3://other/data", "--profile", "work")
    listed = {one["name"]: one for one in data.dv("remote", "list", "--json").json["remotes"]}
    assert listed["mirror"]["trusted"] is True


@pytest.mark.parametrize(
    "line",
    [
        "remote add mirror s3://team/data",
        "remote set mirror --region eu-central-1",
        "remote set mirror s3://team/data",
        "config remote.mirror.anonymous true",
        "config --unset remote.mirror.region",
    ],
)
def test_what_was_not_typed_is_not_trusted_along_with_it(
    data: Work, server: Hostile, line: str
) -> None:
    """A branch can leave an endpoint for a remote that somebody will add."""
    write_settings(data, endpointurl=server.url, region="us-east-1")
    if "add" not in line:
        write_settings(data, url="s3://attacker/x")
    data.dv(*line.split(), code=None)
    assert "not trusted" in data.dv("push", "--remote", "mirror", code=3).err
    assert server.asked == []


@pytest.mark.parametrize("by", ["git", "environment"])
def test_settings_of_the_clone_and_the_environment_are_trusted(
    fresh: Work, server: Hostile, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    fresh.dv("remote", "add", "mine", "s3://mine", "--local")  # so it is no first use
    write_settings(fresh, endpointurl="https://s3.attacker.example")
    for field, value in {"url": "s3://mine/x", "endpointurl": server.url}.items():
        assert "is not trusted" in fresh.dv("fetch", "--remote", "mirror", code=3).err
        if by == "git":
            fresh.git("config", f"dv.remote.mirror.{field}", value)
        else:
            monkeypatch.setenv(f"DV_REMOTE_MIRROR_{field.upper()}", value)
    fresh.dv("fetch", "--remote", "mirror", code=None)
    assert server.asked


# --- the record -------------------------------------------------------------------------------


def test_worktrees_share_what_is_trusted_and_clones_do_not(fresh: Work, tmp_path: Path) -> None:
    fresh.dv("remote", "trust")
    fresh.git("worktree", "add", "--quiet", str(tmp_path / "tree"))
    assert Work(tmp_path / "tree").dv("remote", "trust").out == "every remote is trusted already\n"
    assert "trusted from now on" in fresh.clone("other", remote=False).dv("remote", "trust").out


def test_a_remote_that_is_removed_is_trusted_no_more(fresh: Work) -> None:
    before = fresh.read(".dvconfig")
    fresh.dv("remote", "trust")
    fresh.dv("remote", "remove", "mirror")
    fresh.write(".dvconfig", before)
    assert "is not trusted" in fresh.dv("fetch", code=3).err


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b'{"trusted": [{"name": 1}]}', b"\xff"])
def test_a_record_that_cannot_be_read_trusts_nothing(
    fresh: Work, server: Hostile, text: bytes
) -> None:
    fresh.dv("remote", "trust")
    fresh.write(".git/dv/trusted-remotes.json", text)
    assert "is not trusted" in fresh.dv("fetch", code=3).err
    assert server.asked == []
    fresh.dv("remote", "trust")
    fresh.dv("fetch", code=None)
    assert server.asked


def test_a_record_that_is_no_file_of_ours_trusts_nothing(
    fresh: Work, server: Hostile, tmp_path: Path
) -> None:
    fresh.dv("remote", "trust")
    text = (fresh.root / ".git/dv/trusted-remotes.json").read_bytes()
    for how in SPOILS:
        spoil(fresh.root / ".git/dv/trusted-remotes.json", how, tmp_path / "elsewhere")
        if how != "link":
            assert "is not trusted" in fresh.dv("fetch", code=3).err, how
    # A link is none either, though it leads to what once was trusted.
    (tmp_path / "elsewhere").write_bytes(text)
    assert "is not trusted" in fresh.dv("fetch", code=3).err
    assert server.asked == []


def test_a_remote_to_fall_back_on_that_is_not_trusted_is_named_and_not_asked(
    pushed: Work, server: Hostile
) -> None:
    write_settings(pushed, url="s3://attacker/x", endpointurl=server.url)
    clone = pushed.clone(remote=False)
    clone.dv("remote", "add", "origin", pushed.root.parent / "remote")
    clone.write(".dvconfig", pushed.read(".dvconfig"))
    for path in (pushed.root.parent / "remote/packs").rglob("*"):
        if path.is_file():
            path.unlink()
    ran = clone.dv("pull", code=None)
    assert ran.code != 0
    assert "mirror is not asked" in ran.err
    assert "dv remote trust mirror" in ran.err
    assert server.asked == []
    assert "not asked" not in clone.dv("pull", "--remote", "origin", code=None).err
