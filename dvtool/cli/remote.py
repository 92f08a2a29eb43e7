"""``dv remote``: name the places that data is pushed to and fetched from."""

from __future__ import annotations

import contextlib
import datetime
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import click

from dvtool.cli.frame import Frame, command
from dvtool.cli.output import Screen, count_text, documents, shell_word
from dvtool.cli.plans import plan_document, plan_option, show_plan
from dvtool.cli.remote_options import remote_options
from dvtool.errors import DvError, UsageError, listing, printable, size_text
from dvtool.project.keys import REMOTE_OPTIONS

if TYPE_CHECKING:
    from dvtool.repo import Repo
    from dvtool.verbs.gc.bury import RemoteGcPlan
    from dvtool.verbs.imports.reference import ReferencedSource


TARGETS_SHOWN_MAX = 20
_OWN_OPTIONS = frozenset(option.name for option in REMOTE_OPTIONS if not option.committed)


@click.group("remote", invoke_without_command=True)
@click.pass_context
def remote(context: click.Context) -> None:
    """Name the places that data is pushed to and fetched from.

    A remote is a bucket, s3://BUCKET/PREFIX, or a folder. Buckets are named in .dvconfig, for every
    clone; folders of this machine in .git/config, for this clone. Credentials are found where the
    AWS tools look: the environment, ~/.aws or the machine's role. Without a command, lists them.

    \b
    Examples:
      dv remote add origin s3://BUCKET/PREFIX
      dv remote list

    \b
    Exit codes: those of the commands below; see dv remote COMMAND --help.
    """
    if context.invoked_subcommand is None:
        context.invoke(list_remotes, as_json=False)


_local_option = click.option("--local", is_flag=True, help="For this clone only: in .git/config.")


@command(
    "add",
    examples=(
        "dv remote add origin s3://BUCKET/PREFIX --region eu-central-1",
        "dv remote add lab s3://BUCKET --endpoint-url https://minio.example.org",
        "dv remote add public s3://BUCKET --anonymous true",
        "dv remote add disk /mnt/share/data",
    ),
    exits=(7, 9),
)
@click.argument("name", metavar="NAME")
@click.argument("url", metavar="URL")
@_local_option
@remote_options(REMOTE_OPTIONS)
def add_remote(frame: Frame, name: str, url: str, local: bool, **options: str | None) -> None:
    """Add a remote called NAME. The first that every clone shares becomes the default one.

    Profile, proxy, certificates, KMS key and requester pays stay in this clone, in .git/config.
    """
    with frame.repo() as repo:
        if name in repo.config.remotes():
            raise UsageError(
                f"there is a remote {printable(name)} already",
                hint=f"to change it: dv remote set {shell_word(name)} {shell_word(url)}",
            )
        shared = repo.config.set_remote(name, url, local=local, **_absolute(options))
        _say_where(frame.screen, repo, name, ["url", *_given(options)], shared=shared)


@command(
    "set",
    examples=(
        "dv remote set origin s3://OTHER/PREFIX",
        "dv remote set origin --profile work   # a profile stays in this clone",
        'dv remote set origin --profile ""     # take a setting back',
    ),
    exits=(7, 9),
)
@click.argument("name", metavar="NAME")
@click.argument("url", metavar="[URL]", required=False)
@_local_option
@remote_options(REMOTE_OPTIONS)
def set_remote(
    frame: Frame, name: str, url: str | None, local: bool, **options: str | None
) -> None:
    """Change the URL or other settings of a remote."""
    if url is None and all(value is None for value in options.values()):
        raise UsageError(
            "there is nothing to set",
            hint="name a URL, --endpoint-url, --region or another: dv remote set --help",
        )
    with frame.repo() as repo:
        before = repo.config.remote(name)
        # Without a new URL the remote stays in the file where it is.
        local = local or (url is None and before.source == ".git/config")
        shared = repo.config.set_remote(
            name,
            url or before.url,
            local=local,
            **_absolute(options),
        )
        typed = _given(options) if url is None else ["url", *_given(options)]
        _say_where(frame.screen, repo, name, typed, shared=shared)


def _given(options: Mapping[str, str | None]) -> list[str]:
    return [name for name, value in options.items() if value is not None]


def _absolute(options: Mapping[str, str | None]) -> dict[str, str | None]:
    """Return the options with paths as they hold from everywhere."""
    paths = {option.name for option in REMOTE_OPTIONS if option.kind == "path"}
    return {
        name: os.path.abspath(os.path.expanduser(value)) if value and name in paths else value
        for name, value in options.items()
    }


def _say_where(
    screen: Screen, repo: Repo, name: str, typed: Sequence[str], *, shared: bool
) -> None:
    """Say which of the parts that were `typed`, the URL or options, every clone has now."""
    url = printable(repo.config.remote(name).url)
    screen.done(f"remote {printable(name)}: {url}")
    own = [part for part in typed if part in _OWN_OPTIONS] if shared else list(typed)
    if len(own) < len(typed):
        screen.note("it is in .dvconfig, for every clone; next: git commit")
    if own:
        parts = ", ".join(part.replace("_", "-") for part in own)
        subject = "it is" if not shared else f"{parts}: {'is' if len(own) == 1 else 'are'}"
        screen.note(f"{subject} in .git/config, for this clone only")
    if shared and repo.config.remote(name).exposed():
        screen.warn(
            "the endpoint is not encrypted: each other clone has to trust it before it is "
            f"used (dv remote trust {name})"
        )
    if not repo.config.trusts(name):
        screen.warn(
            f".dvconfig says more of its address, which is not trusted in this clone: "
            f"{repo.config.address_text(name)}; if it is right: dv remote trust {name}"
        )


@command(
    "list",
    examples=("dv remote list", "dv remote list --json"),
    answers_json=True,
)
def list_remotes(frame: Frame, as_json: bool) -> None:
    """List the remotes, and the sources at which data stays that was imported by reference.

    The default remote is marked with a star. Nobody is asked.
    """
    screen = frame.screen
    with frame.repo(required=False) as repo:
        remotes = list(repo.config.remotes().values())
        default = _default_name(repo)
        if as_json:
            rows = [
                documents.RemoteRow.of(remote, default, trusted=repo.config.trusts(remote.name))
                for remote in remotes
            ]
            screen.json(documents.RemotesDocument(rows, repo.imports.referenced()))
            return
        width = max((len(remote.name) for remote in remotes), default=0)
        for remote in remotes:
            mark = "*" if remote.name == default else " "
            source = (
                remote.source
                if repo.config.trusts(remote.name)
                else f"{remote.source}, not trusted"
            )
            origin = screen.style(f"({source})", "dim")
            screen.line(f"{mark} {remote.name:<{width}}  {printable(remote.url)}  {origin}")
        if not remotes:
            screen.note("no remotes yet: dv remote add origin s3://BUCKET/PREFIX (or a folder)")
        for referenced in repo.imports.referenced():
            _show_source(screen, repo, referenced)


def _show_source(screen: Screen, repo: Repo, source: ReferencedSource) -> None:
    """Say what of the data stays at a source, where a loss would be one of the data."""
    shown = [printable(repo.shown(target)) for target in source.targets]
    more = len(shown) - TARGETS_SHOWN_MAX
    targets = ", ".join(shown[:TARGETS_SHOWN_MAX]) + (f" and {more:,} more" if more > 0 else "")
    trust = "" if source.approved else f"; not approved: dv update --trust {shell_word(shown[0])}"
    origin = screen.style(f"(by reference, of {targets}{trust})", "dim")
    screen.line(f"  {printable(source.url)}  {origin}")


def _default_name(repo: Repo) -> str | None:
    """Return the name of the default remote; a broken default does not hide the list."""
    with contextlib.suppress(DvError):
        default = repo.config.values.default_remote()
        return None if default is None else default.name
    return repo.config.values.text("core.remote")


@command(
    "trust",
    examples=(
        "dv remote trust             # every remote of .dvconfig, as it is now",
        "dv remote trust origin",
        "dv remote trust --dry-run   # only show what is trusted, and what would be",
    ),
)
@click.argument("name", metavar="[NAME]", required=False)
@plan_option
def trust_remote(frame: Frame, name: str | None, plan_only: bool) -> None:
    """Trust the address that .dvconfig gives a remote, in this clone.

    .dvconfig comes with git, so anybody whose branch you check out can change it. The first dv
    clone, pull, fetch or push of a clone trusts what it says then; an address that is new or was
    changed later is refused until you trust it. Look where it came from: git log -p .dvconfig
    """
    with frame.repo(required=False) as repo:
        names = [name] if name else list(repo.config.remotes())
        new = [each for each in names if not repo.config.trusts(each)]
        for each in new:
            before = repo.config.trusted_before(each)
            frame.screen.line(f"remote {printable(each)}")
            frame.screen.line(f"  trusted before: {before or 'no address'}")
            frame.screen.line(f"  .dvconfig says: {repo.config.address_text(each)}")
        if new and not plan_only:
            repo.config.trust(new)
        said = "would be trusted" if plan_only else "trusted from now on"
        names_text = ", ".join(map(printable, new))
        frame.screen.done(f"{said}: {names_text}" if new else "every remote is trusted already")


@command("remove", examples=("dv remote remove backup",), exits=(9,))
@click.argument("name", metavar="NAME")
def remove_remote(frame: Frame, name: str) -> None:
    """Forget a remote; nothing on the remote itself is touched."""
    with frame.repo(required=False) as repo:
        repo.config.remove_remote(name)
    frame.screen.done(f"remote {printable(name)} is forgotten; what is there was not touched")


@command("rename", examples=("dv remote rename origin old",), exits=(9,))
@click.argument("name", metavar="OLD")
@click.argument("new", metavar="NEW")
def rename_remote(frame: Frame, name: str, new: str) -> None:
    """Give a remote another name; nothing on the remote itself is touched.

    All its settings go along, in .dvconfig and in .git/config, and so does being the default one.
    """
    with frame.repo(required=False) as repo:
        repo.config.rename_remote(name, new)
        shared = repo.config.remote(new).source == ".dvconfig"
    frame.screen.done(f"remote {printable(name)} is called {printable(new)} now")
    if shared:
        frame.screen.note("its settings are in .dvconfig, for every clone; next: git commit")


@command(
    "copy",
    examples=(
        "dv remote copy origin backup",
        "dv remote copy origin s3://OTHER/PREFIX --plan",
        "dv remote copy --all /mnt/old origin   # what every repository pushed there",
    ),
    exits=(4, 6, 7, 9),
    answers_json=True,
)
@click.argument("source", metavar="FROM")
@click.argument("destination", metavar="TO")
@click.option("--all", "every", is_flag=True, help="Copy what every repository pushed there.")
@plan_option
def copy_remote(
    frame: Frame, source: str, destination: str, every: bool, plan_only: bool, as_json: bool
) -> None:
    """Copy what this repository pushed to the remote FROM to the remote TO, and prove it.

    FROM and TO are names, URLs or folders. Objects go from one to the other, each checked by its
    hash; workspace and local store are not used. Objects that TO has already are passed over, so
    that a copy that was interrupted goes on when it is repeated.
    """
    screen = frame.screen
    with frame.repo() as repo:
        if plan_only:
            would, estimate = repo.remotes.plan_copy(source, destination, every=every)
            if as_json:
                screen.json(plan_document(would.destination, would.manifests, estimate))
                return
            sentence = f"everything is on {printable(would.destination)}"
            if estimate.requests.total:
                sentence = f"a copy to {printable(would.destination)} would bring "
                sentence += count_text(would.manifests, "manifest")
            show_plan(screen, sentence, would.destination, estimate)
            return
        copied = repo.remotes.copy(source, destination, every=every)
        if copied.lost:
            screen.warn(
                f"{printable(copied.source)} has fewer versions than were pushed there, and so has "
                f"the copy, of:\n{listing(map(printable, copied.lost))}"
            )
            screen.note("to send them again from here: dv push; then repeat the copy")
        if as_json:
            screen.json(copied)
            return
        objects = f"{count_text(copied.objects, 'object')}, {size_text(copied.bytes)}"
        were = "was" if copied.there == 1 else "were"
        already = f"; {copied.there:,} {were} there already" if copied.there else ""
        url = printable(copied.destination)
        screen.done(f"copied to {url}: {objects}; proven there{already}")


@command(
    "roots",
    examples=(
        "dv remote roots                    # the repositories on the default remote",
        "dv remote roots lab --json",
        "dv remote roots --retire REPO-ID   # that one is gone for good; -n: what goes",
    ),
    exits=(4, 6, 7, 9),
    answers_json=True,
)
@click.argument("name", metavar="[NAME]", required=False)
@click.option("--retire", metavar="REPO-ID", help="Bury all that this repository has there.")
@plan_option
def roots(
    frame: Frame, name: str | None, retire: str | None, plan_only: bool, as_json: bool
) -> None:
    """List the repositories that keep data on a remote; this one is marked with a star.

    gc never removes what one of them pushed. A repository that is gone for good has to be retired
    by its id. Its data is then removed by the first `dv gc --remote` after the grace period,
    unless somebody pushes for it before; dv gc --remote --undo takes it back.
    """
    screen = frame.screen
    with frame.repo(required=False) as repo:
        if retire is not None:
            _refuse_own(repo, retire)
            plan = repo.remotes.retire(retire, name, plan_only=plan_only)
            _show_retired(screen, retire, plan, plan_only=plan_only, as_json=as_json)
            return
        if plan_only:
            raise UsageError(
                "--dry-run is for --retire: a list changes nothing", hint="leave --dry-run out"
            )
        repositories = repo.remotes.roots(name)
        if as_json:
            url = printable(repo.config.open_remote(name).url)
            screen.json(documents.RootsDocument(url, repositories))
            return
        for repository in repositories:
            mark = "*" if repository.this else " "
            also = ", damaged" if repository.damaged else ""
            also += ", retired" if repository.retired else ""
            screen.line(
                f"{mark} {repository.repo}  {count_text(repository.manifests, 'manifest')} in "
                f"{count_text(repository.roots, 'root')}, {size_text(repository.bytes)}, "
                f"pushed {_time_text(repository.pushed_s) or 'at an unknown time'}{also}"
            )
            for target in repository.targets[:TARGETS_SHOWN_MAX] if frame.verbose else ():
                screen.line(f"    {printable(target)}")
        if not repositories:
            screen.note("no repository has pushed there yet")


def _refuse_own(repo: Repo, repo_id: str) -> None:
    if repo_id == repo.config.repo_id:
        raise UsageError(
            "that is this repository, which is not gone",
            hint="to free what its commits need no more: dv gc --remote --expire",
        )


def _show_retired(
    screen: Screen, repo_id: str, plan: RemoteGcPlan, *, plan_only: bool, as_json: bool
) -> None:
    if as_json:
        screen.json(documents.RetiredDocument(repo_id, len(plan.dead), plan.dead_bytes))
        return
    said = "would retire {}: would bury" if plan_only else "retired {}: buried"
    what = f"{count_text(len(plan.dead), 'object')}, {size_text(plan.dead_bytes)}"
    screen.done(f"{said.format(printable(repo_id))} {what}")
    if plan_only:
        screen.note("nothing was buried")
        return
    screen.note("dv gc --remote removes that after the grace period; dv gc --remote --undo undoes")


def _time_text(time_s: float | None) -> str | None:
    if time_s is None:
        return None
    return datetime.datetime.fromtimestamp(time_s, datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")


for _command in (
    add_remote,
    list_remotes,
    set_remote,
    trust_remote,
    remove_remote,
    rename_remote,
    copy_remote,
    roots,
):
    remote.add_command(_command)
