"""`dvtool.project.config`: precedence, what a committed file may say, and hostile values."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from dvtool.errors import SetupError, UsageError
from dvtool.git import Git
from dvtool.project.config import (
    KEYS,
    Config,
    committed_url_allowed,
    endpoint_is_exposed,
    validate_key,
    validate_remote_name,
    validate_setting,
)

Pairs = list[tuple[str, str]]


def load(
    committed: Pairs | None = None,
    local: Pairs | None = None,
    environ: dict[str, str] | None = None,
) -> Config:
    return Config.load(committed or [], local or [], environ or {})


# Precedence


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
    assert remote.endpoint_url is None
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


def test_every_key_is_described() -> None:
    for key in KEYS:
        assert key.description.endswith("."), key
        assert (key.kind == "choice") == bool(key.choices)
        assert key.name == key.name.lower()


# Remotes


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
    assert origin.endpoint_url == "http://localhost:9000"
    assert origin.region == "eu-central-1"
    assert origin.profile == "work profile"
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
    assert config.remote("My-Data").region == "eu-west-1"
    assert config.remote("scratch").source == "environment"


def test_a_variable_that_could_mean_two_remotes() -> None:
    committed = [("remote.a-b.url", "s3://bucket"), ("remote.a_b.url", "s3://other")]
    assert len(load(committed, environ={"DV_REMOTE_A_B_URL": ""}).remotes()) == 2
    with pytest.raises(SetupError, match="could mean any of"):
        load(committed, environ={"DV_REMOTE_A_B_URL": "s3://third"})


# Values


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("true", True),
        ("Yes", True),
        ("ON", True),
        ("1", True),
        ("10", True),
        ("false", False),
        ("no", False),
        ("off", False),
        ("0", False),
        ("00", False),
        ("", False),
    ],
)
def test_bools(text: str, expected: bool) -> None:
    assert load(local=[("dv.hooks.install", text)]).get("hooks.install") is expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0", 0),
        ("17", 17),
        ("17B", 17),
        ("10k", 10 << 10),
        ("10 MiB", 10 << 20),
        ("10m", 10 << 20),
        ("2G", 2 << 30),
        ("1 tib", 1 << 40),
        ("1 MB", 1_000_000),
        ("3kB", 3_000),
    ],
)
def test_sizes(text: str, expected: int) -> None:
    assert load(local=[("dv.hooks.maxfilesize", text)]).number("hooks.maxfilesize") == expected


@pytest.mark.parametrize(
    ("key", "text", "said"),
    [
        ("hooks.install", "maybe", "neither true nor false"),
        ("hooks.maxfilesize", "", "not a size"),
        ("hooks.maxfilesize", "-1", "not a size"),
        ("hooks.maxfilesize", "1.5g", "not a size"),
        ("hooks.maxfilesize", "5 iB", "not a size"),
        ("hooks.maxfilesize", "5 parsecs", "not a size"),
        ("hooks.maxfilesize", "٣", "not a size"),
        ("hooks.maxfilesize", "9999999999999999999t", "larger than any file"),
        ("core.jobs", "-1", "not a whole number"),
        ("core.jobs", "two", "not a whole number"),
        ("store.keep", "some", "none of: all, unpushed"),
        ("core.repoid", "123", "32 hexadecimal"),
        ("core.repoid", "../" + "0" * 29, "32 hexadecimal"),
        ("core.remote", "../x", "not a name for a remote"),
        ("remote.o.region", "x.evil.example/", "not a region"),
        ("remote.o.endpointurl", "ftp://host", "not of the form"),
        ("remote.o.endpointurl", "https://", "not of the form"),
        ("remote.o.endpointurl", "https://host:port", "not of the form"),
        ("remote.o.endpointurl", "https://[::1", "not of the form"),
        ("remote.o.endpointurl", "https://host/?a=b", "not of the form"),
        ("remote.o.url", "s3://", "not of the form"),
        ("remote.o.url", "s3:///prefix", "not of the form"),
        ("remote.o.url", "s3://bucket/x?versionId=1", "not of the form"),
        ("remote.o.url", "s3://bu cket/", "not of the form"),
        ("remote.o.profile", "a\nb", "control characters"),
        ("store.path", "/a\x1b[31m", "control characters"),
        ("store.path", "/a\u202egpj", "control characters"),
        ("store.path", "/a\udcff", "control characters"),
    ],
)
def test_values_that_are_refused(key: str, text: str, said: str) -> None:
    with pytest.raises(SetupError, match=said) as caught:
        load(local=[(f"dv.{key}", text)])
    assert f"dv.{key} in .git/config" in str(caught.value)
    assert f"git config --unset-all dv.{key}" in (caught.value.hint or "")
    with pytest.raises(UsageError, match=said):
        validate_setting(key, text, committed=False)
    if not text:
        return
    variable = "DV_" + key.upper().replace(".", "_")
    with pytest.raises(SetupError, match=f"{variable} in the environment") as caught:
        load(environ={variable: text})
    assert f"unset {variable}" in (caught.value.hint or "")


@pytest.mark.parametrize(
    "url",
    [
        "s3://AKIA:hunter2@bucket/x",
        "s3://key@bucket",
        "s3://AKIA:hun/ter2@bucket",
        "https://user:hunter2@host/x",
        "S3://user:hunter2@bucket",
    ],
)
def test_credentials_in_a_url_are_refused_everywhere_and_not_repeated(url: str) -> None:
    committed, local = [("remote.o.url", url)], [("dv.remote.o.url", url)]
    for layers in ((committed, None), (None, local)):
        with pytest.raises(SetupError, match="holds credentials") as caught:
            load(*layers)
        assert "hun" not in f"{caught.value} {caught.value.hint}"
    with pytest.raises(SetupError, match="holds credentials"):
        load(environ={"DV_REMOTE_O_URL": url})
    with pytest.raises(SetupError):
        load(local=[("dv.remote.o.endpointurl", url)])
    assert not committed_url_allowed(url)


# What a committed file may say


@pytest.mark.parametrize(
    "key",
    [
        "remote.o.accesskeyid",
        "remote.o.access-key",
        "remote.o.SecretAccessKey",
        "core.token",
        "remote.o.password",
        "remote.o.sessiontoken",
        "aws.secret",
        "remote.o.secret-key",
    ],
)
def test_credentials_are_refused_in_the_committed_file(key: str) -> None:
    with pytest.raises(SetupError, match=r"in \.dvconfig is a credential") as caught:
        load([(key, "hunter2")])
    assert "hunter2" not in f"{caught.value} {caught.value.hint}"
    assert "AWS" in (caught.value.hint or "")


@pytest.mark.parametrize(
    "key",
    [
        "core.editor",
        "core.pager",
        "hooks.command",
        "remote.o.helper",
        "core.sshcommand",
        "alias.x",
        "filter.x.clean",
        "core.hookspath",
        "remote.o.credential-process",
    ],
)
def test_programs_are_refused_in_the_committed_file(key: str) -> None:
    with pytest.raises(SetupError, match="names a program") as caught:
        load([(key, "rm -rf /")])
    assert "git config --file .dvconfig --unset-all" in (caught.value.hint or "")


VALID = {
    "store.keep": "all",
    "remote.*.cabundle": "/etc/ca.pem",
    "remote.*.proxy": "http://proxy:3128",
}


@pytest.mark.parametrize("key", [key.name for key in KEYS if not key.committed])
def test_local_keys_are_refused_in_the_committed_file(key: str) -> None:
    name = key.replace("*", "o")
    with pytest.raises(SetupError, match=f"{name} in .dvconfig is not allowed") as caught:
        load([(name, "1")])
    assert f"dv config --local {name}" in (caught.value.hint or "")
    with pytest.raises(SetupError, match="not allowed"):
        validate_setting(name, VALID.get(key, "1"), committed=True)


REMOTE = [("remote.o.url", "s3://bucket")]


def test_options_of_a_remote() -> None:
    remote = load(REMOTE).remote("o")
    assert (remote.addressing, remote.storage_class, remote.sse) == ("auto", None, None)
    assert (remote.anonymous, remote.requester_pays) == (False, False)
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
    assert (remote.addressing, remote.storage_class, remote.sse) == ("virtual", "STANDARD_IA", None)
    assert (remote.anonymous, remote.requester_pays) == (True, True)
    assert (remote.sse_kms_key_id, remote.ca_bundle) == ("key-1", "~/ca.pem")
    assert (remote.proxy, remote.endpoint_source) == ("http://proxy:3128", ".dvconfig")


@pytest.mark.parametrize("name", ["GLACIER", "DEEP_ARCHIVE", "ARCHIVE"])
def test_archives_are_refused(name: str) -> None:
    with pytest.raises(SetupError, match="is an archive, from which reading takes hours"):
        load([*REMOTE, ("remote.o.storageclass", name)])


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("storageclass", "standard ia"),
        ("addressing", "host"),
        ("sse", "rot13"),
        ("cabundle", "ca.pem"),
        ("proxy", "proxy:3128"),
        ("proxy", "http://user:secret@proxy:3128"),
        ("proxy", "socks5://proxy:1080"),
        ("anonymous", "perhaps"),
    ],
)
def test_options_that_make_no_sense(key: str, text: str) -> None:
    with pytest.raises(SetupError, match=f"dv.remote.o.{key} in .git/config") as caught:
        load(REMOTE, [(f"dv.remote.o.{key}", text)])
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "exposed"),
    [
        ("https://minio.example.org", False),
        ("http://127.0.0.1:9000", False),
        ("http://127.9.9.9", False),
        ("http://[::1]:9000", False),
        ("http://localhost:9000", False),
        ("HTTP://minio.example.org", True),
        ("http://10.0.0.1:9000", True),
        ("http://169.254.169.254", True),
        ("http://127.0.0.1.example.org", True),
        ("http://localhost.example.org", True),
        ("http://0x7f000001", True),
    ],
)
def test_endpoints_that_pass_a_network_in_the_clear(url: str, exposed: bool) -> None:
    assert endpoint_is_exposed(url) is exposed


ALLOWED_URLS = [
    "s3://bucket",
    "s3://my.bucket-1/pre/fix/",
    "s3://bucket/with space/a@b",
    "remote",
    "./shared/remote/",
    "a/.b/..c/d..",
    "dir/with:colon",
]
REFUSED_URLS = [
    "",
    ".",
    "./",
    "/",
    "/mnt/data",
    "//host/share",
    "..",
    "../sibling",
    "a/../../b",
    "a/b/..",
    "~/data",
    "~root/data",
    "file:///mnt/data",
    "file://data",
    "file:data",
    "https://example.org/x",
    "S3://bucket",
    "s3://",
    "s3:/bucket",
    "s3:bucket",
    "ssh://host/x",
    "host:path",
    "C:/data",
    "C:\\data",
    "..\\data",
    "\\\\host\\share",
    ".git",
    ".git/dv",
    "a/.GIT/hooks",
    "./.git./hooks",
    "git~1/hooks",
    "a\nb",
    "a\0b",
    "s3://bucket/\x1b[31m",
]


@pytest.mark.parametrize("url", ALLOWED_URLS)
def test_urls_allowed_in_the_committed_file(url: str, tmp_path: Path) -> None:
    assert committed_url_allowed(url)
    assert committed_url_allowed(url, str(tmp_path))
    assert load([("remote.o.url", url)]).remote("o").url == url
    assert validate_setting("remote.o.URL", url, committed=True) == "remote.o.url"


@pytest.mark.parametrize("url", REFUSED_URLS)
def test_urls_refused_in_the_committed_file(url: str) -> None:
    assert not committed_url_allowed(url)
    if url:
        with pytest.raises(SetupError, match=r"remote\.o\.url in \.dvconfig"):
            load([("remote.o.url", url)])


def test_a_url_that_leaves_through_a_symlink(tmp_path: Path) -> None:
    repo = tmp_path / "repo"
    (repo / ".git").mkdir(parents=True)
    (tmp_path / "outside").mkdir()
    (repo / "out").symlink_to(tmp_path / "outside")
    (repo / "up").symlink_to("..")
    (repo / "hidden").symlink_to(".git")
    (repo / "self").symlink_to(".")
    (repo / "inside").mkdir()
    (repo / "alias").symlink_to("inside")
    for url in ("out", "out/deep/er", "up", "up/repo-2", "hidden", "hidden/hooks", "self"):
        assert committed_url_allowed(url)
        assert not committed_url_allowed(url, str(repo)), url
    for url in ("alias/x", "inside", "new/folder", "self/inside"):
        assert committed_url_allowed(url, str(repo)), url
    (tmp_path / "link-to-repo").symlink_to(repo)
    assert committed_url_allowed("inside", str(tmp_path / "link-to-repo"))


def test_names_of_remotes_in_files_are_checked() -> None:
    for name in ("a b", "-x", "a/b", "\x1b[31m", "x" * 65, "*"):
        with pytest.raises(SetupError, match="not a name for a remote") as caught:
            load([(f"remote.{name}.url", "s3://bucket")])
        assert "\x1b" not in f"{caught.value} {caught.value.hint}"


# Names


@pytest.mark.parametrize("name", ["origin", "a", "A-b_c.d", "0", "x" * 64])
def test_names_for_remotes(name: str) -> None:
    assert validate_remote_name(name) == name
    assert validate_key(f"remote.{name}.url") == f"remote.{name}.url"


@pytest.mark.parametrize("name", ["", "-a", ".a", "a b", "a/b", "a\n", "é", "x" * 65, "*"])
def test_names_refused_for_remotes(name: str) -> None:
    with pytest.raises(UsageError, match="cannot be called"):
        validate_remote_name(name)
    with pytest.raises(UsageError):
        validate_key(f"remote.{name}.url")


@pytest.mark.parametrize("key", ["", "core", "core.", ".remote", "remote.url", "core.x.remote"])
def test_unknown_keys(key: str) -> None:
    with pytest.raises(UsageError, match="there is no setting"):
        validate_key(key)
    with pytest.raises(UsageError):
        load().get(key)
    with pytest.raises(UsageError):
        validate_setting(key, "x", committed=True)


def test_an_unknown_key_close_to_a_known_one() -> None:
    with pytest.raises(UsageError) as caught:
        validate_key("hooks.autofech")
    assert "hooks.autofetch" in (caught.value.hint or "")
    assert validate_setting("Hooks.AutoFetch", "on", committed=True) == "hooks.autofetch"


# With git's own reading


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
