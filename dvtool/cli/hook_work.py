"""The work of git's hooks, which ``dv hooks run`` does."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from dvtool.cli.output import Screen, count_text, shell_word
from dvtool.cli.session import Frame
from dvtool.errors import DvError, UsageError, listing, printable, size_text

if TYPE_CHECKING:
    from dvtool.hooks.commit_check import CommitCheck
    from dvtool.hooks.events import Synced


def do_hook(frame: Frame, name: str, arguments: Sequence[str]) -> bool:
    """Do the work of a hook with the arguments that git gives it; return whether git may go on."""
    work = _WORK.get(name)
    if work is None:
        raise UsageError(
            f"no hook of dvtool: {printable(name)}", hint=f"one of: {', '.join(_WORK)}"
        )
    return work(frame, arguments or _of_framework(name))


def _of_framework(name: str) -> list[str]:
    """Return the arguments that the pre-commit framework hands on as variables."""
    variable = {
        "post-checkout": "PRE_COMMIT_FROM_REF",
        "post-rewrite": "PRE_COMMIT_REWRITE_COMMAND",
    }.get(name)
    value = os.environ.get(variable) if variable else None
    return [value] if value else []


def _pre_commit(frame: Frame, _: Sequence[str]) -> bool:
    screen = frame.screen
    try:
        with frame.repo(required=False) as repo:
            checked = repo.for_git.check_commit()
            _show_check(screen, checked)
    except DvError as error:
        # Other commands report problems of the repository: git commit goes on, and
        # git push is stopped if data would be missing.
        screen.warn(f"the commit was not checked: {error}")
        return True
    return not checked.refused


def _show_check(screen: Screen, staged: CommitCheck) -> None:
    for message in staged.damaged:
        screen.error(message, hint="mend it: dv resolve, or dv add the target again")
    if staged.conflicted:
        screen.error(
            f"a merge left conflicts in the manifests of:\n{listing(staged.conflicted)}",
            hint="settle them: dv resolve (dv status lists them)",
        )
    if staged.missing:
        screen.error(
            f"the content of {count_text(len(staged.missing), 'file')} to be committed is not in "
            f"the store:\n{listing(sorted(staged.missing))}",
            hint="bring it there: dv add PATH, or dv fetch",
        )
    for path, size in staged.large:
        screen.error(
            f"{printable(path)} has {size_text(size)}: too large for git (the limit is "
            f"{size_text(staged.size_max_bytes)})",
            hint=f"put it under dv: dv add --untrack {shell_word(path)}\n"
            f"or allow it: dv config hooks.maxfilesize {-(-size >> 20)}MiB",
        )
    if staged.inside:
        screen.error(
            f"{count_text(len(staged.inside), 'staged file')} of git would be the data of a "
            f"target, which dv keeps:\n{listing(sorted(staged.inside))}",
            hint="take them out of git's index: git rm -r --cached PATH",
        )
    for sentence in staged.attributes:
        screen.error(sentence, hint="then stage the manifest again: git add")
    if staged.refuse_changed and staged.changed:
        screen.error(
            f"data has changed since dv add:\n{listing(map(printable, staged.changed))}",
            hint="take the changes over: dv add PATH; or: dv config hooks.changeddata warn",
        )
    if staged.refused:
        screen.note("nothing was committed (git commit --no-verify leaves out this check)")
    for target in staged.exposed:
        screen.warn(
            f"no line in .gitignore keeps {printable(target)} out of git "
            f"(dv add {shell_word(target)} writes one)"
        )
    if staged.unlooked:
        names = listing(map(printable, staged.unlooked))
        screen.warn(f"there was no time to see whether these changed since dv add:\n{names}")
    for target in () if staged.refuse_changed else staged.changed:
        screen.warn(
            f"{printable(target)} has changed since dv add; the commit has it as it was then "
            f"(dv add {shell_word(target)} takes the change over)"
        )


def _pre_push(frame: Frame, _: Sequence[str]) -> bool:
    lines = _input_lines()
    ours, theirs = (os.environ.get(f"PRE_COMMIT_{end}_REF") for end in ("TO", "FROM"))
    if not lines and ours:
        # The pre-commit framework reads the lines itself, and hands on the first.
        lines = [f"- {ours} - {theirs or '0'}"]
    refs = parse_refs(lines)
    if not refs.new:
        return True
    with frame.repo(required=False) as repo:
        report = repo.for_git.push_refs(refs.new, refs.old)
        if report is None:
            return True
        for warning in report.warnings:
            frame.screen.warn(warning)
        pushed = report.pushed
        if pushed.changed:
            frame.screen.note(
                f"dv: uploaded {size_text(pushed.bytes)} to {printable(pushed.remote)}; "
                f"{count_text(pushed.files, 'file')} proven there"
            )
    return True


# --- what git writes to a hook ---------------------------------------------------------------


class Refs(NamedTuple):
    """The objects that `git push` is about to send: their ids, and those of the other side."""

    new: tuple[str, ...]
    old: tuple[str, ...]


def parse_refs(lines: Iterable[str]) -> Refs:
    """Read what git gives a pre-push hook: ``local-ref local-id remote-ref remote-id`` a line.

    Deletions, with an id of zeros, send nothing.
    """
    new: list[str] = []
    old: list[str] = []
    for line in lines:
        fields = line.split()
        if not fields:
            continue
        if len(fields) != 4:
            raise DvError(f"git gave the hook a line that means nothing: {printable(line)!r}")
        if fields[1].strip("0"):
            new.append(fields[1])
            if fields[3].strip("0"):
                old.append(fields[3])
    return Refs(tuple(dict.fromkeys(new)), tuple(dict.fromkeys(old)))


def _input_lines() -> list[str]:
    return sys.stdin.read().splitlines() if sys.stdin is not None else []


def _post_checkout(frame: Frame, arguments: Sequence[str]) -> bool:
    old = arguments[0] if arguments else ""
    return _sync(frame, fresh=bool(old) and not old.strip("0"))


def _post_event(frame: Frame, _: Sequence[str]) -> bool:
    return _sync(frame)


def _post_rewrite(frame: Frame, arguments: Sequence[str]) -> bool:
    return list(arguments[:1]) == ["amend"] or _sync(frame)


def _sync(frame: Frame, *, fresh: bool = False) -> bool:
    """Follow git, and report on standard error; what git has done cannot be stopped here: True."""
    screen = frame.screen
    try:
        with frame.repo(required=False) as repo:
            _show_sync(screen, repo.for_git.sync(fresh=fresh))
    except DvError as error:
        screen.warn(f"the data was not brought in step: {error}")
        screen.note(f"then run: dv checkout{f' ({error.hint})' if error.hint else ''}")
    return True


def _show_sync(screen: Screen, synced: Synced) -> None:
    if synced.written or synced.removed:
        parts = [
            f"{count_text(count, 'file')} {what}"
            for count, what in ((synced.written, "written"), (synced.removed, "removed"))
            if count
        ]
        screen.note(f"dv: data in step with the manifests: {', '.join(parts)}")
    if synced.kept:
        screen.warn(
            f"{count_text(len(synced.kept), 'file')} changed here and in the manifests; yours "
            f"{'is' if len(synced.kept) == 1 else 'are'} kept:\n{listing(sorted(synced.kept))}"
        )
        screen.note(
            "yours: dv add --ours PATH; the manifest's (yours is saved): dv checkout --force"
        )
    if synced.missing_files:
        screen.warn(
            f"{count_text(synced.missing_files, 'file')} ({size_text(synced.missing_bytes)}) "
            "of the manifests are not in the local store; to get them: dv pull"
        )
    if synced.unlisted_files:
        screen.warn(
            f"some of {count_text(synced.unlisted_files, 'file')} changed, whose shard is not "
            "here yet; to get it and them: dv pull"
        )
    for target, why in synced.failed:
        screen.warn(f"{printable(target)}: {why}" if target else why)


_WORK = {
    "pre-commit": _pre_commit,
    "pre-push": _pre_push,
    "post-checkout": _post_checkout,
    "post-commit": _post_event,
    "post-merge": _post_event,
    "post-rewrite": _post_rewrite,
    "post-index-change": _post_event,
}
