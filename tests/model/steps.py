"""The protocol of push and gc as steps on keys, and a search through all ways to interleave them.

Each process is a generator: it yields one request at a time and is sent the answer, as dvtool asks
a store. A store is a mapping of keys to values; every request is atomic, which is what S3 promises
for one key or one page of a listing. `test_steps.py` holds that the real code makes the same
requests in the same order.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

Key = str
State = frozenset[tuple[Key, Any]]
Request = tuple[Any, ...]
Process = Callable[[], Generator[Request, Any, str]]

ROUNDS = 3
"""How often a push begins anew before it gives up, in the model."""


@dataclass(frozen=True)
class Tomb:
    keys: frozenset[Key]
    roots: frozenset[Key] = frozenset()
    expired: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Claim:
    shards: frozenset[Key]
    packs: frozenset[Key]


Root = frozenset[tuple[str, tuple[Key, ...]]]
"""Manifest -> its shards, as pairs."""


def root(**manifests: str) -> Root:
    return frozenset((name, tuple(shards.split())) for name, shards in manifests.items())


# --- the processes --------------------------------------------------------------------------


def push(
    me: str,
    manifest: str,
    packing: Mapping[Key, Iterable[Key]],
    *,
    known: Iterable[Key] = (),
    broken: str = "",
) -> Generator[Request, Any, str]:
    """Push a manifest; `packing` says into which packs this clone would put each shard's content.

    `known` are the roots that this clone knows to name the manifest. `broken` leaves a step out,
    to see that the search notices.
    """
    shards = tuple(packing)
    for number in range(ROUNDS):
        seen = yield ("list", "gc/")
        doomed: set[Key] = set()
        for key in sorted(key for key in seen if key.startswith("gc/t")):
            tomb = yield ("get", key)
            doomed |= tomb.roots if tomb and broken != "doomed roots count" else set()
        key = tomb = seen = None
        there = yield ("list", "")
        pointed: dict[Key, frozenset[Key]] = {}
        for shard in shards:
            if shard in there:
                found = yield ("get", shard)
                if found is not None and found <= there.keys():
                    pointed[shard] = found
        lacking = [shard for shard in shards if shard not in pointed]
        if not lacking and any(key in there and key not in doomed for key in known):
            return "done"
        for pack in sorted({p for shard in lacking for p in packing[shard]} - there.keys()):
            yield ("put", pack, True)
        there = found = shard = pack = None
        new = {shard: frozenset(packing[shard]) for shard in lacking}
        packs = frozenset(p for some in (*pointed.values(), *new.values()) for p in some)
        claim = f"gc/c/{me}{number}"
        if broken != "no claim":
            yield ("put", claim, Claim(frozenset(shards), packs))
        if broken != "no look":
            yield ("wait", packs | set(shards))
        there = yield ("list", "")
        if broken != "no proof" and not (packs | pointed.keys()) <= there.keys():
            there = None
            yield ("delete", claim)
            continue
        there = None
        for shard, some in new.items():
            yield ("put", shard, some)
        if broken == "claim let go before the root":
            yield ("delete", claim)
        yield ("put", f"r/{me}", frozenset({(manifest, shards)}))
        yield ("delete", claim)
        return "done"
    return "busy"


def survey(broken: str = "") -> Generator[Request, Any, Any]:
    """Read claims, roots and shards, in this order; return roots, shards -> packs, and claimed."""
    listed = None
    if broken == "roots before claims":
        listed = yield ("list", "r/")
    seen = yield ("list", "gc/")
    claimed: set[Key] = set()
    claims: set[Key] = set()
    for key in sorted(key for key in seen if key.startswith("gc/c")):
        claim = yield ("get", key)
        if claim is not None:
            claims |= claim.shards
            claimed |= claim.shards | claim.packs
    seen = key = claim = None
    if listed is None:
        listed = yield ("list", "r/")
    roots: dict[Key, Root] = {}
    for key in sorted(listed):
        value = yield ("get", key)
        if value is not None:
            roots[key] = value
    listed = key = value = None
    shards: dict[Key, frozenset[Key]] = {}
    for key in sorted({s for one in roots.values() for _, some in one for s in some} | claims):
        value = yield ("get", key)
        if value is not None:
            shards[key] = value
            if key in claims:
                claimed |= value
    return roots, shards, claimed


def live_of(
    roots: Iterable[Root], shards: Mapping[Key, frozenset[Key]], claimed: set[Key]
) -> set[Key]:
    named = {shard for one in roots for _, some in one for shard in some}
    return named | {pack for shard in named for pack in shards.get(shard, ())} | claimed


def sweep(me: str, tomb_key: Key, *, broken: str = "") -> Generator[Request, Any, str]:
    tomb = yield ("get", tomb_key)
    if tomb is None:
        return "nothing"
    mark = f"gc/m/{tomb_key.rpartition('/')[2]}/{me}"
    if broken != "no mark":
        yield ("put", mark, True)
    seen = yield ("list", "gc/")
    if tomb_key not in seen:
        yield ("delete", mark)
        return "undone"
    seen = None
    roots, shards, claimed = yield from survey(broken)
    others = {name for key, one in roots.items() if key not in tomb.roots for name, _ in one}
    spared = {
        key
        for key in tomb.roots & roots.keys()
        if not {name for name, _ in roots[key]} <= others | tomb.expired
    }
    stay = [one for key, one in roots.items() if key not in tomb.roots or key in spared]
    dead = tomb.keys - live_of(stay, shards, claimed)
    roots = shards = claimed = stay = others = None
    for key in sorted(tomb.roots - spared):
        yield ("delete", key)
    for key in sorted(dead, key=lambda key: (not key.startswith("s/"), key)):
        yield ("delete", key)
    dead = spared = key = None
    yield ("delete", mark)
    seen = yield ("list", "gc/")
    others_there = any(key.startswith(mark.rpartition("/")[0] + "/") for key in seen)
    if broken == "mark of another removed":
        for key in sorted(key for key in seen if key.startswith(mark.rpartition("/")[0] + "/")):
            yield ("delete", key)
    if not others_there:
        yield ("delete", tomb_key)
    return "swept"


def bury(me: str) -> Generator[Request, Any, str]:
    """Write a tombstone for all that is dead, and sweep it at once: no grace at all."""
    roots, shards, claimed = yield from survey()
    there = yield ("list", "")
    live = live_of(roots.values(), shards, claimed)
    dead = frozenset(key for key in there if key[0] in "ps" and key not in live)
    roots = shards = claimed = there = live = None
    if not dead:
        return "nothing"
    yield ("put", f"gc/t/{me}", Tomb(dead))
    return (yield from sweep(me, f"gc/t/{me}"))


def gather(
    me: str, replaced: Iterable[Key], expired: Iterable[str]
) -> Generator[Request, Any, str]:
    """Replace roots by one, without the expired manifests; bury what only those needed."""
    roots, shards, claimed = yield from survey()
    old = {key: roots[key] for key in replaced if key in roots}
    keep = frozenset(one for value in old.values() for one in value if one[0] not in set(expired))
    if keep:
        names = {shard for _, some in keep for shard in some}
        packs = {pack for shard in names for pack in shards[shard]}
        claim = f"gc/c/{me}"
        yield ("put", claim, Claim(frozenset(names), frozenset(packs)))
        yield ("wait", names | packs)
        there = yield ("list", "")
        if not names | packs <= there.keys():
            yield ("delete", claim)
            return "busy"
        yield ("put", f"r/{me}", keep)
        yield ("delete", claim)
    there = yield ("list", "")
    stay = [one for key, one in roots.items() if key not in old] + [keep]
    live = live_of(stay, shards, claimed)
    dead = frozenset(key for key in there if key[0] in "ps" and key not in live)
    yield ("put", f"gc/t/{me}", Tomb(dead, frozenset(old), frozenset(expired)))
    return (yield from sweep(me, f"gc/t/{me}"))


def move(me: str, old: Key, new: Key) -> Generator[Request, Any, str]:
    """Move what shards have in one pack to another, and bury the old one."""
    _, shards, _ = yield from survey()
    concerned = [shard for shard, packs in shards.items() if old in packs]
    shards = _ = packs = None
    yield ("put", new, True)
    pointed: dict[Key, frozenset[Key]] = {}
    for shard in concerned:
        packs = yield ("get", shard)
        if packs is None:
            return "busy"
        pointed[shard] = frozenset(new if pack == old else pack for pack in packs)
    packs = frozenset(pack for some in pointed.values() for pack in some)
    claim = f"gc/c/{me}"
    yield ("put", claim, Claim(frozenset(pointed), packs))
    yield ("wait", packs | pointed.keys())
    there = yield ("list", "")
    if not packs <= there.keys():
        yield ("delete", claim)
        return "busy"
    for shard, some in pointed.items():
        yield ("put", shard, some)
    yield ("delete", claim)
    yield ("put", f"gc/t/{me}", Tomb(frozenset({old})))
    return (yield from sweep(me, f"gc/t/{me}"))


def undo(tomb_key: Key) -> Generator[Request, Any, str]:
    marks = f"gc/m/{tomb_key.rpartition('/')[2]}/"
    seen = yield ("list", "gc/")
    if any(key.startswith(marks) for key in seen):
        return "busy"
    yield ("delete", tomb_key)
    seen = yield ("list", "gc/")
    return "busy" if any(key.startswith(marks) for key in seen) else "undone"


# --- the search -----------------------------------------------------------------------------


@dataclass
class Search:
    """Runs processes in every order. `check` sees every state that can be reached.

    A process may stop for good at any step: since every state is checked, and the others can go
    on from it, crashes are part of the search.
    """

    start: Mapping[Key, Any]
    processes: Mapping[str, Process]
    check: Callable[[Mapping[Key, Any], Mapping[str, str]], None]
    states: int = 0
    interleavings: int = 0
    results: set[tuple[tuple[str, str], ...]] = field(default_factory=set)
    _requests: dict[tuple[int, Any], Request | str] = field(default_factory=dict)

    def run(self) -> Search:
        histories: tuple[History, ...] = tuple(() for _ in self.processes)
        marks = tuple(_advance(one, ())[1] for one in self.processes.values())
        self.interleavings = self._paths((frozenset(self.start.items()), marks), histories)
        return self

    def _paths(self, first: Node, histories: tuple[History, ...]) -> int:
        """Count the ways from a node to the end; each node is looked at once."""
        counts: dict[Node, int] = {}
        stack: list[tuple[Node, tuple[History, ...], list[Node] | None]] = [
            (first, histories, None)
        ]
        while stack:
            node, some, children = stack.pop()
            if node in counts:
                continue
            if children is None:
                found = self._children(node, some)
                stack.append((node, some, [child for child, _ in found]))
                stack.extend((c, h, None) for c, h in found if c not in counts)
            else:
                counts[node] = sum(counts[child] for child in children) if children else 1
        self.states = len(counts)
        return counts[first]

    def _children(
        self, node: Node, histories: tuple[History, ...]
    ) -> list[tuple[Node, tuple[History, ...]]]:
        state, marks = node
        store = dict(state)
        ended: dict[str, str] = {}
        children = []
        for number, (name, process) in enumerate(self.processes.items()):
            if (number, marks[number]) not in self._requests:
                request, _ = _advance(process, histories[number])
                self._requests[number, marks[number]] = request
            request = self._requests[number, marks[number]]
            if isinstance(request, str):
                ended[name] = request
                continue
            answered = _answer(store, request)
            if answered is None:
                continue  # it waits
            changed, answer = answered
            history = (*histories[number], answer)
            _, mark = _advance(process, history)
            after = (*marks[:number], mark, *marks[number + 1 :])
            others = (*histories[:number], history, *histories[number + 1 :])
            children.append(((changed, after), others))
        self.check(store, ended)
        if not children:
            self.results.add(tuple(sorted(ended.items())))
        return children


History = tuple[Any, ...]
Node = tuple[State, tuple[Any, ...]]


def _advance(process: Process, history: History) -> tuple[Request | str, Any]:
    """Return what a process asks for next, after these answers, or how it ended.

    And what it remembers by then: where it is and its variables. Two histories after which that
    is the same go on in the same way, so one of them is enough to look at.
    """
    running = process()
    try:
        request = next(running)
        for answer in history:
            request = running.send(dict(answer) if isinstance(answer, frozenset) else answer[0])
    except StopIteration as end:
        return str(end.value), str(end.value)
    remembered = []
    inner: Any = running
    while inner is not None:
        frame = inner.gi_frame
        values = {name: _frozen(value) for name, value in frame.f_locals.items()}
        remembered.append((frame.f_lasti, tuple(sorted(values.items(), key=lambda one: one[0]))))
        inner = inner.gi_yieldfrom
    return request, tuple(remembered)


def _frozen(value: Any) -> Any:
    if isinstance(value, Mapping):
        return frozenset((key, _frozen(one)) for key, one in value.items())
    if isinstance(value, set | frozenset):
        return frozenset(_frozen(one) for one in value)
    if isinstance(value, list | tuple):
        return tuple(_frozen(one) for one in value)
    try:
        hash(value)
    except TypeError:
        return repr(value)
    return value


def _answer(store: dict[Key, Any], request: Request) -> tuple[State, Any] | None:
    kind, *rest = request
    if kind == "list":
        found = frozenset((key, True) for key in store if key.startswith(rest[0]))
        return frozenset(store.items()), found
    if kind == "get":
        return frozenset(store.items()), (store.get(rest[0]),)
    if kind == "wait":
        for key in store:
            if key.startswith("gc/m/"):
                tomb = store.get(f"gc/t/{key.split('/')[2]}")
                if tomb is None or tomb.keys & rest[0]:
                    return None
        return frozenset(store.items()), (None,)
    after = {key: value for key, value in store.items() if key != rest[0]}
    if kind == "put":
        after[rest[0]] = rest[1]
    return frozenset(after.items()), (None,)


def whole(store: Mapping[Key, Any], manifest: str) -> bool:
    """Whether a manifest can be restored: a root names it, and all that it needs is there."""
    for key, value in store.items():
        if key.startswith("r/"):
            for name, shards in value:
                if name == manifest:
                    return all(shard in store and store[shard] <= store.keys() for shard in shards)
    return False


def roots_are_whole(store: Mapping[Key, Any]) -> None:
    """What a root names is there, at every moment: see docs/decisions/010."""
    for key, value in store.items():
        if key.startswith("r/"):
            for name, _ in value:
                assert whole(store, name), f"{key} names {name}, which is not whole: {dict(store)}"
