"""The objects below `gc/` on a remote, by which gc and pushes keep out of each other's way.

There are three kinds of small objects. A *tombstone* names objects that look dead; they may be
removed once it is old enough. A *sweep mark* is there while a gc removes the objects that a
tombstone names. A *claim* names the objects that a push, or a gc that moves content, is about to
rely on. The rules, which the proof in docs/decisions/010 rests on:

- The writer of a shard object or a root first writes a claim for all that it will name, then
  looks: if none of these is being swept, it sees that all are there, and only then writes.
- The sweeper first writes its mark, then reads the claims, then the roots and shards, and spares
  whatever these need.
- Claims and marks of processes that died are believed for some time only. Their owners act on
  them for a much shorter time, so that they never act on one that others believe no more.
"""

from __future__ import annotations

import contextlib
import datetime
import secrets
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

import msgspec

from dvtool.errors import (
    INSTALL_NEWER,
    BusyError,
    CorruptError,
    ObjectMissing,
    RemoteError,
    RemoteForbidden,
    SetupError,
)
from dvtool.format.digest import Digest
from dvtool.remotes.objects import FORMAT, now_text, pack_key, shard_key
from dvtool.remotes.remote import RemoteStore
from dvtool.remotes.transports.base import ObjectInfo
from dvtool.system.decoders import json_decoder
from dvtool.system.parallel import run_bounded

TOP = "gc/"
TOMBSTONES, SWEEPS, CLAIMS = "gc/tombstones/", "gc/sweeps/", "gc/claims/"
GC_OBJECT_MAX_BYTES = 256 << 20
HOUR_S = 3600
CLAIM_USED_S = 1 * HOUR_S
CLAIM_BELIEVED_S = 7 * 24 * HOUR_S
SWEEP_USED_S = 4 * HOUR_S
SWEEP_BELIEVED_S = 12 * HOUR_S
WAIT_S = 60.0
WAIT_STEP_S = 2.0


T = TypeVar("T", "Tombstone", "Claim")


class Tombstone(msgspec.Struct, frozen=True):
    """The objects that a gc found dead. `keys` are packs and shard objects, `roots` keys of roots.

    `repo` is the repository whose roots these are, None if there are none. They were replaced by
    one root that names the same manifests but for `expired`; or, if `retired`, by none.
    """

    dv: int
    created: str
    keys: list[str]
    roots: list[str] = []
    repo: str | None = None
    expired: list[str] = []
    retired: bool = False

    @property
    def lets_go(self) -> bool:
        """Whether no root will name some manifests any more."""
        return self.retired or bool(self.expired)


class Claim(msgspec.Struct, frozen=True):
    """The objects that its writer relies on: shard objects and packs, by their hex."""

    dv: int
    created: str
    shards: list[str]
    packs: list[str]


@dataclass(frozen=True, slots=True)
class Look:
    """The objects below `gc/` at one moment: id -> object; sweep marks by the tombstone's id."""

    tombstones: Mapping[str, ObjectInfo]
    claims: Mapping[str, ObjectInfo]
    sweeps: Mapping[str, Mapping[str, ObjectInfo]]

    def now_s(self, written: str) -> float:
        """Return the store's own time, which is that of a key below `gc/` just written."""
        marks = (info for sweep in self.sweeps.values() for info in sweep.values())
        for info in (*self.claims.values(), *marks):
            if info.key == written and info.modified_s is not None:
                return info.modified_s
        return time.time()

    def sweeping(self, tombstone: str, now_s: float) -> list[str]:
        """Return the marks of sweeps that are to be believed still."""
        marks = self.sweeps.get(tombstone, {})
        return [name for name, info in marks.items() if not _older(info, SWEEP_BELIEVED_S, now_s)]


@dataclass(slots=True)
class Tombstones:
    """The objects below `gc/` of one remote. Tombstones never change, so each is read once."""

    remote: RemoteStore
    sleep: Callable[[float], object] = time.sleep
    _read: dict[str, Tombstone] = field(default_factory=dict)

    def look(self) -> Look:
        """List what is there, in one request where it is not thousands of objects.

        Where listing is not permitted the look is empty: see docs/gc.md.
        """
        tombstones: dict[str, ObjectInfo] = {}
        claims: dict[str, ObjectInfo] = {}
        sweeps: dict[str, dict[str, ObjectInfo]] = {}
        for info in self._listed():
            kind, _, name = info.key.removeprefix(TOP).partition("/")
            if kind == "tombstones":
                tombstones[name.removesuffix(".json")] = info
            elif kind == "claims":
                claims[name.removesuffix(".json")] = info
            elif kind == "sweeps":
                tombstone, _, mark = name.partition("/")
                sweeps.setdefault(tombstone, {})[mark] = info
        return Look(tombstones, claims, sweeps)

    def _listed(self) -> list[ObjectInfo]:
        try:
            return list(self.remote.backend.list(TOP))
        except RemoteForbidden:
            return []

    # --- tombstones -----------------------------------------------------------------------

    def tombstone(self, name: str) -> Tombstone:
        """Return a tombstone; ObjectMissing if it is gone, CorruptError if it is not one."""
        if name not in self._read:
            key = f"{TOMBSTONES}{name}.json"
            text = self.remote.backend.get(key, size_max=GC_OBJECT_MAX_BYTES)
            self._read[name] = _decode(text, Tombstone, f"{self.remote.url}: {key}")
        return self._read[name]

    def standing(self, look: Look) -> dict[str, Tombstone]:
        """Return the tombstones seen in a look, without those that are gone by now."""
        standing: dict[str, Tombstone] = {}
        for name in look.tombstones:
            try:
                standing[name] = self.tombstone(name)
            except ObjectMissing:
                continue
        return standing

    def doomed_roots(self, look: Look) -> set[str]:
        """Return the keys of roots that are to go: they prove nothing any more."""
        return {root for tombstone in self.standing(look).values() for root in tombstone.roots}

    def put(self, tombstone: Tombstone) -> str:
        """Write a tombstone; return its id."""
        name = secrets.token_hex(16)
        self.remote.backend.put(f"{TOMBSTONES}{name}.json", _encode(tombstone))
        return name

    def remove(self, name: str) -> None:
        """Remove a tombstone; the objects that it names are then live again, or gone."""
        self.remote.backend.delete(f"{TOMBSTONES}{name}.json")

    # --- claims ---------------------------------------------------------------------------

    def claim(self, *, shards: Iterable[str], packs: Iterable[str]) -> str:
        """Claim shards and packs (hex); return the claim's id."""
        name = secrets.token_hex(16)
        claim = Claim(FORMAT, now_text(), sorted(shards), sorted(packs))
        self.remote.backend.put(f"{CLAIMS}{name}.json", _encode(claim))
        return name

    def release(self, name: str) -> None:
        """Remove a claim. If that fails, others believe the claim for some days."""
        try:
            self.remote.backend.delete(f"{CLAIMS}{name}.json")
        except RemoteError:
            return

    def claims(self, look: Look, now_s: float) -> list[Claim]:
        """Return the claims to believe. A claim that is gone by now was followed by its root."""
        fresh = [
            name for name, info in look.claims.items() if not _older(info, CLAIM_BELIEVED_S, now_s)
        ]
        claims = [claim for _, claim in run_bounded(self._claim_or_none, fresh)]
        return [claim for claim in claims if claim is not None]

    def _claim_or_none(self, name: str) -> Claim | None:
        key = f"{CLAIMS}{name}.json"
        try:
            text = self.remote.backend.get(key, size_max=GC_OBJECT_MAX_BYTES)
        except ObjectMissing:
            return None
        return _decode(text, Claim, f"{self.remote.url}: {key}")

    def clock(self) -> tuple[Look, float]:
        """Return a look at the objects there, and the time by the store's own clock."""
        claim = self.claim(shards=(), packs=())
        try:
            look = self.look()
        finally:
            self.release(claim)
        return look, look.now_s(f"{CLAIMS}{claim}.json")

    def stale(self, look: Look, now_s: float) -> list[str]:
        """Return the keys of claims and sweep marks that nobody acts on any more."""
        old = [(info.key, info, CLAIM_BELIEVED_S) for info in look.claims.values()]
        for marks in look.sweeps.values():
            old.extend((info.key, info, SWEEP_BELIEVED_S) for info in marks.values())
        return [key for key, info, believed_s in old if _older(info, believed_s, now_s)]

    # --- sweeps ---------------------------------------------------------------------------

    def begin_sweep(self, tombstone: str) -> str:
        """Write a mark that the objects of a tombstone are being removed; return its key."""
        key = f"{SWEEPS}{tombstone}/{secrets.token_hex(16)}"
        self.remote.backend.put(key, now_text().encode() + b"\n")
        return key

    def end_sweep(self, key: str) -> None:
        """Remove a sweep's mark."""
        self.remote.backend.delete(key)

    @contextlib.contextmanager
    def claimed(self, *, shards: Collection[Digest], packs: Collection[Digest]) -> Iterator[None]:
        """Claim shard objects and packs, and go on only when none of them is being removed.

        Objects that are seen afterwards stay until the root is written or the claim removed.
        """
        claim = self.claim(shards=map(bytes.hex, shards), packs=map(bytes.hex, packs))
        try:
            needed = {*map(shard_key, shards), *map(pack_key, packs)}
            self.wait_until_clear(needed, claim)
            yield
        finally:
            self.release(claim)

    def wait_until_clear(self, needed: Collection[str], claim: str) -> None:
        """Return once nothing of `needed` (keys) is being removed; BusyError if that lasts.

        To be called after the claim for it was written, and before it is proven to be there.
        """
        waited_s = 0.0
        while self._in_the_way(self.look(), needed, claim):
            if waited_s >= WAIT_S:
                raise BusyError(
                    f"a gc is removing objects from {self.remote.url} that this command needs",
                    hint="repeat the command when it is done; if it was interrupted, "
                    f"that takes up to {SWEEP_BELIEVED_S // HOUR_S} hours",
                )
            self.sleep(WAIT_STEP_S)
            waited_s += WAIT_STEP_S

    def _in_the_way(self, look: Look, needed: Collection[str], claim: str) -> bool:
        now_s = look.now_s(f"{CLAIMS}{claim}.json")
        for name in look.sweeps:
            if not look.sweeping(name, now_s):
                continue
            try:
                doomed = self.tombstone(name).keys
            except ObjectMissing:
                return True  # removed just now: the objects that it named are not known
            if not set(needed).isdisjoint(doomed):
                return True
        return False


def age_s(info: ObjectInfo, created: str, now_s: float) -> float:
    """Return the age of an object: the lesser of its own statement and the store's."""
    try:
        written = datetime.datetime.fromisoformat(created).timestamp()
    except (ValueError, OverflowError):
        written = now_s
    said = time.time() - written
    return said if info.modified_s is None else min(said, now_s - info.modified_s)


def _older(info: ObjectInfo, limit_s: float, now_s: float) -> bool:
    return info.modified_s is not None and now_s - info.modified_s > limit_s


def _encode(value: Tombstone | Claim) -> bytes:
    return msgspec.json.encode(value) + b"\n"


def _decode(text: bytes, kind: type[T], where: str) -> T:
    try:
        value = json_decoder(kind).decode(text)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, ValueError) as error:
        raise CorruptError(
            f"{where} is damaged ({error})", hint="dv gc --remote --undo removes tombstones"
        ) from error
    if value.dv != FORMAT:
        raise SetupError(
            f"{where} is of format {value.dv}; this dvtool knows format {FORMAT}",
            hint=INSTALL_NEWER,
        )
    return value
