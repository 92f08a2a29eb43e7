"""A remote that a check found damaged: what its repairs share."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from functools import cached_property

from dvtool.errors import ObjectMissing, RemoteError
from dvtool.format.digest import READ_SIZE_BYTES, hasher
from dvtool.project.parts import Project
from dvtool.remotes.known import Known
from dvtool.remotes.remote import RemoteStore
from dvtool.remotes.tombstones import Tombstones
from dvtool.verbs.fsck.findings import RemoteCheck

ASIDE = "aside/"
ASIDE_SIZE_MAX_BYTES = 512 << 20


class DamagedRemote:
    """A remote and what a check found there, which learns what became of it."""

    def __init__(
        self, project: Project, remote: RemoteStore, repo_id: str, checked: RemoteCheck
    ) -> None:
        self.project = project
        self.store = project.store
        self.remote = remote
        self.repo_id = repo_id
        self.found = checked
        self.tombstones = Tombstones(remote)

    @cached_property
    def known(self) -> Known:
        """The known facts about the remote, whose dv.json must be there by now."""
        return Known(self.store.db, self.remote.required_mark().id)

    def repaired(self, key: str, text: str) -> None:
        """Say of an object what was done about it."""
        for damage in self.found.damage:
            if damage.name == key:
                damage.repaired = text

    def failed(self, key: str, text: str) -> None:
        """Say of an object why it could not be mended."""
        for damage in self.found.damage:
            if damage.name == key:
                damage.failed = text

    def set_aside(self, key: str) -> None:
        """Copy an object, if there is one, below `aside/`; its own hash makes that repeatable."""
        temp = self.store.temp_path()
        try:
            with open(temp, "xb+") as file, contextlib.suppress(ObjectMissing):
                info = self.remote.backend.head(key)
                if info is None:
                    return
                if info.size > ASIDE_SIZE_MAX_BYTES:
                    raise RemoteError(f"{self.remote.url}: {key} is too large to be set aside")
                self.remote.backend.read_into(key, file, size=info.size)
                file.seek(0)
                whole = hasher()
                while data := file.read(READ_SIZE_BYTES):
                    whole.update(data)
                aside_key = f"{ASIDE}{key}.{whole.hexdigest()[:16]}"
                held = self.remote.backend.head(aside_key)
                if held is None or held.size != info.size:
                    self.remote.backend.put(aside_key, file)
        finally:
            os.unlink(temp)

    def prove(self, expected: Mapping[str, int]) -> None:
        """See that objects are there with these sizes; RemoteError if one is not."""
        infos = self.remote.look(list(expected))
        lost = [k for k, size in expected.items() if k not in infos or infos[k].size != size]
        if lost:
            raise RemoteError(
                f"{self.remote.url} took {lost[0]} without an error but does not have it",
                hint="repeat the command; if this stays, the store loses data: use another",
            )
