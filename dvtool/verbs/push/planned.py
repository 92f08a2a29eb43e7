"""The values of a plan of a push: shards to be on the remote, and the objects to upload."""

from __future__ import annotations

from dataclasses import dataclass, field

from dvtool.format.manifest import ShardRef
from dvtool.remotes.proof import Proven
from dvtool.verbs.push.contents import PushedContents
from dvtool.verbs.push.packs import Outgoing


@dataclass(slots=True)
class ShardToPush:
    """A shard to be on the remote, and a target to name in messages."""

    ref: ShardRef
    target: str
    text: bytes | None = None
    by_reference: bool = False
    """Whether every manifest with this shard says that its data stays at the source."""


@dataclass(slots=True)
class UploadPlan:
    """The objects that a push will upload, after the remote was asked what it has."""

    lacking: list[ShardToPush] = field(default_factory=list)
    contents: PushedContents = field(default_factory=PushedContents)
    outgoing: Outgoing = field(default_factory=Outgoing)
    proven: Proven = field(default_factory=Proven)
    root: bool = False
    """Whether a root must be added."""
