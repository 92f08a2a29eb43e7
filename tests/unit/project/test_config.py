"""`dvtool.project.config`: precedence, and what is configured of a remote."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from dvtool.errors import SetupError
from dvtool.git import Git
from dvtool.project.config import Config
from tests.unit.project.settings import REMOTE, load


def test_defaults() -> None:
    config = load()
    assert config.get("core.remote") is None
    assert config.get("hooks.install") is True
    assert config.flag("hooks.install")
    assert not config.flag("hooks.autofetch")
    assert config.number("hooks.maxfilesize") == 10 << 20
    assert config.number("core.jobs") == 0
    assert config.text("store.keep") == "all"
    assert config.source("store.keep") == "default"
    assert config.remotes() == {}
    assert config.default_remote() is None
    assert config.unknown == ()
    assert config.get("remote.any.region") is None


def test_the_stronger_layer_wins() -> None:
    committed, local = [("core.remote", "a")], [("dv.core.remote", "b")]
    environ = {"DV_CORE_REMOTE": "c"}
    assert load(committed).get("core.remote") == "a"
    assert load(committed).source("core.remote") == ".dvconfig"
    assert load(committed, local).get("core.remote") == "b"
    assert load(committed, local).source("core.remote") == ".git/config"
    assert load(committed, local, environ).get("core.remote") == "c"
    assert load(committed, local, environ).source("core.remote") == "environment"
    assert load(committed, local, {"DV_CORE_REMOTE": ""}).get("core.remote") == "b"


def test_the_later_of_two_values_counts() -> None:
    assert load([("core.remote", "a"), ("core.remote", "b")]).get("core.remote") == "b"


def test_the_empty_text_takes_a_value_back() -> None:
    committed = [("remote.o.url", "s3://bucket"), ("remote.o.endpointurl", "https://h")]
    remote = load(committed, [("dv.remote.o.endpointurl", "")]).remote("o")
    assert remote.options["endpoint_url"] is None
    assert load(committed, [("dv.remote.o.url", "")]).remotes() == {}


def test_case_of_keys() -> None:
    config = load([("CORE.Remote", "x"), ("remote.MyName.URL", "s3://bucket")])
    assert config.get("core.REMOTE") == "x"
    assert list(config.remotes()) == ["MyName"]
    assert config.get("Remote.MyName.Url") == "s3://bucket"
    assert load(local=[("DV.core.remote", "y")]).get("core.remote") == "y"


def test_local_keys_without_the_prefix_are_not_ours() -> None:
    config = load(local=[("core.remote", "x"), ("core.hookspath", "h"), ("dvx.core.remote", "x")])
    assert config.get("core.remote") is None
    assert config.unknown == ()


def test_unknown_keys_are_collected() -> None:
    config = load(
        [("core.future", "1"), ("remote.o.newfield", "2"), ("x.y.z", "3"), ("description", "4")],
        [("dv.other", "5"), ("dv.core.future", "6")],
        {"DV_DEBUG": "1"},
    )
    assert config.unknown == (
        "core.future",
        "remote.o.newfield",
        "x.y.z",
        "description",
        "dv.other",
        "dv.core.future",
    )


def test_items_lists_every_setting_with_its_source() -> None:
    config = load([("remote.o.url", "s3://bucket")], [("dv.hooks.install", "no")])
    items = {key: (value, source) for key, value, source in config.items()}
    assert items["remote.o.url"] == ("s3://bucket", ".dvconfig")
    assert items["hooks.install"] == (False, ".git/config")
    assert items["store.keep"] == ("all", "default")
    assert [item.key for item in config.items()] == sorted(items)
    assert not any("*" in key for key in items)


def test_remotes() -> None:
    config = load(
        [
            ("remote.origin.url", "s3://bucket/data"),
            ("remote.origin.region", "eu-central-1"),
            ("remote.b.c.url", "shared/data"),
            ("remote.no-url.region", "eu-central-1"),
        ],
        [("dv.remote.origin.profile", "work profile"), ("dv.remote.disk.url", "/mnt/data")],
        {"DV_REMOTE_ORIGIN_ENDPOINTURL": "http://localhost:9000"},
    )
    assert list(config.remotes()) == ["b.c", "disk", "origin"]
    origin = config.remote("origin")
    assert origin.name == "origin"
    assert origin.url == "s3://bucket/data"
    assert origin.options["endpoint_url"] == "http://localhost:9000"
    assert origin.options["region"] == "eu-central-1"
    assert origin.options["profile"] == "work profile"
    assert origin.source == ".dvconfig"
    assert config.remote("disk").source == ".git/config"
    assert config.default_remote() == origin


def test_default_remote() -> None:
    one = [("remote.a.url", "s3://bucket")]
    two = [*one, ("remote.b.url", "s3://other")]
    only = load(one).default_remote()
    assert only is not None and only.name == "a"
    assert load(two).default_remote() is None
    chosen = load([*two, ("core.remote", "b")]).default_remote()
    assert chosen is not None and chosen.name == "b"
    with pytest.raises(SetupError, match="gone is not configured; there are:\n  a\n  b") as caught:
        load([*two, ("core.remote", "gone")]).default_remote()
    assert "dv remote add" in (caught.value.hint or "")


def test_a_remote_that_is_not_configured() -> None:
    with pytest.raises(SetupError, match="no other is"):
        load().remote("origin")
    with pytest.raises(SetupError) as caught:
        load().remote("\x1b[31m")
    assert "\x1b" not in str(caught.value)


def test_remotes_from_the_environment() -> None:
    config = load(
        [("remote.My-Data.url", "s3://bucket")],
        environ={
            "DV_REMOTE_MY_DATA_REGION": "eu-west-1",
            "DV_REMOTE_SCRATCH_URL": "/tmp/scratch",
            "DV_REMOTE__URL": "/x",
            "DV_REMOTE_URL": "/x",
            "dv_remote_lower_url": "/x",
        },
    )
    assert list(config.remotes()) == ["My-Data", "scratch"]
    assert config.remote("My-Data").options["region"] == "eu-west-1"
    assert config.remote("scratch").source == "environment"


def test_a_variable_that_could_mean_two_remotes() -> None:
    committed = [("remote.a-b.url", "s3://bucket"), ("remote.a_b.url", "s3://other")]
    assert len(load(committed, environ={"DV_REMOTE_A_B_URL": ""}).remotes()) == 2
    with pytest.raises(SetupError, match="could mean any of"):
        load(committed, environ={"DV_REMOTE_A_B_URL": "s3://third"})


def test_options_of_a_remote() -> None:
    remote = load(REMOTE).remote("o")
    assert (
        remote.options["addressing"],
        remote.options["storage_class"],
        remote.options["sse"],
    ) == ("auto", None, None)
    assert (remote.options["anonymous"], remote.options["requester_pays"]) == (False, False)
    committed = [
        *REMOTE,
        ("remote.o.addressing", "virtual"),
        ("remote.o.storageclass", "STANDARD_IA"),
        ("remote.o.sse", "aws:kms"),
        ("remote.o.anonymous", "true"),
        ("remote.o.endpointurl", "https://s3.example.org"),
    ]
    local = [
        ("dv.remote.o.ssekmskeyid", "key-1"),
        ("dv.remote.o.requesterpays", "yes"),
        ("dv.remote.o.cabundle", "~/ca.pem"),
        ("dv.remote.o.proxy", "http://proxy:3128"),
    ]
    remote = load(committed, local, {"DV_REMOTE_O_SSE": "default"}).remote("o")
    assert (
        remote.options["addressing"],
        remote.options["storage_class"],
        remote.options["sse"],
    ) == ("virtual", "STANDARD_IA", None)
    assert (remote.options["anonymous"], remote.options["requester_pays"]) == (True, True)
    assert (remote.options["sse_kms_key_id"], remote.options["ca_bundle"]) == ("key-1", "~/ca.pem")
    assert (remote.options["proxy"], remote.option_sources["endpoint_url"]) == (
        "http://proxy:3128",
        ".dvconfig",
    )


def test_as_git_reads_it(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    (tmp_path / ".dvconfig").write_text(
        '[core]\n\tremote = origin ; the usual one\n[remote "origin"]\n\tURL = "s3://bucket/a b"\n'
        "[hooks]\n\tautofetch\n\tmaxFileSize = 5 MiB\n"
    )
    with Git.discover(str(tmp_path)) as git:
        git.config.set(None, "dv.remote.origin.url", "/mnt/here")
        git.config.set(None, "dv.store.keep", "unpushed")
        config = Config.load(git.config.items(".dvconfig"), git.config.items(None), {})
    assert config.unknown == ()
    assert config.flag("hooks.autofetch")
    assert config.number("hooks.maxfilesize") == 5 << 20
    assert config.text("store.keep") == "unpushed"
    remote = config.default_remote()
    assert remote is not None
    assert (remote.name, remote.url, remote.source) == ("origin", "/mnt/here", ".git/config")
