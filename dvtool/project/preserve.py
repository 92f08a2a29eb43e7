"""Keeping content that a command is about to replace or remove and that no commit may have."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from dvtool.format.manifest import Entries, Entry, build, encode
from dvtool.format.paths import SUFFIX
from dvtool.project.parts import Project
from dvtool.system import atomic
from dvtool.system.lazy import later
from dvtool.system.stat import is_executable

if TYPE_CHECKING:
    from dvtool.jobs import ingest
else:
    ingest = later("dvtool.jobs.ingest")

SAVED_FOLDER = "saved"


class Saved(msgspec.Struct, frozen=True):
    """Content that `--force` copied into the store before replacing it."""

    path: str
    """Where the file was, from the top of the worktree."""
    blake3: str
    """BLAKE3 of its content, in hex: `dv cat --hash` writes it."""


def save_files(project: Project, paths: Sequence[str]) -> list[Saved]:
    """Copy the content of files (from the top of the worktree) into the store.

    A manifest that names the content is kept beside the packs, so that it can be found later.
    """
    entries = store_contents(project, paths)
    if entries:
        built = build("dir", entries)
        project.store.put_shards(built.shards)
        keep_manifest(project, encode(built.manifest))
    return [Saved(path, entry.blake3) for path, entry in entries.items()]


def store_contents(project: Project, paths: Sequence[str]) -> Entries:
    """Bring the content of files into the store; return their entries, by the same paths.

    Who calls keeps a manifest that names it.
    """
    entries: Entries = {}
    if not paths:
        return entries
    sources = [ingest.FileSource(path, 0) for path in paths]
    root, links = project.root, project.workspace.links
    for batch in ingest.ingest_batches(root, project.store.path, sources, links=links):
        result = ingest.ingest(batch)
        project.store.adopt(result.packs)
        for file in result.files:
            entries[file.path] = Entry(
                blake3=file.digest.hex(), size=file.stat.st_size, exec=is_executable(file.stat)
            )
    return entries


def keep_manifest(project: Project, text: bytes) -> None:
    """Keep the text of a manifest."""
    folder = saved_folder(project)
    atomic.make_folders(folder)
    atomic.write_bytes(os.path.join(folder, f"{time.time_ns()}{SUFFIX}"), text)


def keep_uncommitted(project: Project, target: str) -> None:
    """Keep a target's manifest if HEAD has another, or none."""
    text = project.manifest_text(target)
    head = project.git.head()
    if text is not None and (not head or project.git.blob_at(head, target + SUFFIX) != text):
        keep_manifest(project, text)


def saved_folder(project: Project) -> str:
    """Return the folder of the manifests that are kept."""
    return os.path.join(project.store.path, SAVED_FOLDER)
