"""Who may import whom: the rooms of the package in order, for the test and for docs/design.md.

`python -m tests.layers` writes the tree and the table of docs/design.md anew.
"""

from __future__ import annotations

import ast
import textwrap
from functools import cache
from pathlib import Path
from typing import NamedTuple

PROJECT = Path(__file__).parent.parent
PACKAGE = PROJECT / "dvtool"
DESIGN = PROJECT / "docs" / "design.md"
BEGIN, END = "<!-- rooms: begin -->", "<!-- rooms: end -->"


class Room(NamedTuple):
    """A part of the package: what it is for, and the rooms from which its modules may import."""

    name: str
    purpose: str
    above: tuple[str, ...]


BASE = ("errors", "system")
STORED = (*BASE, "format")
REMOTES = ("remotes.transports", "remotes.origins", "remotes")
OPENED = (*STORED, "git", "store", "workspace", *REMOTES, "jobs")
PROJECTS = (*OPENED, "project")
VERBS = (*PROJECTS, "snapshots")
FACES = (*VERBS, "serve", "verbs", "hooks", "reports")

ROOMS = (
    Room("errors", "Every error that a user should read, with its exit code and next step.", ()),
    Room(
        "system",
        "What the standard library lacks: durable files, bounded threads, worker processes, "
        "progress, lazy imports, notes for a log, stats of files, renames that replace "
        "nothing, writes through mappings.",
        ("errors",),
    ),
    Room(
        "format",
        "The bytes of format 1, and what paths and globs mean in them. No git, and no disk but for "
        "the files that `packing` fills.",
        BASE,
    ),
    Room("git", "One git repository, asked and changed by the git program.", STORED),
    Room(
        "remotes.transports",
        "Kinds of places that hold objects under keys, behind one interface.",
        STORED,
    ),
    Room(
        "remotes.origins",
        "Places that data comes from: listed and read, never written.",
        (*STORED, "remotes.transports"),
    ),
    Room("store", "Packs, shards and their index on this disk.", STORED),
    Room(
        "workspace",
        "The user's files: walking, reading and writing them, and what is known unread.",
        STORED,
    ),
    Room(
        "remotes",
        "What a remote holds, over any transport, and the proof that it does.",
        (*STORED, "store", "remotes.transports", "remotes.origins"),
    ),
    Room(
        "jobs",
        "Batches of work and the engines that run them: files into packs, packs into files.",
        (*STORED, "store", "workspace", *REMOTES),
    ),
    Room(
        "project",
        "The parts of one opened repository: settings, locks, arguments, and which manifests "
        "anyone needs.",
        OPENED,
    ),
    Room(
        "snapshots",
        "The data of a commit, read without a checkout: its paths, and ranges of its contents.",
        PROJECTS,
    ),
    Room(
        "stream",
        "Samples of a commit for training, in an order that can be taken up anywhere.",
        (*PROJECTS, "snapshots"),
    ),
    Room(
        "filesystem",
        "The data of commits for fsspec and universal_pathlib.",
        (*PROJECTS, "snapshots"),
    ),
    Room(
        "serve",
        "The data of commits over S3's protocol: requests, responses, the server below them.",
        (*PROJECTS, "snapshots"),
    ),
    Room("verbs", "What a user can do: one module or folder a verb.", VERBS),
    Room("hooks", "What git runs, and putting it in place.", (*VERBS, "verbs")),
    Room(
        "reports",
        "Changes of the data as a person looks at them: rows of tables, pictures, plots.",
        (*VERBS, "verbs"),
    ),
    Room(
        "repo",
        "The facade: one method a verb, and parts: imports, plans, remotes, reports, runs, sparse.",
        FACES,
    ),
    Room("cli", "The command: a module a verb; it alone prints.", (*FACES, "repo")),
)

VERB_ORDER = (
    ("cache", "diff", "log", "describe", "fetch"),
    ("read", "add", "status", "checkout", "push", "drop", "edit", "copy", "export"),
    ("resolve",),
    ("imports", "gc", "fsck", "clone", "overlap", "doctor", "record", "sparse"),
    ("remotes", "plans"),
)
"""A verb imports from the lines above its own, and within its line from none."""

TREE_WIDTH = 98


@cache
def parsed(path: Path) -> ast.Module:
    """Return the tree of a file of Python, which all tests of the code read once."""
    return ast.parse(path.read_text(encoding="utf-8"))


@cache
def nodes_in(path: Path) -> list[ast.AST]:
    """Return all nodes of a file: to walk the trees is most of the time of such tests."""
    return list(ast.walk(parsed(path)))


def room_of(module: str) -> Room | None:
    """Return the room of a module, by the longest name that fits; None for the package itself."""
    fitting = [room for room in ROOMS if module == room.name or module.startswith(room.name + ".")]
    return max(fitting, key=lambda room: len(room.name), default=None)


def tree() -> str:
    """Return the rooms as a tree, each with its sentence and the names of its modules."""
    lines = ["dvtool/"]
    for room in ROOMS:
        is_module = (PACKAGE / f"{room.name}.py").is_file()
        folder = room.name.replace(".", "/")
        heading = f"  {room.name + '.py' if is_module else folder + '/':<21}"
        lines += textwrap.wrap(heading + room.purpose, TREE_WIDTH, subsequent_indent=" " * 23)
        if not is_module:
            modules = textwrap.wrap("  ".join(_modules(folder)), TREE_WIDTH - 6)
            lines.extend(f"      {line}" for line in modules)
    return "\n".join(["```text", *lines, "```"])


def _modules(folder: str) -> list[str]:
    rooms = {room.name.replace(".", "/") for room in ROOMS}
    inner = {name for name in rooms if name.startswith(folder + "/")}
    names = []
    for path in sorted((PACKAGE / folder).rglob("*.py")):
        folders = {
            parent.relative_to(PACKAGE).as_posix()
            for parent in path.parents[:-1]
            if parent.is_relative_to(PACKAGE)
        }
        if path.name != "__init__.py" and not folders & inner:
            names.append(path.relative_to(PACKAGE / folder).with_suffix("").as_posix())
    return names


def table() -> str:
    """Return who may import whom, as a table in Markdown."""
    lines = ["| room | imports from |", "|---|---|"]
    for room in ROOMS:
        above = " ".join(f"`{name}`" for name in room.above) or "the standard library"
        lines.append(f"| `{room.name}` | {above} |")
    return "\n".join(lines)


def in_design(text: str) -> str:
    """Return the design's text with the table between its marks."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{tree()}\n\n{table()}\n{END}{after}"


if __name__ == "__main__":
    DESIGN.write_text(in_design(DESIGN.read_text(encoding="utf-8")), encoding="utf-8")
