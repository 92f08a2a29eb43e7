"""``dv import``: make a target of data that is elsewhere."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import click

from dvtool.cli import documents
from dvtool.cli.engines import engine_options, opened_engine
from dvtool.cli.frame import Frame, command
from dvtool.cli.output import Screen, count_text, files_text
from dvtool.cli.plans import plan_document, plan_option, show_plan
from dvtool.cli.remote_options import ORIGIN_OPTIONS, remote_options
from dvtool.errors import UsageError, listing, printable, size_text

if TYPE_CHECKING:
    from dvtool import ImportRequest
    from dvtool.repo import Repo
    from dvtool.verbs.imports.results import Imported


@command(
    "import",
    examples=(
        "dv import s3://lab-images/scans data/scans       # the keys below scans/",
        "dv import s3://lab-images/x.csv                  # one key, one file",
        "dv import --exclude '*.tmp' --plan s3://lab-images/scans   # what it takes",
        "dv import https://example.org/iris.csv data/iris.csv",
        "dv import --reference s3://lab-images/scans      # hashed, left where it is",
        "dv import --materialise data/scans               # later: a copy after all",
        "dv import https://example.org/r.git//data/cats@v1  # of a repository with dv",
        "dv import hf://datasets/ibm/duorc data/duorc",
        "dv import --engine dask s3://lab-images/scans     # by workers of a cluster",
    ),
    exits=(4, 5, 6, 7, 8, 9),
    answers_json=True,
)
@click.argument("source", metavar="SOURCE")
@click.argument("out", metavar="[OUT]", required=False, type=click.Path())
@click.option(
    "--include",
    metavar="GLOB",
    multiple=True,
    help="Take only these paths; leftovers of jobs (_SUCCESS, _temporary/) only so: '_*'.",
)
@click.option("--exclude", metavar="GLOB", multiple=True, help="Leave these paths out.")
@click.option(
    "--limit", metavar="N", type=click.IntRange(min=1), help="Take the first N objects alone."
)
@click.option("--unpack", is_flag=True, help="Take the members of a .tar or .zip in its place.")
@click.option(
    "--reference", is_flag=True, help="Hash the objects and leave them there; no copy is kept."
)
@click.option("--materialise", is_flag=True, help="SOURCE is a PATH here: copy what it refers to.")
@click.option("--no-checkout", is_flag=True, help="Write no files into the workspace.")
@click.option("-j", "--jobs", metavar="N", type=click.IntRange(min=1), help="Worker processes.")
@engine_options
@click.option("--remote", metavar="NAME", help="The remote that workers of a cluster write to.")
@click.option(
    "--inventory", metavar="PLACE", help="List by this manifest.json of an S3 Inventory instead."
)
@click.option("--keys", metavar="FILE", help="Take the keys in this file, and list nothing.")
@plan_option
@remote_options(ORIGIN_OPTIONS)
def import_(
    frame: Frame,
    source: str,
    out: str | None,
    include: Sequence[str],
    exclude: Sequence[str],
    limit: int | None,
    unpack: bool,
    reference: bool,
    materialise: bool,
    no_checkout: bool,
    jobs: int | None,
    engine: str | None,
    engine_address: str | None,
    remote: str | None,
    inventory: str | None,
    keys: str | None,
    plan_only: bool,
    as_json: bool,
    **options: str | None,
) -> None:
    """Make a target OUT of data that is elsewhere, and record where it came from.

    SOURCE is a bucket's prefix (s3://BUCKET/PREFIX: the keys below PREFIX/), one of its keys, a
    file of a web server (https://HOST/FILE), a path of a repository with dv, DVC or git-lfs
    (GIT-URL//PATH@REV), or of the Hugging Face hub (hf://datasets/OWNER/NAME/PATH). Every object is
    read once. The manifest says which state was taken; dv update asks for what is new.

    A GLOB without a slash matches at any depth. Repeated after an interruption, the same command
    goes on. Credentials are those of the AWS tools; they, and local options, stay in this clone.

    --inventory and --keys say what the bucket holds in place of a listing, which takes a request
    for each 1,000 keys. A line of FILE is KEY, or KEY, SIZE and ETAG with tabs between them.
    With --engine the workers of a cluster read the objects, by credentials of their own, and put
    the content on the remote. No file is written here: dv pull gets them.

    With --reference the objects of a bucket are hashed once and stay there: neither store nor
    remote gets a copy. An object that changed is an error. --materialise PATH copies them later.
    """
    from dvtool import ImportRequest

    screen = frame.screen
    if materialise:
        given = (include, exclude, limit, unpack, reference, no_checkout, plan_only)
        more = (engine, engine_address, remote, inventory, keys, *options.values())
        _materialise(frame, [source, out], any((*given, *more)), as_json=as_json)
        return
    request = ImportRequest(
        source,
        out,
        *(include, exclude, limit or 0),
        checkout=not no_checkout,
        options=_absolute(options),
        unpack=unpack,
        reference=reference,
        remote=remote,
        inventory=inventory,
        keys=keys,
    )
    with frame.repo() as repo:
        if plan_only:
            _plan(frame, repo, request, as_json=as_json)
            return
        frame.set_up_git(repo)
        with opened_engine(engine, engine_address) as cluster:
            if cluster is not None:
                frame.trust_first_use(repo, falls_back=False)
            done = repo.imports.import_data(request, jobs=jobs, engine=cluster)
        show_imported(screen, repo, done, as_json=as_json)
        _note_next(screen, done, as_json=as_json)


def _note_next(screen: Screen, done: Imported, *, as_json: bool) -> None:
    if as_json:
        return
    screen.note("next: git commit" if done.changed else "nothing is new")
    if done.remote and done.changed:
        screen.note(f"the data is on {printable(done.remote)}; to have it here: dv pull")


def _plan(frame: Frame, repo: Repo, request: ImportRequest, *, as_json: bool) -> None:
    screen = frame.screen
    would, estimate = repo.imports.plan_import(request)
    _warn(screen, would)
    remote = would.remote or would.source
    if as_json:
        screen.json(plan_document(remote, would.read, estimate))
        return
    sentence = f"an import of {files_text(would.files, would.bytes)} from {would.source}"
    show_plan(screen, printable(sentence), remote, estimate)


def _materialise(frame: Frame, named: Sequence[str | None], others: bool, *, as_json: bool) -> None:
    if others:
        raise UsageError(
            "--materialise PATH takes no other options",
            hint="leave the others out: dv import --materialise PATH",
        )
    screen = frame.screen
    paths = [path for path in named if path]
    with frame.repo() as repo:
        frame.set_up_git(repo)
        done = repo.imports.materialise(paths)
        if as_json:
            screen.json(documents.MaterialisedDocument(done))
            return
        for each in done:
            present = f", {each.present:,} were here" if each.present else ""
            screen.done(
                f"{printable(repo.shown(each.target))}  copied {files_text(each.files, each.bytes)}"
                f"{present}"
            )
        if any(each.changed for each in done):
            screen.note("next: git commit, then dv push")
        else:
            screen.note("next: dv push")


def show_imported(screen: Screen, repo: Repo, done: Imported, *, as_json: bool) -> None:
    """Print what an import or an update did to one target."""
    _warn(screen, done)
    if as_json:
        screen.json(done)
        return
    screen.done(f"{printable(repo.shown(done.target))}  {imported_text(done)}")
    if done.removed:
        names = listing(repo.shown_in(done.target, path) for path in done.removed)
        screen.line(f"gone at the source, and here:\n{names}")


def imported_text(done: Imported) -> str:
    """Return what became of a target, in a line."""
    counts = {"added": done.added, "modified": done.modified, "removed": len(done.removed)}
    parts = [f"{count:,} {what}" for what, count in counts.items() if count]
    text = f"{files_text(done.files, done.bytes)}: {', '.join(parts) or 'unchanged'}"
    text += f"; read {count_text(done.read, 'object')}" if done.read else ""
    text += f", stored {size_text(done.stored_bytes)}" if done.stored_bytes else ""
    return text + (f", uploaded {size_text(done.uploaded_bytes)}" if done.uploaded_bytes else "")


def _warn(screen: Screen, done: Imported) -> None:
    for warning in done.warnings:
        screen.warn(f"{printable(done.target)}: {warning}")


def _absolute(options: Mapping[str, str | None]) -> dict[str, str | None]:
    """Return the options with paths as they hold from everywhere."""
    paths = {option.name for option in ORIGIN_OPTIONS if option.kind == "path"}
    return {
        name: os.path.abspath(os.path.expanduser(value)) if value and name in paths else value
        for name, value in options.items()
    }
