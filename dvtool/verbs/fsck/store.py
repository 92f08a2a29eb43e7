"""fsck of the local store: read all of it, and say what is not as it should be.

Nothing is changed, not even what opening the store would tidy up: `store.db` is read as it is.
Damage is noted by chunk, so that repair and report know what is lost and what is not.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial

from dvtool.errors import CorruptError, DvError
from dvtool.format.digest import Digest, digest_of
from dvtool.format.locations import RemotePack, split_object
from dvtool.format.manifest import decode_any_shard
from dvtool.format.pack import Placement, Recipe, read_index
from dvtool.project.history import NeededContent
from dvtool.project.parts import Project
from dvtool.store.database import Database
from dvtool.store.local import ASIDE, DOOMED, LOST, PACKS, SHARDS, TEMP
from dvtool.store.mending import noted_lost
from dvtool.store.packcheck import PackCheck, check_pack, digest_of_parts
from dvtool.system.parallel import run_bounded
from dvtool.verbs.fsck.elsewhere import known_by_chunks, known_on_remotes
from dvtool.verbs.fsck.findings import LOCAL, WORKSPACE, Damage, StoreCounts

CHECK_WORKERS = min(4, os.cpu_count() or 1)
CHECK_BUDGET_BYTES = 1 << 30
"""Packs and files are read in pieces: so much may be under way without filling the memory."""


@dataclass(slots=True)
class StoreCheck:
    """The findings of a check of the local store, for the report and for repair."""

    damage: list[Damage] = field(default_factory=list)
    counts: StoreCounts = field(default_factory=StoreCounts)
    packs: dict[Digest, PackCheck] = field(default_factory=dict)
    """The packs that are not sound, or gone, by the name they have or should have."""
    sound: dict[Digest, int] = field(default_factory=dict)
    """Id -> size in bytes of the packs that are sound, indexed or not."""
    bad_in: dict[Digest, set[Digest]] = field(default_factory=dict)
    """Pack -> the chunks that cannot be read at the place in it that store.db gives."""
    bad: set[Digest] = field(default_factory=set)
    """Chunks that cannot be read at the place that store.db gives."""
    elsewhere: dict[Digest, Digest] = field(default_factory=dict)
    """Of the bad chunks: a sound pack that has the chunk as well."""
    damaged_contents: set[Digest] = field(default_factory=set)
    """Needed contents that cannot be read from here as the index is now."""
    lost: set[Digest] = field(default_factory=set)
    """Of the lacking contents: those with a chunk that no pack here has any more."""
    lacking: set[Digest] = field(default_factory=set)
    """Needed contents that the index does not have whole."""
    unlisted: set[Digest] = field(default_factory=set)
    """Of the lacking contents: those that packs here do have whole."""
    untried: list[Recipe] = field(default_factory=list)
    """Recipes of needed contents that packs have and the index has not."""
    usable: bool = False
    """Whether the index could be read."""
    rebuild: bool = False
    """Whether store.db must be made again."""


def fsck_store(project: Project, need: NeededContent) -> StoreCheck:
    """Check all packs, shards, the index and the other files of the local store."""
    return _StoreCheck(project, need).run()


class _StoreCheck:
    def __init__(self, project: Project, need: NeededContent) -> None:
        self.project = project
        self.store = project.store
        self.need = need
        self.result = StoreCheck()
        self.counts = self.result.counts
        self.db: Database | None = None
        self.numbers: dict[Digest, tuple[int, int]] = {}
        """Pack -> its number and size in the index."""
        self.bad_in = self.result.bad_in
        self.unlisted: set[Digest] = set()
        """Chunks that packs have and the index has not."""
        self.stray: set[Digest] = set()
        """Chunks, and recipes, in packs that the index does not name."""
        self.recipes: dict[Digest, Recipe] = {}
        """Of contents that are needed and lacking, as packs have them."""

    def run(self) -> StoreCheck:
        self.counts.contents = len(self.need.contents)
        self.counts.unread_manifests = self.need.unread.passed_over
        self.counts.lists_not_here = len(self.need.lists_not_here)
        try:
            self._open_index()
            self._find_lacking()
            self._check_packs()
            self._find_elsewhere()
            self._name_packs()
            self._check_recipes()
            self._judge_lacking()
        finally:
            if self.db is not None:
                self.db.close()
        self._check_shards()
        self._check_manifests()
        self._count_leftovers()
        return self.result

    def _add(self, damage: Damage) -> None:
        self.result.damage.append(damage)

    # --- store.db -------------------------------------------------------------------------

    def _open_index(self) -> None:
        path = self.store.database_path
        if not os.path.exists(path):
            return  # made again, from the packs, by the next command that needs it
        try:
            db = Database(path)
        except CorruptError as error:
            self._index_damage(str(error))
            return
        if faults := db.faults():
            db.close()
            self._index_damage(f"is damaged: {faults[0]}")
            return
        if not db.complete:
            db.close()
            return  # an interrupted start: the next command goes on with it
        self.db = db
        self.result.usable = True
        self.numbers = {pack.digest: (n, pack.size) for n, pack in db.packs().items()}
        if stray := db.stray_chunks():
            self._index_damage(f"puts {len(stray):,} chunks into packs that it does not know")
            self.result.bad.update(stray)

    def _index_damage(self, problem: str, contents: Iterable[Digest] = ()) -> None:
        self.result.rebuild = True
        self._add(Damage(LOCAL, "index", "store.db", problem, contents=frozenset(contents)))

    def _find_lacking(self) -> None:
        if self.db is None:
            self.result.lacking = set(self.need.contents)
            return
        wanted = set(self.need.contents) - self.db.held_chunks(self.need.contents)
        recipes = self.db.recipes(wanted)
        held = self.db.held_chunks(c for recipe in recipes.values() for c in recipe.chunks)
        whole = {r.digest for r in recipes.values() if held.issuperset(r.chunks)}
        self.result.lacking = wanted - whole

    # --- packs ----------------------------------------------------------------------------

    def _check_packs(self) -> None:
        sizes = {digest: os.path.getsize(path) for path, digest in self.store.files(PACKS)}
        for digest in self.numbers.keys() - sizes.keys():
            sizes[digest] = 0
        self.project.progress.start("checking packs", total_bytes=sum(sizes.values()))
        checked = run_bounded(
            self._check_pack, self._to_check(sizes), workers=CHECK_WORKERS,
            size_of=lambda item: sizes[item[0]], budget_bytes=CHECK_BUDGET_BYTES,
            tell=self.project.progress.advance,
        )  # fmt: skip
        for (digest, _), check in checked:
            self._take_pack(digest, check)
        self.project.progress.finish()

    def _to_check(
        self, digests: Iterable[Digest]
    ) -> Iterator[tuple[Digest, tuple[Placement, ...]]]:
        """Yield each pack with the places that the index has in it, should its own not be there."""
        for digest in sorted(digests):
            rows: tuple[Placement, ...] = ()
            if self.db is not None and digest in self.numbers:
                rows = tuple(self.db.chunks_in(self.numbers[digest][0]))
            yield digest, rows

    def _check_pack(self, item: tuple[Digest, tuple[Placement, ...]]) -> PackCheck:
        digest, rows = item
        return check_pack(self.store.pack_path(digest), digest, known=rows)

    def _take_pack(self, digest: Digest, check: PackCheck) -> None:
        self.counts.packs += 1
        self.counts.bytes += check.size
        if check.sound:
            self.result.sound[digest] = check.size
        else:
            self.result.packs[digest] = check
        if self.db is None:
            self.bad_in[digest] = set(check.bad)
        elif digest in self.numbers:
            self._compare_rows(digest, check)
        elif check.sound:
            self.counts.unindexed_packs += 1
        if check.index is not None and check.found == digest:
            self._note_unlisted(check)

    def _compare_rows(self, digest: Digest, check: PackCheck) -> None:
        """See that what the index says of a pack is so."""
        assert self.db is not None
        number, size = self.numbers[digest]
        rows = self.db.chunks_in(number)
        if check.index is None:
            self.bad_in[digest] = set(check.bad)
            return
        right = {placement for placement in check.places if placement.digest not in check.bad}
        wrong = {row.digest for row in rows if row not in right}
        self.bad_in[digest] = wrong
        if check.sound and (wrong or size != check.size):
            self._index_damage(
                f"is wrong about {len(wrong):,} of the chunks in pack {digest.hex()[:12]}…"
                if wrong
                else f"has the wrong size of pack {digest.hex()[:12]}…",
                self._users_of(wrong),
            )

    def _note_unlisted(self, check: PackCheck) -> None:
        """Remember what a pack has and the index has not."""
        assert check.index is not None
        digests = set(check.index.chunk_digests) - check.bad
        fresh = digests - (self.db.held_chunks(digests) if self.db else set())
        recipes = {r.digest: r for r in check.index.recipes if r.digest in self.result.lacking}
        self.unlisted |= fresh
        self.recipes |= recipes
        doomed = os.path.join(self.store.path, DOOMED, check.digest.hex())
        if check.digest not in self.numbers and not os.path.exists(doomed):
            self.stray |= fresh | recipes.keys()

    def _find_elsewhere(self) -> None:
        """Look for the chunks that cannot be read in the packs that are sound."""
        bad = self.result.bad.union(*self.bad_in.values())
        self.result.bad = bad
        for digest, size in self.result.sound.items() if bad else ():
            path = self.store.pack_path(digest)
            with open(path, "rb") as file, contextlib.suppress(CorruptError):
                for chunk in read_index(file, size=size, where=path).chunk_digests:
                    if chunk in bad:
                        self.result.elsewhere.setdefault(chunk, digest)

    def _name_packs(self) -> None:
        """Say which packs are damaged, and which contents that touches."""
        for digest, check in sorted(self.result.packs.items()):
            bad = self.bad_in.get(digest) or check.bad
            users = self._users_of(bad)
            self.result.damaged_contents |= users
            self.result.lost |= self._users_of(set(bad) - self.result.elsewhere.keys())
            gone = check.faults == ("is gone",)
            problem = check.faults[0]
            if len(check.faults) > 1:
                problem += f" (and {len(check.faults) - 1:,} more faults)"
            if not check.places and not gone:
                problem += "; what it held is not known, as store.db does not say it either"
            elif bad and not gone:
                problem += f"; {len(bad):,} of {len(check.places):,} chunks are lost in it"
            name = os.path.relpath(self.store.pack_path(digest), self.store.path)
            self._add(Damage(LOCAL, "pack", name, problem, missing=gone, contents=frozenset(users)))

    def _users_of(self, chunks: Collection[Digest]) -> set[Digest]:
        """Return the needed contents that some of these chunks are part of."""
        if not chunks:
            return set()
        users = {chunk for chunk in chunks if chunk in self.need.contents}
        recipes: Iterable[Recipe] = self.recipes.values()
        if self.db is not None:
            recipes = self.db.recipes(self.need.contents).values()
        bad = set(chunks)
        return users | {recipe.digest for recipe in recipes if not bad.isdisjoint(recipe.chunks)}

    # --- recipes --------------------------------------------------------------------------

    def _check_recipes(self) -> None:
        """Put every file of several chunks together, and see that it is that file."""
        if self.db is None:
            return
        packs = self.db.packs()
        self.project.progress.start("checking files", total_bytes=None)
        wrong = []
        tried = run_bounded(
            partial(self._try_recipe, packs), self._recipe_parts(), workers=CHECK_WORKERS,
            size_of=lambda item: item[0].size, budget_bytes=CHECK_BUDGET_BYTES,
        )  # fmt: skip
        for (recipe, _), right in tried:
            self.counts.recipes += 1
            self.project.progress.advance(recipe.size)
            if not right:
                wrong.append(recipe.digest)
        self.project.progress.finish()
        if wrong:
            self.result.rebuild = True
            needed = frozenset(content for content in wrong if content in self.need.contents)
            self.result.damaged_contents |= needed
            problem = f"{len(wrong):,} recipes make other files than they say"
            self._add(Damage(LOCAL, "recipe", "store.db", problem, contents=needed))

    def _recipe_parts(self) -> Iterator[tuple[Recipe, list[tuple[int, Placement]]]]:
        """Yield the recipes of which every chunk is here and readable, and their chunks' places."""
        assert self.db is not None
        for recipe in self.db.every_recipe():
            if self.result.bad and not self.result.bad.isdisjoint(recipe.chunks):
                continue
            places = self.db.places(recipe.chunks)
            if all(chunk in places for chunk in recipe.chunks):
                yield recipe, [places[chunk] for chunk in recipe.chunks]

    def _try_recipe(
        self,
        packs: dict[int, RemotePack],
        item: tuple[Recipe, list[tuple[int, Placement]]],
    ) -> bool:
        recipe, parts = item
        if sum(placement.size for _, placement in parts) != recipe.size or len(parts) < 2:
            return False
        paths = {n: self.store.pack_path(packs[n].digest) for n, _ in parts}
        with contextlib.suppress(CorruptError, OSError):
            return digest_of_parts((paths[n], p) for n, p in parts) == recipe.digest
        return False

    # --- contents that the index lacks ----------------------------------------------------

    def _judge_lacking(self) -> None:
        """Tell contents that were never here, or were freed, from those that got lost."""
        lacking = self.result.lacking
        elsewhere = _placed_elsewhere(self.db, lacking) if self.db else set()
        unlisted = self._in_packs_unlisted(lacking)
        lost_track: set[Digest] = set()
        if self.db is None:
            lacking -= unlisted
        else:
            self.counts.unlisted_chunks = len(self.unlisted)
            self.result.unlisted = unlisted
            self.result.untried = [
                self.recipes[content] for content in unlisted if content in self.recipes
            ]
            lost_track = unlisted - elsewhere - self._unfinished(self.db, unlisted)
            self.counts.to_list = len(unlisted - lost_track)
        if lost_track:
            self._index_damage(
                f"does not list content of {len(lost_track):,} files that the packs have",
                lost_track,
            )
        away = lacking - unlisted
        self.counts.not_here = len(away)
        self.counts.not_here_bytes = sum(self.need.contents[content] for content in away)
        nowhere = away - elsewhere
        if nowhere and self.db:
            nowhere -= known_on_remotes(self.project, self.db, nowhere)
        self.counts.nowhere_known = len(nowhere)
        self._name_lost(nowhere)

    def _unfinished(self, db: Database, contents: Collection[Digest]) -> set[Digest]:
        """Return the contents in packs of which the index lacks what a command lists last.

        A pack gets its name before the index names it, in one go with its chunks; so an interrupted
        command leaves a pack that is not named. A fetched pack is named before the files in it, but
        after the remote they come from was noted; only files that a fetch asked for are listed. No
        interruption leaves other gaps, in packs that the index names and no remote has: such chunks
        were lost.
        """
        tried = db.recipes(contents)
        recipes = self.recipes | tried
        lists = {
            content: recipes[content].chunks if content in recipes else (content,)
            for content in contents
        }
        chunks = {chunk for some in lists.values() for chunk in some}
        listed = db.held_chunks(chunks) | self.stray
        noted = tried.keys() | self.stray
        for number in db.remotes.numbers():
            located = db.located(number, chunks).keys()
            listed |= located
            noted |= db.remotes.recipes(number, contents).keys()
            # A pack from there has recipes of versions that nobody fetched by their manifest.
            noted |= {content for content, some in lists.items() if located >= set(some)}
        return {
            content
            for content, some in lists.items()
            if (content in noted or content not in recipes) and listed.issuperset(some)
        }

    def _name_lost(self, nowhere: Collection[Digest]) -> None:
        """Name content that was here and got lost, or that is not here while there is no remote."""
        if self.project.config.remotes():
            noted = noted_lost(self.store)
            recipes = self.db.recipes(nowhere) if self.db else {}
            lost = {content for content in nowhere if content in noted} | {
                content
                for content, recipe in recipes.items()
                if not noted.isdisjoint(recipe.chunks)
            }
            problem = "was lost with a pack, and no remote is known to have it"
        else:
            lost = set(nowhere)
            problem = "is not here, and there is no remote that could have it"
        if lost:
            self._add(Damage(LOCAL, "content", "", problem, missing=True, contents=frozenset(lost)))

    def _in_packs_unlisted(self, lacking: Collection[Digest]) -> set[Digest]:
        """Return the lacking contents that the packs here could make, if they were indexed."""
        recipes = (self.db.recipes(lacking) if self.db else {}) | self.recipes
        chunks = {c for recipe in recipes.values() for c in recipe.chunks}
        here = (self.db.held_chunks(chunks) if self.db else set()) | self.unlisted
        return {content for content in lacking if content in self.unlisted} | {
            content for content, recipe in recipes.items() if here.issuperset(recipe.chunks)
        }

    # --- shards, manifests, leftovers -----------------------------------------------------

    def _check_shards(self) -> None:
        for path, digest in self.store.files(SHARDS):
            self.counts.shards += 1
            try:
                with open(path, "rb") as file:
                    text = split_object(file.read(), "")[0]
                if digest_of(text) != digest:
                    raise CorruptError("its bytes are not what its name says")
                decode_any_shard(text, digest)
            except (CorruptError, OSError) as error:
                name = os.path.relpath(path, self.store.path)
                problem = str(error).removeprefix(": ")
                self._add(Damage(LOCAL, "shard", name, problem, shards=frozenset([digest])))

    def _check_manifests(self) -> None:
        for path, problem in self.need.unread.faults:
            saved = path.startswith(self.store.path)
            top = self.store.path if saved else self.project.root
            name = os.path.relpath(path, top)
            problem = problem.removeprefix(f"{name}: ").removeprefix(f"{path}: ")
            self._add(
                Damage(LOCAL if saved else WORKSPACE, "saved" if saved else "manifest",
                       name, problem)
            )  # fmt: skip

    def _count_leftovers(self) -> None:
        self.counts.temporary_files = _count_files(os.path.join(self.store.path, TEMP))
        self.counts.unfinished_drops = _count_files(os.path.join(self.store.path, DOOMED))
        self.counts.set_aside = _count_files(os.path.join(self.store.path, ASIDE), but=LOST)


def index_is_usable(project: Project) -> bool:
    """Whether store.db is there and all of it can be read."""
    path = project.store.database_path
    if not os.path.exists(path):
        return False
    with contextlib.suppress(DvError), contextlib.closing(Database(path)) as db:
        return not db.faults()
    return False


def known_of_remotes(project: Project, contents: Collection[Digest]) -> set[Digest]:
    """Return those of the contents that some remote is known to have: a hint, nobody is asked.

    The index must be usable, as a check has found it; so in `md5s_proven`.
    """
    with contextlib.closing(Database(project.store.database_path)) as db:
        return known_on_remotes(project, db, contents)


def md5s_proven(project: Project, remote_id: str, keys: Iterable[str]) -> dict[str, bytes]:
    """Return key -> MD5 of objects on a remote, as they were when they were proven."""
    with contextlib.closing(Database(project.store.database_path)) as db:
        rows = db.remotes.objects(db.remotes.number(remote_id), keys)
        return {key: md5 for key, _, md5 in rows if md5 is not None}


def _placed_elsewhere(db: Database, contents: Collection[Digest]) -> set[Digest]:
    """Return the contents of which every chunk has a known place, on a remote or at a source."""
    return known_by_chunks(db, contents) | db.references.known(contents)


def _count_files(folder: str, *, but: str = "\0") -> int:
    return sum(not name.endswith(but) for _, _, names in os.walk(folder) for name in names)
