from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import Work
from tests.s3.hostile import Answer, hostile


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
        "trusted": True,
        "options": {
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
        },
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
    assert remote["options"]["region"] == "eu-central-1"
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
    assert bare.dv("remote", "list", "--json").json == {"schema": 1, "remotes": [], "sources": []}


def test_a_committed_folder_outside_is_refused(data: Work) -> None:
    text = data.read(".dvconfig").decode()
    data.write(".dvconfig", text + '[remote "evil"]\n\turl = /etc\n')
    ran = data.dv("status", code=3)
    assert "in .dvconfig" in ran.err
    assert "hint: " in ran.err


def test_remote_options(bare: Work) -> None:
    bare.dv("init")
    bundle = bare.write("ca.pem", "certificates")
    bare.dv(
        *("remote", "add", "origin", "s3://bucket", "--addressing", "virtual"),
        *("--storage-class", "STANDARD_IA", "--sse", "aws:kms", "--sse-kms-key-id", "key-1"),
        *("--anonymous", "false", "--requester-pays", "true"),
        *("--ca-bundle", "ca.pem", "--proxy", "http://proxy:3128"),
    )
    committed, local = bare.read(".dvconfig").decode(), bare.read(".git/config").decode()
    for text in ("virtual", "STANDARD_IA", "aws:kms"):
        assert text in committed
    for text in ("key-1", "requesterpays", "ca.pem", "proxy:3128"):
        assert text not in committed
        assert text in local
    (remote,) = bare.dv("remote", "list", "--json").json["remotes"]
    options = remote["options"]
    assert options["sse_kms_key_id"] == "key-1"
    assert options["requester_pays"] is True
    assert options["ca_bundle"] == str(bundle)
    bare.dv("remote", "set", "origin", "--proxy", "", "--requester-pays", "false")
    (remote,) = bare.dv("remote", "list", "--json").json["remotes"]
    options = remote["options"]
    assert (options["proxy"], options["requester_pays"]) == (None, False)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--storage-class", "GLACIER"), "archive"),
        (("--addressing", "odd"), "none of"),
        (("--proxy", "http://u:secret@proxy"), "proxy"),
        (("--anonymous", "maybe"), "true nor false"),
    ],
)
def test_remote_options_are_checked_before_anything_is_written(
    bare: Work, options: tuple[str, ...], said: str
) -> None:
    bare.dv("init")
    before = bare.read(".dvconfig"), bare.read(".git/config")
    ran = bare.dv("remote", "add", "o", "s3://bucket", *options, code=2)
    assert said in ran.err
    assert "secret" not in ran.err
    assert (bare.read(".dvconfig"), bare.read(".git/config")) == before


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--sse-kms-key-id", "key-1"), "KMS key"),
        (("--anonymous", "true", "--requester-pays", "true"), "cannot be charged"),
        (("--ca-bundle", "/no/such/file.pem"), "there is no file /no/such/file.pem"),
    ],
)
def test_remote_options_that_do_not_go_together(
    bare: Work, options: tuple[str, ...], said: str
) -> None:
    bare.dv("init")
    bare.dv("remote", "add", "o", "s3://bucket", *options)
    ran = bare.dv("doctor", "--remote", code=1)
    assert said in " ".join(ran.out.split())


@pytest.mark.parametrize(
    ("args", "option"),
    [
        (("remote", "add", "disk", "../disk", "--endpoint-url", "https://h"), "endpoint-url"),
        (("remote", "add", "disk", "file:///tmp/disk", "--anonymous", "true"), "anonymous"),
        (("remote", "set", "origin", "--region", "eu-central-1"), "region"),
        (("init", "--remote", "../remote", "--region", "eu-central-1"), "region"),
    ],
)
def test_an_option_of_s3_is_refused_for_a_folder(
    work: Work, args: tuple[str, ...], option: str
) -> None:
    before = work.read(".dvconfig"), work.read(".git/config")
    ran = work.dv(*args, code=2)
    assert f"is a folder, where {option} means nothing" in ran.err
    assert "hint: leave it out; it belongs to a remote that is S3 (s3://bucket/prefix)" in ran.err
    assert (work.read(".dvconfig"), work.read(".git/config")) == before
    assert not (work.root.parent / "disk").exists()


def test_an_option_can_be_taken_back_from_a_folder(work: Work) -> None:
    work.dv("config", "--local", "remote.origin.profile", "work")
    work.dv("remote", "set", "origin", "--profile", "")
    (remote,) = work.dv("remote", "list", "--json").json["remotes"]
    assert remote["options"]["profile"] is None


def test_a_committed_file_chooses_no_credentials(
    data: Work, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What comes with a clone gets signatures of the default profile, whatever else there is."""
    file = tmp_path / "aws"
    file.write_text(
        "[default]\naws_access_key_id = DEFAULTKEY\naws_secret_access_key = a\n"
        "[admin]\naws_access_key_id = ADMINKEY\naws_secret_access_key = b\n"
    )
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
    with hostile(lambda _: Answer(403)) as server:
        data.dv("remote", "set", "origin", "s3://bucket", "--endpoint-url", server.url)
        data.dv("doctor", "--remote", code=1)
        assert server.asked
        for asked in server.asked:
            assert "Credential=DEFAULTKEY/" in asked.headers["Authorization"]
        server.asked.clear()
        text = data.read(".dvconfig").decode()
        evil = {
            "profile": "admin",
            "proxy": server.url,
            "cabundle": str(file),
            "requesterpays": "true",
            "ssekmskeyid": "theirs",
            "credentialprocess": "touch /tmp/x",
        }
        for field, value in evil.items():
            data.write(".dvconfig", f'{text}[remote "origin"]\n\t{field} = {value}\n')
            ran = data.dv("push", code=3)
            assert f"remote.origin.{field} in .dvconfig" in ran.err
        assert server.asked == []


def test_rename(work: Work) -> None:
    work.dv("remote", "add", "lab", "s3://bucket/prefix", "--profile", "mine")
    work.commit()
    work.dv("config", "core.remote", "lab")
    ran = work.dv("remote", "rename", "lab", "cloud")
    assert ran.out == "remote lab is called cloud now\n"
    assert "next: git commit" in ran.err
    rows = {one["name"]: one for one in work.dv("remote", "list", "--json").json["remotes"]}
    assert set(rows) == {"cloud", "origin"}
    assert rows["cloud"]["default"]
    assert rows["cloud"]["trusted"]
    assert work.git("config", "dv.remote.cloud.profile") == "mine"
    assert "lab" not in work.read(".dvconfig").decode()
    assert "already" in work.dv("remote", "rename", "cloud", "origin", code=2).err
    assert "is not configured" in work.dv("remote", "rename", "lab", "x", code=3).err
    assert "cannot be called" in work.dv("remote", "rename", "cloud", "a b", code=2).err


def test_rename_trusts_nothing(work: Work) -> None:
    work.dv("remote", "add", "lab", "s3://bucket/prefix")
    text = work.read(".dvconfig").decode()
    work.write(".dvconfig", text.replace("s3://bucket/prefix", "s3://other/prefix"))
    for name, new in (("lab", "cloud"), ("cloud", "lab")):
        work.dv("remote", "rename", name, new)
        rows = {one["name"]: one for one in work.dv("remote", "list", "--json").json["remotes"]}
        assert rows[new]["url"] == "s3://other/prefix"
        assert not rows[new]["trusted"]


def test_the_default_is_the_one_that_push_takes(work: Work) -> None:
    work.dv("remote", "add", "other", work.root.parent / "other")
    rows = {
        one["name"]: one["default"] for one in work.dv("remote", "list", "--json").json["remotes"]
    }
    assert rows == {"origin": True, "other": False}


def test_where_a_profile_went_is_said(work: Work) -> None:
    work.dv("remote", "add", "lab", "s3://bucket/prefix")
    ran = work.dv("remote", "set", "lab", "--profile", "mine")
    assert "is in .git/config, for this clone only" in ran.err
    assert "git commit" not in ran.err
    assert ".dvconfig" in work.dv("remote", "set", "lab", "--region", "eu-west-1").err


def test_a_closed_standard_error_hinders_nothing(data: Work) -> None:
    done = subprocess.run(
        ["sh", "-c", '"$0" -m dvtool status 2>&-', sys.executable],
        cwd=data.root,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0
    assert "Clean: 2 targets" in done.stdout
