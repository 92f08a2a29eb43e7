from __future__ import annotations

import pytest

from tests.cli.conftest import Work


def test_remote_add_a_bucket(bare: Work) -> None:
    bare.dv("init")
    ran = bare.dv(
        *("remote", "add", "origin", "s3://bucket/prefix", "--region", "eu-central-1"),
        *("--endpoint-url", "https://s3.example.org", "--profile", "work"),
    )
    assert ran.out == "remote origin: s3://bucket/prefix\n"
    assert ".dvconfig" in ran.err
    text = bare.read(".dvconfig").decode()
    assert "s3://bucket/prefix" in text
    assert "work" not in text
    (remote,) = bare.dv("remote", "list", "--json").json["remotes"]
    assert remote == {
        "name": "origin",
        "url": "s3://bucket/prefix",
        "default": True,
        "source": ".dvconfig",
        "endpoint_url": "https://s3.example.org",
        "region": "eu-central-1",
        "profile": "work",
        "addressing": "auto",
        "storage_class": None,
        "sse": None,
        "sse_kms_key_id": None,
        "anonymous": False,
        "requester_pays": False,
        "ca_bundle": None,
        "proxy": None,
    }


def test_remote_add_a_folder(bare: Work) -> None:
    bare.dv("init")
    (bare.root / "sub").mkdir()
    ran = bare.dv("remote", "add", "disk", "../../disk", cwd="sub")
    assert ran.out == f"remote disk: {bare.root.parent / 'disk'}\n"
    assert "in .git/config, for this clone only" in ran.err
    assert "disk" not in bare.read(".dvconfig").decode()


def test_remote_add_local(bare: Work) -> None:
    bare.dv("init")
    bare.dv("remote", "add", "mine", "s3://bucket", "--local")
    assert "bucket" not in bare.read(".dvconfig").decode()
    bare.dv("remote", "set", "mine", "--region", "eu-central-1")
    assert "eu-central-1" not in bare.read(".dvconfig").decode()


def test_remote_list_marks_the_default(work: Work) -> None:
    work.dv("remote", "add", "backup", "s3://bucket")
    lines = work.dv("remote").lines
    assert lines == work.dv("remote", "list").lines
    assert lines[0] == "  backup  s3://bucket  (.dvconfig)"
    work.dv("config", "core.remote", "backup")
    assert work.dv("remote").lines[0].startswith("* backup")


def test_remote_set_moves_a_folder_to_a_bucket(work: Work) -> None:
    work.dv("remote", "set", "origin", "s3://bucket")
    (remote,) = work.dv("remote", "list", "--json").json["remotes"]
    assert (remote["url"], remote["source"]) == ("s3://bucket", ".dvconfig")
    work.dv("remote", "set", "origin", "--region", "eu-central-1")
    (remote,) = work.dv("remote", "list", "--json").json["remotes"]
    assert remote["region"] == "eu-central-1"
    work.dv("remote", "set", "origin", "../folder")
    (remote,) = work.dv("remote", "list", "--json").json["remotes"]
    assert remote["source"] == ".git/config"


def test_remote_remove(work: Work) -> None:
    work.dv("remote", "add", "backup", "s3://bucket")
    work.dv("config", "core.remote", "backup")
    assert "was not touched" in work.dv("remote", "remove", "backup").out
    assert [one["name"] for one in work.dv("remote", "list", "--json").json["remotes"]] == [
        "origin"
    ]
    assert "core.remote has no value" in work.dv("config", "core.remote", code=1).err
    assert (work.root.parent / "remote").is_dir()


def test_remote_remove_a_local_default(work: Work) -> None:
    work.dv("config", "--local", "core.remote", "origin")
    work.dv("remote", "remove", "origin")
    work.dv("config", "core.remote", code=1)


@pytest.mark.parametrize(
    ("args", "code"),
    [
        (("add", "origin", "s3://bucket"), 2),
        (("add", "bad name", "s3://bucket"), 2),
        (("add", "x", "ftp://host/path"), 2),
        (("add", "x", "s3://id:secret@bucket"), 2),
        (("add", "x"), 2),
        (("set", "nope", "s3://bucket"), 3),
        (("set", "origin"), 2),
        (("remove", "nope"), 3),
        (("nope",), 2),
    ],
)
def test_remote_refuses(work: Work, args: tuple[str, ...], code: int) -> None:
    before = work.read(".dvconfig"), work.read(".git/config")
    ran = work.dv("remote", *args, code=code)
    assert ran.err.startswith("error: ")
    assert "hint: " in ran.err
    assert "secret" not in ran.err
    assert (work.read(".dvconfig"), work.read(".git/config")) == before


def test_remote_none(bare: Work) -> None:
    bare.dv("init")
    ran = bare.dv("remote")
    assert ran.out == ""
    assert "dv remote add" in ran.err
    assert bare.dv("remote", "list", "--json").json == {"remotes": []}


def test_a_committed_folder_outside_is_refused(data: Work) -> None:
    text = data.read(".dvconfig").decode()
    data.write(".dvconfig", text + '[remote "evil"]\n\turl = /etc\n')
    ran = data.dv("status", code=3)
    assert "in .dvconfig" in ran.err
    assert "hint: " in ran.err
