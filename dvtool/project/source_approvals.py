"""The sources that this clone may ask: addresses and queries of manifests that a person approved.

A manifest comes from whoever can open a pull request. The origin that its `source` names is
asked only if a person typed that very source here (`dv import`), or approved it (`dv update
--trust`). The record is one file in git's common folder, shared by all worktrees (decision 053).
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping

import msgspec

from dvtool.errors import SetupError, printable
from dvtool.format.source import DataSource
from dvtool.remotes.origins.registry import is_unencrypted
from dvtool.remotes.references import SourceAccess
from dvtool.system import atomic
from dvtool.system.decoders import json_decoder

_RECORD_NAME = "trusted-sources.json"


class ApprovedSource(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Whom to ask and for what; `local` are options of this machine that were typed for it."""

    kind: str
    url: str
    path: str
    options: Mapping[str, str]
    query: str
    local: Mapping[str, str]

    def covers(self, source: DataSource) -> bool:
        """Whether this is the approval of a source."""
        return (self.kind, self.url, self.path, dict(self.options), self.query) == (
            source.kind,
            source.url,
            source.path,
            source.options,
            source.query,
        )


class _ApprovedSources(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    approved: tuple[ApprovedSource, ...]


class SourceApprovals:
    """The record of one clone; `common_dir` is git's common folder."""

    def __init__(self, common_dir: str) -> None:
        self._path = os.path.join(common_dir, "dv", _RECORD_NAME)

    def find(self, source: DataSource) -> ApprovedSource | None:
        """Return the approval of a source, None if nobody approved it here."""
        return next((each for each in self._read().approved if each.covers(source)), None)

    def local_options(self, source: DataSource) -> Mapping[str, str]:
        """Return the options of this machine for a source; SetupError if it is not approved."""
        approved = self.find(source)
        if approved is None:
            raise not_approved(source)
        return approved.local

    def approve(self, source: DataSource, local: Mapping[str, str]) -> None:
        """Approve a source from now on, with options of this machine."""
        options = dict(source.options)
        new = ApprovedSource(
            source.kind, source.url, source.path, options, source.query, dict(local)
        )
        kept = [each for each in self._read().approved if not each.covers(source)]
        record = _ApprovedSources((*kept, new))
        atomic.make_folders(os.path.dirname(self._path))
        atomic.write_bytes(self._path, msgspec.json.format(msgspec.json.encode(record)))

    def _read(self) -> _ApprovedSources:
        try:
            with open(self._path, "rb") as file:
                return json_decoder(_ApprovedSources).decode(file.read())
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
            return _ApprovedSources(())  # what cannot be read approves nothing


def source_text(source: DataSource) -> str:
    """Return an address, and what is asked there, for messages."""
    words = [printable(source.url)]
    words += [f"path {printable(source.path)}"] if source.path else []
    words += [f"{name.replace('_', '-')} {printable(v)}" for name, v in source.options.items()]
    words += [f"query {printable(source.query)}"] if source.query else []
    return ", ".join(words)


def not_approved(source: DataSource) -> SetupError:
    """Return the error that says why a source is not asked, and how to approve it."""
    message = f"nobody approved in this clone that {source_text(source)} is asked"
    if is_unencrypted(source):
        message += "; it is not encrypted, so whoever listens on the way learns what is sent"
    return SetupError(
        message, hint="if the source is right (and not another's change): dv update --trust TARGET"
    )


def source_access(common_dir: str, *, url: str | None = None) -> SourceAccess:
    """Return what reads referenced data, of the sources that a clone approved alone.

    Nobody approves anything in the clone of a `url` that is made to be read: a SetupError says how
    to have one in which that can be done.
    """
    approvals = SourceApprovals(common_dir)

    def local_options(source: DataSource) -> Mapping[str, str]:
        if url is None or approvals.find(source) is not None:
            return approvals.local_options(source)
        raise SetupError(
            f"the data stays at its source, and nobody approved that {source_text(source)} is "
            "asked for a repository that is read by its URL",
            hint="clone it, approve the source there if it is right, and read from that clone: "
            f"git clone {shlex.quote(printable(url))} FOLDER && cd FOLDER && "
            "dv update --trust TARGET",
        )

    return SourceAccess(local_options)
