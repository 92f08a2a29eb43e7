"""The workspace: no link leads a read, write or removal outside, and walks see what git sees."""

from __future__ import annotations

import os
import resource
import shutil
import socket
import stat
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dvtool.errors import DvError, InputError, UnsavedError
from dvtool.system.atomic import TEMP_PREFIX, temp_name
from dvtool.workspace import files as workspaces
from dvtool.workspace.files import OPEN_FOLDERS_MAX, Folder, Workspace, refuse_faults


def bytes_of(text: str) -> Callable[[int], None]:
    def fill(fd: int) -> None:
        os.write(fd, text.encode())

    return fill


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "root"
    folder.mkdir()
    return folder


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A folder beside the worktree with a file in it, which must stay as it is."""
    folder = tmp_path / "outside"
    (folder / "sub").mkdir(parents=True)
    (folder / "file").write_text("theirs")
    (folder / "sub" / "file").write_text("theirs")
    return folder


@pytest.fixture
def workspace(root: Path) -> Iterator[Workspace]:
    with Workspace(str(root)) as workspace:
        yield workspace


def content(folder: Path) -> dict[str, str]:
    return {str(p.relative_to(folder)): p.read_text() for p in folder.rglob("*") if p.is_file()}


def no_temp_files(folder: Path) -> bool:
    return not list(folder.rglob(TEMP_PREFIX + "*"))


# --- links are never followed ---------------------------------------------------------------

ACTIONS: dict[str, Callable[[Workspace, str], object]] = {
    "write_file": lambda w, path: w.write_file(path, bytes_of("ours"), executable=False),
    "write_link": lambda w, path: w.write_link(path, "ours"),
    "make_folder": lambda w, path: w.make_folder(path + "/new"),
    "set_executable": lambda w, path: w.set_executable(path, True),
    "open_file": lambda w, path: w.open_file(path),
    "remove": lambda w, path: w.remove(path),
    "remove_empty_folder": lambda w, path: w.remove_empty_folder(path),
}


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("path", ["link/file", "link/sub/file", "a/link/file", "a/link/sub/new"])
def test_a_link_on_the_way_stops_everything(
    workspace: Workspace, root: Path, outside: Path, action: str, path: str
) -> None:
    (root / "a").mkdir()
    (root / "link").symlink_to(outside)
    (root / "a" / "link").symlink_to(outside)
    before = content(outside)
    modes = (outside / "file").stat().st_mode
    with pytest.raises(UnsavedError, match="link"):
        ACTIONS[action](workspace, path)
    assert content(outside) == before
    assert (outside / "file").stat().st_mode == modes
    assert sorted(os.listdir(outside)) == ["file", "sub"]
    assert no_temp_files(outside.parent)


def test_what_lies_behind_a_link_is_not_there_for_readers(
    workspace: Workspace, root: Path, outside: Path
) -> None:
    (root / "link").symlink_to(outside)
    assert workspace.stat("link/file") is None
    assert workspace.read_link("link/file") is None
    found = workspace.stat("link")
    assert found is not None
    assert stat.S_ISLNK(found.st_mode)
    with pytest.raises(OSError, match="link"):
        workspace.open_file("link")


def test_a_link_put_in_place_of_a_folder_in_use_is_not_followed(
    workspace: Workspace, root: Path, outside: Path
) -> None:
    """The folder is held open from the first write; the second must notice the link."""
    workspace.write_file("data/a/1", bytes_of("one"), executable=False)
    shutil.move(root / "data", root.parent / "moved")
    (root / "data").symlink_to(root.parent / "moved")
    with pytest.raises(UnsavedError):
        workspace.write_file("data/a/1", bytes_of("two"), executable=False)
    assert content(root.parent / "moved") == {"a/1": "one"}


def test_writing_at_a_link_replaces_the_link(
    workspace: Workspace, root: Path, outside: Path
) -> None:
    (root / "link").symlink_to(outside / "file")
    (root / "other").symlink_to(outside)
    workspace.write_file("link", bytes_of("ours"), executable=False)
    workspace.write_link("other", "link")
    assert (root / "link").read_text() == "ours"
    assert not (root / "link").is_symlink()
    assert os.readlink(root / "other") == "link"
    workspace.remove("other")
    assert content(outside) == {"file": "theirs", "sub/file": "theirs"}


def test_removing_a_link_leaves_what_it_points_to(
    workspace: Workspace, root: Path, outside: Path
) -> None:
    (root / "link").symlink_to(outside)
    assert not workspace.remove_empty_folder("link")
    workspace.remove("link")
    assert not (root / "link").is_symlink()
    assert content(outside) == {"file": "theirs", "sub/file": "theirs"}


def test_a_file_on_the_way_is_in_the_way(workspace: Workspace, root: Path) -> None:
    (root / "file").write_text("mine")
    with pytest.raises(UnsavedError, match="file is a symlink or a file"):
        workspace.write_file("file/below", bytes_of("ours"), executable=False)
    assert workspace.stat("file/below") is None
    assert (root / "file").read_text() == "mine"


# --- writing --------------------------------------------------------------------------------


@pytest.mark.parametrize("executable", [False, True])
def test_write_file_makes_folders_and_sets_the_mode(
    workspace: Workspace, root: Path, executable: bool
) -> None:
    found = workspace.write_file("a/b/c", bytes_of("text"), executable=executable)
    assert (root / "a/b/c").read_text() == "text"
    assert bool((root / "a/b/c").stat().st_mode & stat.S_IXUSR) == executable
    assert os.path.samestat(found, (root / "a/b/c").stat())
    again = workspace.set_executable("a/b/c", not executable)
    assert bool(again.st_mode & stat.S_IXUSR) != executable


def test_set_executable_gives_it_to_those_who_may_read(workspace: Workspace, root: Path) -> None:
    (root / "file").touch()
    (root / "file").chmod(0o640)
    assert stat.S_IMODE(workspace.set_executable("file", True).st_mode) == 0o750
    assert stat.S_IMODE(workspace.set_executable("file", False).st_mode) == 0o640


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_when_fill_raises_the_old_file_stays(
    workspace: Workspace, root: Path, error: type[BaseException]
) -> None:
    (root / "a").mkdir()
    (root / "a/file").write_text("old")

    def fill(fd: int) -> None:
        os.write(fd, b"half")
        raise error

    with pytest.raises(error):
        workspace.write_file("a/file", fill, executable=False)
    with pytest.raises(error):
        workspace.write_file("a/new", fill, executable=False)
    assert content(root) == {"a/file": "old"}
    assert no_temp_files(root)


def test_an_empty_folder_gives_way_to_a_file_and_a_full_one_does_not(
    workspace: Workspace, root: Path
) -> None:
    (root / "empty").mkdir()
    (root / "full").mkdir()
    (root / "full/file").write_text("mine")
    workspace.write_file("empty", bytes_of("x"), executable=False)
    for write in (ACTIONS["write_file"], ACTIONS["write_link"]):
        with pytest.raises(UnsavedError, match="full"):
            write(workspace, "full")
    assert content(root) == {"empty": "x", "full/file": "mine"}
    assert no_temp_files(root)


def test_removing_what_is_gone_is_fine(workspace: Workspace, root: Path) -> None:
    workspace.remove("nothing")
    workspace.remove("no/folder/nothing")
    assert workspace.remove_empty_folder("nothing")
    workspace.make_folder("a/b")
    workspace.make_folder("a/b")
    assert not workspace.remove_empty_folder("a")
    assert workspace.remove_empty_folder("a/b")
    assert workspace.remove_empty_folder("a")
    assert os.listdir(root) == []


# --- folders held open ----------------------------------------------------------------------


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="counts descriptors in /proc")
@pytest.mark.parametrize("shape", ["a/{}", "{}", "{0}/{0}/{0}", "a/b/c/d/{}/e"])
def test_few_folders_are_held_open_however_many_are_written(
    workspace: Workspace, root: Path, shape: str
) -> None:
    before = open_descriptors()
    for round_ in range(2):
        for number in range(3 * OPEN_FOLDERS_MAX):
            path = shape.format(number) + "/file"
            workspace.write_file(path, bytes_of(f"{path} {round_}"), executable=False)
            assert open_descriptors() <= before + OPEN_FOLDERS_MAX
    found = content(root)
    assert len(found) == 3 * OPEN_FOLDERS_MAX
    assert all(text == f"{path} 1" for path, text in found.items())
    workspace.close()
    assert open_descriptors() == before


def test_a_path_deeper_than_the_folders_held_open(workspace: Workspace, root: Path) -> None:
    path = "/".join(["d"] * (2 * OPEN_FOLDERS_MAX)) + "/file"
    for text in ("one", "two"):
        workspace.write_file(path, bytes_of(text), executable=False)
        assert (root / path).read_text() == text


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="counts descriptors in /proc")
def test_descriptors_are_not_the_limit(workspace: Workspace, root: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (open_descriptors() + OPEN_FOLDERS_MAX + 8, hard))
    try:
        for number in range(4 * OPEN_FOLDERS_MAX):
            workspace.write_file(f"a/{number}/x", bytes_of("x"), executable=False)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_folder_removed_and_made_again_is_found(workspace: Workspace, root: Path) -> None:
    for number in range(3):
        workspace.write_file("a/b/c", bytes_of(str(number)), executable=False)
        assert (root / "a/b/c").read_text() == str(number)
        shutil.rmtree(root / "a")
        assert workspace.stat("a/b/c") is None
        (root / "a/b").mkdir(parents=True)
        (root / "a/b/c").write_text("by hand")
        with open(workspace.open_file("a/b/c"), encoding="utf-8") as file:
            assert file.read() == "by hand"
        shutil.rmtree(root / "a")


def test_a_folder_moved_away_is_not_written_to(workspace: Workspace, root: Path) -> None:
    """A backup made with `mv data old` must survive the checkout that follows."""
    workspace.write_file("data/sub/file", bytes_of("old"), executable=False)
    (root / "data").rename(root / "old")
    workspace.write_file("data/sub/file", bytes_of("new"), executable=False)
    workspace.remove("old/nothing")
    assert content(root) == {"old/sub/file": "old", "data/sub/file": "new"}
    (root / "data/sub").rename(root / "elsewhere")
    workspace.remove("data/sub/file")
    assert content(root) == {"old/sub/file": "old", "elsewhere/file": "new"}


def test_a_folder_exchanged_while_a_file_in_it_is_written(workspace: Workspace, root: Path) -> None:
    """The file goes where it was begun; what is asked meanwhile is asked of what is there."""
    (root / "data").mkdir()
    (root / "other").mkdir()
    (root / "other/here").write_text("other")

    def fill(fd: int) -> None:
        (root / "data").rename(root / "old")
        (root / "other").rename(root / "data")
        assert workspace.stat("data/here") is not None
        os.write(fd, b"new")

    workspace.write_file("data/file", fill, executable=False)
    assert content(root) == {"old/file": "new", "data/here": "other"}


# --- walking --------------------------------------------------------------------------------


def walked(workspace: Workspace, path: str = "", **options: bool) -> dict[str, Folder]:
    return {folder.path: folder for folder in workspace.walk(path, **options)}


def faults(workspace: Workspace, path: str = "", **options: bool) -> dict[str, str]:
    return {path: why for folder in workspace.walk(path, **options) for path, why in folder.faults}


def files(workspace: Workspace, path: str = "", **options: bool) -> set[str]:
    return {
        os.path.join(folder.path, name)
        for folder in workspace.walk(path, **options)
        for name in folder.files
    }


def test_a_walk_sees_files_links_and_empty_folders(
    workspace: Workspace, root: Path, outside: Path
) -> None:
    (root / "t/a/b").mkdir(parents=True)
    (root / "t/empty").mkdir()
    (root / "t/a/file").write_text("x")
    (root / "t/a/link").symlink_to("file")
    (root / "t/out").symlink_to(outside)
    (root / "t/dangling").symlink_to("nowhere")
    (root / "t/a" / temp_name()).write_text("unfinished")
    found = walked(workspace, "t")
    assert list(found) == ["", "a", "a/b", "empty"]
    assert found["a"].files.keys() == {"file"}
    assert found["a"].links == {"link": "file"}
    assert found[""].links == {"out": str(outside), "dangling": "nowhere"}
    assert found["empty"].empty
    assert found["a/b"].empty
    assert not found["a"].empty


def test_what_cannot_be_versioned_is_named(workspace: Workspace, root: Path) -> None:
    (root / "t/sub").mkdir(parents=True)
    os.mkfifo(root / "t/sub/pipe")
    short = os.path.relpath(root / "t/sub/socket")  # the path of a socket may have 107 bytes
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(short if len(short) < 100 else str(root / "t/sub/socket"))
        os.mkdir(os.fsencode(root) + b"/t/bad \xff")
        Path(os.fsdecode(os.fsencode(root) + b"/t/sub/name \xfe")).touch()
        found = faults(workspace, "t")
    assert found == {
        "sub/pipe": "is a named pipe, not a file",
        "sub/socket": "is a socket, not a file",
        "bad \udcff": "has a name that is not valid UTF-8",
        "sub/name \udcfe": "has a name that is not valid UTF-8",
    }
    with pytest.raises(InputError) as caught:
        refuse_faults(list(found.items()), "t")
    assert "t/sub/pipe is a named pipe" in str(caught.value)
    assert "\\udcff" in str(caught.value)
    str(caught.value).encode()


def test_a_device_is_named(workspace: Workspace, root: Path) -> None:
    try:
        os.mknod(root / "null", stat.S_IFCHR | 0o600, os.makedev(1, 3))
    except PermissionError:
        pytest.skip("only root may make devices")
    assert faults(workspace) == {"null": "is a device, not a file"}


def test_a_folder_that_cannot_be_read_is_a_fault(root: Path) -> None:
    (root / "t/closed").mkdir(parents=True)
    (root / "t/closed").chmod(0)
    try:
        if os.geteuid():
            with Workspace(str(root)) as workspace:
                found = faults(workspace, "t")
        else:
            found = as_nobody(root)
    finally:
        (root / "t/closed").chmod(0o700)
    assert found == {"closed": "cannot be read (Permission denied)"}


def as_nobody(root: Path) -> dict[str, str]:
    """Walk in a child process without root's rights, for which no folder is closed."""
    for folder in [root, *root.parents]:
        if not folder.stat().st_mode & stat.S_IXOTH:
            folder.chmod(folder.stat().st_mode | stat.S_IXOTH | stat.S_IROTH)
    end, start = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgid(65_534)
            os.setuid(65_534)
            with Workspace(str(root)) as workspace:
                os.write(start, repr(faults(workspace, "t")).encode())
        finally:
            os._exit(0)
    os.close(start)
    os.waitpid(child, 0)
    with open(end, encoding="utf-8") as file:
        found: dict[str, str] = eval(file.read())
    return found


def test_a_folder_that_vanishes_during_the_walk_is_a_fault(
    workspace: Workspace, root: Path
) -> None:
    (root / "t/a").mkdir(parents=True)
    walk = workspace.walk("t")
    assert next(walk).folders == ["a"]
    (root / "t/a").rmdir()
    (gone,) = walk
    assert gone.faults == [("a", "cannot be read (No such file or directory)")]


def test_dereferencing_takes_links_for_what_they_point_to(
    workspace: Workspace, root: Path, outside: Path
) -> None:
    (root / "t/real").mkdir(parents=True)
    (root / "t/real/x").write_text("x")
    (root / "t/alias").symlink_to("real")
    (root / "t/again").symlink_to("real")
    (root / "t/out").symlink_to(outside)
    (root / "t/file").symlink_to(outside / "file")
    assert files(workspace, "t", follow=lambda *_: True) == {
        "real/x",
        "alias/x",
        "again/x",
        "out/file",
        "out/sub/file",
        "file",
    }
    assert not faults(workspace, "t", follow=lambda *_: True)


def test_dereferencing_names_loops_and_links_to_nothing(workspace: Workspace, root: Path) -> None:
    (root / "t/a").mkdir(parents=True)
    (root / "t/a/up").symlink_to("..")
    (root / "t/self").symlink_to("self")
    (root / "t/nothing").symlink_to("nowhere")
    found = faults(workspace, "t", follow=lambda *_: True)
    assert found.keys() == {"a/up", "self", "nothing"}
    assert found["a/up"] == "is a symlink to a folder it lies in"
    assert found["nothing"] == "is a symlink to nothing"


# --- .dvignore ------------------------------------------------------------------------------

PLACES = ["", "a", "a/b", "c"]
NAMES = ["a", "b", "ab", "c", "x.txt", "[a]"]
PATTERNS = [
    *["a", "b", "a/", "/a", "a/b", "b/", "a/b/", "/a/b", "x.txt", "c/x.txt"],
    *["*", "*b", "?", "[ab]", "[!a]", "*.txt", "/*", "*/", "a*", "\\[a]", "[[]a]"],
    *["**", "**/", "**/b", "a/**", "a/**/b", "**/a/**", "/**", "a**b", "**/*.txt"],
    *["# a", "\\#", "", " ", "a ", "a\\ ", "b\r", "/", "//", "a//b"],
]
lines = st.tuples(st.sampled_from(["", "", "!"]), st.sampled_from(PATTERNS)).map("".join)
rule_files = st.dictionaries(
    st.sampled_from(PLACES), st.lists(lines, min_size=1, max_size=4), min_size=1, max_size=3
)


@pytest.fixture(scope="module")
def ignore_tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A git repository with the same names at every depth, as folders and as files."""
    root = tmp_path_factory.mktemp("ignore")
    subprocess.run(["git", "init", "-q", root], check=True)
    for one in NAMES[:4]:
        for two in NAMES:
            if two in ("x.txt", "c"):
                (root / one).mkdir(exist_ok=True)
                (root / one / two).touch()
                continue
            (root / one / two).mkdir(parents=True)
            for three in NAMES:
                (root / one / two / three).touch()
    (root / "x.txt").touch()
    return root


@settings(
    max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(rules=rule_files)
def test_rules_mean_what_they_mean_to_git(ignore_tree: Path, rules: dict[str, list[str]]) -> None:
    for place in PLACES:
        for name in (".dvignore", ".gitignore"):
            path = ignore_tree / place / name
            path.unlink(missing_ok=True)
            if place in rules:
                path.write_bytes("\n".join(rules[place]).encode())
    command = ["git", "ls-files", "--others", "--exclude-standard", "-z"]
    done = subprocess.run(command, cwd=ignore_tree, capture_output=True, check=True)
    expected = {path for path in done.stdout.decode().split("\0") if path}
    with Workspace(str(ignore_tree)) as workspace:
        found = {path for path in files(workspace) if not path.startswith(".git/")}
        below = {"a/b/" + path for path in files(workspace, "a/b")}
    assert without_rules(found) == without_rules(expected)
    assert without_rules(below) == {p for p in without_rules(expected) if p.startswith("a/b/")}


def without_rules(paths: set[str]) -> set[str]:
    return {path for path in paths if not path.endswith("ignore")}


def test_rules_above_the_target_apply_to_it(workspace: Workspace, root: Path) -> None:
    (root / "data/images/cats").mkdir(parents=True)
    for name in ("1.jpg", "1.tmp", "keep.tmp", "cats/2.jpg", "cats/2.tmp", "cats/.DS_Store"):
        (root / "data/images" / name).touch()
    (root / ".dvignore").write_text("*.tmp\n.DS_Store\n")
    (root / "data/.dvignore").write_text("/images/cats/2.jpg\n")
    (root / "data/images/.dvignore").write_text("!keep.tmp\n")
    assert files(workspace, "data/images") == {"1.jpg", "keep.tmp", ".dvignore"}


def test_what_is_ignored_is_no_fault(workspace: Workspace, root: Path) -> None:
    os.mkfifo(root / "pipe")
    Path(os.fsdecode(os.fsencode(root) + b"/bad \xff")).touch()
    (root / ".dvignore").write_bytes(b"pipe\nbad \xff\n")
    assert faults(workspace) == {}


def test_a_dvignore_need_not_be_utf8_and_may_have_a_mark(workspace: Workspace, root: Path) -> None:
    for name in ("a", "b"):
        (root / name).touch()
    (root / ".dvignore").write_bytes(b"\xef\xbb\xbfa\n# caf\xe9\n")
    assert files(workspace) == {"b", ".dvignore"}


def test_a_pattern_that_is_none_is_refused_by_its_file(workspace: Workspace, root: Path) -> None:
    (root / "sub").mkdir()
    (root / "sub/.dvignore").write_text("fine\nbroken\\\n")
    with pytest.raises(DvError, match=r"sub/\.dvignore"):
        files(workspace)


def test_a_folder_called_dvignore_has_no_rules(workspace: Workspace, root: Path) -> None:
    (root / ".dvignore").mkdir()
    (root / "a").touch()
    assert files(workspace) == {"a"}


# --- what comes with a repository from anybody ----------------------------------------------


@pytest.mark.parametrize("folder", ["", "t", "t/sub"])
def test_an_ignore_file_that_is_a_link_or_a_pipe_is_refused(
    workspace: Workspace, root: Path, outside: Path, folder: str
) -> None:
    (root / "t/sub").mkdir(parents=True)
    place = root / folder / ".dvignore"
    place.symlink_to(outside / "file")
    with pytest.raises(InputError, match="dvignore cannot be read: it is a symlink"):
        list(workspace.walk("t"))
    place.unlink()
    os.mkfifo(place)
    with pytest.raises(InputError, match="is a named pipe"):
        list(workspace.walk("t"))
    place.unlink()
    place.write_bytes(b"#" * (1 << 20) + b"\n")
    with pytest.raises(InputError, match="more than"):
        list(workspace.walk("t"))


def test_rules_that_could_match_in_countless_ways_take_no_time(
    workspace: Workspace, root: Path
) -> None:
    """As regular expressions are used as a rule, these would run for years."""
    folder = root / "t" / "/".join("a" * 60)
    folder.mkdir(parents=True)
    (folder / ("a" * 250)).touch()
    (folder / ("a" * 200 + "b")).touch()
    (root / ".dvignore").write_text("**/a/" * 30 + "b\n" + "*a" * 40 + "b\n")
    assert {name.rpartition("/")[2] for name in files(workspace, "t")} == {"a" * 250}


def test_a_folder_replaced_by_a_link_during_a_walk_is_not_followed(
    workspace: Workspace, root: Path, outside: Path
) -> None:
    (root / "t/a/sub").mkdir(parents=True)
    (root / "t/a/file").write_text("ours")
    walk = workspace.walk("t")
    assert next(walk).folders == ["a"]
    shutil.move(root / "t/a", root / "moved")
    (root / "t/a").symlink_to(outside)
    assert [folder.faults for folder in walk] == [
        [("a", "cannot be read (a symlink or a file is where a folder on the way should be)")]
    ]


def test_a_file_replaced_by_a_folder_during_a_walk_is_no_file(
    workspace: Workspace, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (root / "t").mkdir()
    (root / "t/f").write_text("x")
    is_temp_name = workspaces.is_temp_name

    def meanwhile(name: str) -> bool:
        if name == "f":
            (root / "t/f").unlink()
            (root / "t/f").mkdir()
        return is_temp_name(name)

    monkeypatch.setattr(workspaces, "is_temp_name", meanwhile)
    assert faults(workspace, "t") == {"f": "was replaced while it was looked at"}


@pytest.mark.parametrize(
    "path",
    ["../x", "a/../x", "./x", "a/./x", ".git/x", ".GIT/hooks/x", "a/.git", "git~1/x", ".git"],
)
@pytest.mark.parametrize("action", ["write_file", "write_link", "make_folder"])
def test_no_write_leads_out_by_its_name(
    workspace: Workspace, root: Path, action: str, path: str
) -> None:
    """Manifests with such paths are refused long before; this is the last line."""
    (root / "a").mkdir()
    (root / ".git").mkdir()
    with pytest.raises(InputError):
        ACTIONS[action](workspace, path)
    assert sorted(os.listdir(root)) == [".git", "a"]
    assert not os.listdir(root / ".git")
    assert os.listdir(root.parent) == ["root"]


# --- hard links, unfinished files, renames --------------------------------------------------


def test_the_other_names_of_a_file_keep_their_mode(
    workspace: Workspace, root: Path, outside: Path
) -> None:
    os.link(outside / "file", root / "file")
    found = workspace.set_executable("file", True)
    assert found.st_mode & 0o111
    assert (root / "file").read_text() == "theirs"
    assert not (outside / "file").stat().st_mode & 0o111
    assert workspace.set_executable("file", True).st_ino == found.st_ino
    workspace.write_file("file", bytes_of("ours"), executable=False)
    assert content(outside) == {"file": "theirs", "sub/file": "theirs"}


def test_unfinished_files_are_swept_once_they_are_old(workspace: Workspace, root: Path) -> None:
    (root / "t").mkdir()
    old, young, own = temp_name(), temp_name(), TEMP_PREFIX + "notes"
    for name in (old, young, own):
        (root / "t" / name).write_text("half")
    for name in (old, own):
        os.utime(root / "t" / name, (1, 1))
    (folder,) = workspace.walk("t")
    assert sorted(folder.unfinished) == sorted([old, young])
    assert folder.files.keys() == {own}
    workspace.sweep(f"t/{name}" for name in (old, young, own))
    assert sorted(os.listdir(root / "t")) == sorted([young, own])
    os.utime(root / "t" / young, (1, 1))
    workspace.sweep_beside("t/x")
    assert os.listdir(root / "t") == [own]


def test_a_rename_follows_no_link(workspace: Workspace, root: Path, outside: Path) -> None:
    (root / "a").mkdir()
    (root / "a/f").write_text("ours")
    (root / "link").symlink_to(outside)
    workspace.rename("a/f", "b/c/f")
    assert content(root / "b") == {"c/f": "ours"}
    for source, destination in (("b/c/f", "link/f"), ("link/file", "f")):
        with pytest.raises(UnsavedError, match="link"):
            workspace.rename(source, destination)
    workspace.rename("b", "d")
    assert content(root / "d") == {"c/f": "ours"}
    assert content(outside) == {"file": "theirs", "sub/file": "theirs"}
