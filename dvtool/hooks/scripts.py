"""The text of the git hooks: POSIX sh, and pure.

Git runs a hook at the top of the worktree, with whatever PATH its caller has. Each script runs
the hook that was there before, then asks git alone whether the event touches data at all, and
only then starts Python. A commit or checkout that touches none costs a few milliseconds.
"""

from __future__ import annotations

import shlex

from dvtool.hooks.interpreter import Interpreter

VERSION = 2
"""Goes up with every change of the scripts, so that `install` replaces older ones."""
KEPT_SUFFIX = ".dv-kept"
MARK = "# dvtool hook, version "

NAMES = (
    "pre-commit",
    "pre-push",
    "post-checkout",
    "post-commit",
    "post-merge",
    "post-rewrite",
)

_HEAD = """\
#!/bin/sh
{mark}{version}: {name}
# `dv hooks uninstall` takes it out and puts back what was here before, which is kept beside this
# as {name}{suffix} and runs first.
name={name}
python={python}
start={start}
kept="${{0%/*}}/{name}{suffix}"
"""

# A hook that was put over this one may run it, and be kept by it at the same time: not forever.
# With husky 9 the hooks are stubs that find their script by the name that they were started with.
_KEPT = """
here="$PWD $kept"
[ "$DVTOOL_HOOK" != "$here" ] || exit 0

run_kept() {
    [ -x "$kept" ] || return 0
    if [ -f "${0%/*}/h" ]; then
        DVTOOL_HOOK="$here" sh -c '. "$0.dv-kept"' "$0" "$@"
    else
        DVTOOL_HOOK="$here" "$kept" "$@"
    fi
}
"""

# -I: no module comes from the worktree or the environment. 125: dvtool is gone from there; then a
# `dv` of the PATH does it, unless that is the worktree's.
_RUN = """
run_dv() {
    ended=125
    if [ -x "$python" ]; then
        "$python" -I -c "$start" hooks run "$name" "$@"
        ended=$?
    fi
    [ "$ended" -eq 125 ] || return "$ended"
    dv=$(command -v dv)
    case $dv:$(case $dv in /*) PYTHONPATH='' PYTHONHOME='' "$dv" --version 2>/dev/null ;; esac) in
    /*:"dv "[0-9]*)
        PYTHONPATH='' PYTHONHOME='' "$dv" hooks run "$name" "$@"
        return
        ;;
    esac
    echo "dv: this repository keeps data with dvtool, which is not installed here" >&2
    echo "dv: install it (pip install dvtool), then run: dv hooks install" >&2
    return 125
}

unset GIT_LITERAL_PATHSPECS GIT_GLOB_PATHSPECS GIT_NOGLOB_PATHSPECS GIT_ICASE_PATHSPECS
"""

_PRE_COMMIT = """
run_kept "$@" || exit

# Whether a staged file is larger than hooks.maxfilesize.
any_large() {
    limit=${DV_HOOKS_MAXFILESIZE:-$(
        git config --local --get dv.hooks.maxfilesize ||
            git config --file .dvconfig --get hooks.maxfilesize 2>/dev/null || echo 10m
    )}
    printf '%s\\n' "$changes" | awk '{ print $4 }' |
        git cat-file --batch-check='%(objectsize)' |
        awk -v limit="$limit" '
            BEGIN {
                unit = tolower(limit)
                max = limit + 0
                if (unit ~ /k/) max *= 1024
                if (unit ~ /m/) max *= 1048576
                if (unit ~ /g/) max *= 1073741824
                if (unit ~ /t/) max *= 1099511627776
            }
            NF == 1 && max > 0 && $1 > max { found = 1 }
            END { exit !found }'
}

changes=$(git diff --cached --raw --no-abbrev --no-renames --diff-filter=AMT)
case $changes in
'') exit 0 ;;
*.dv.json*) ;;
*) [ -f .dvconfig ] && any_large || exit 0 ;;
esac

run_dv "$@"
status=$?
# Without dv nothing is known to be wrong with the commit; pre-push stops what must not go out.
[ "$status" -ne 125 ] || exit 0
exit "$status"
"""

_PRE_PUSH = """
refs=$(cat)
give_refs() {
    [ -z "$refs" ] || printf '%s\\n' "$refs"
}

if [ -x "$kept" ]; then
    give_refs | run_kept "$@" || exit
fi

# Whether a commit to be pushed has, or had, a manifest.
any_manifest() {
    new= old=
    while read -r _ mine _ theirs; do
        case $mine in *[!0]*) new="$new $mine" ;; esac
        case $theirs in
        *[!0]*) ! git cat-file -e "$theirs^{commit}" 2>/dev/null || old="$old $theirs" ;;
        esac
    done
    [ -n "$new" ] || return 1
    for commit in $new; do
        ! git ls-tree -r --full-tree --name-only "$commit" 2>/dev/null |
            grep -q '\\.dv\\.json"\\{0,1\\}$' || return 0
    done
    # shellcheck disable=SC2086  # object ids
    found=$(git rev-list -n 1 --full-history $new --not $old --remotes -- '*.dv.json') || return 0
    [ -n "$found" ]
}

give_refs | any_manifest || exit 0

give_refs | run_dv "$@"
status=$?
if [ "$status" -ne 0 ]; then
    echo "dv: the push was stopped, since its data would not be there for others" >&2
    echo "dv: to push without the data: git push --no-verify" >&2
    exit 1
fi
"""

_AFTER = """
# Whether a manifest in the worktree may have been written since the data was last in step.
any_newer() {
    folder=$(git rev-parse --git-dir) || return 1
    git ls-files -- '*.dv.json' | {
        while read -r path; do
            [ "$folder/dv/in-step" -nt "$path" ] || exit 0
        done
        exit 1
    }
}

# Whether manifests differ between two commits; git cannot say if one of them is unknown.
differ() {
    git diff --quiet "$@" -- '*.dv.json' 2>/dev/null
    case $? in
    0) return 1 ;;
    1) return 0 ;;
    esac
    [ -n "$(git ls-files -- '*.dv.json')" ]
}
"""

_POST_CHECKOUT = """
run_kept "$@"
status=$?
if [ "$1" = "$2" ]; then
    any_newer || exit "$status"
else
    differ "$1" "$2" || exit "$status"
fi
run_dv "$@"
exit "$status"
"""

# Commits that `git commit` makes of what is in the worktree are in step with it. Those that
# cherry-pick, revert, rebase and merge make, with manifests of others, need not be.
_POST_COMMIT = """
run_kept "$@"
status=$?
case $(git log -g -1 --no-show-signature --format=%gs HEAD 2>/dev/null) in
'' | 'commit: '* | 'commit (initial)'* | 'commit (amend)'*) exit "$status" ;;
esac
differ HEAD^ HEAD || exit "$status"
run_dv "$@"
exit "$status"
"""

_POST_MERGE = """
run_kept "$@"
status=$?
differ ORIG_HEAD || exit "$status"
run_dv "$@"
exit "$status"
"""

_POST_REWRITE = """
rewritten=$(cat)
if [ -z "$rewritten" ]; then
    run_kept "$@" </dev/null
else
    printf '%s\\n' "$rewritten" | run_kept "$@"
fi
status=$?
# An amended commit holds what is in the worktree already.
[ "$1" != amend ] || exit "$status"
[ -n "$(git ls-files -- '*.dv.json')" ] || differ ORIG_HEAD || exit "$status"
printf '%s\\n' "$rewritten" | run_dv "$@"
exit "$status"
"""

_BODIES = {
    "pre-commit": _PRE_COMMIT,
    "pre-push": _PRE_PUSH,
    "post-checkout": _AFTER + _POST_CHECKOUT,
    "post-commit": _AFTER + _POST_COMMIT,
    "post-merge": _AFTER + _POST_MERGE,
    "post-rewrite": _AFTER + _POST_REWRITE,
}


def script(name: str, python: Interpreter) -> bytes:
    """Return the script of a hook, which prefers to run the interpreter `python`."""
    head = _HEAD.format(
        mark=MARK,
        version=VERSION,
        name=name,
        suffix=KEPT_SUFFIX,
        python=shlex.quote(python.path),
        start=shlex.quote(python.code),
    )
    return (head + _KEPT + _RUN + _BODIES[name]).encode("utf-8", "surrogateescape")


def version_of(text: bytes) -> int | None:
    """Return the version of a script of ours, None if it is not one."""
    for line in text.split(b"\n", 3)[:3]:
        if line.startswith(MARK.encode()):
            number = line[len(MARK) :].partition(b":")[0]
            return int(number) if number.isdigit() else None
    return None
